"""What the names in a configuration stand for, and how to add to them.

    @REGISTRY.register_node("mine")
    class MyNodes(LUTNodes): ...

Six kinds: models, layers (wirings), nodes, encoders, initializers, regularizers. A name is given
once; looking up an unknown one names those that there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from eqprop_lab.validation import adding, one_of

T = TypeVar("T", bound=Callable[..., Any])
KINDS = ("model", "layer", "node", "encoder", "initializer", "regularizer")


class Registry:
    """A table of names for each of the KINDS."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}

    def register(self, kind: str, name: str) -> Callable[[T], T]:
        """A decorator that gives a class or function its name.

        Raises ValueError for an unknown kind or a name that is taken, TypeError for what is no name
        or cannot be called.
        """
        table = self._tables[one_of("kind", kind, KINDS)]
        return adding(table, name, f"a {kind}")

    def register_model(self, name: str) -> Callable[[T], T]:
        """A BaseLUTModel: config -> model."""
        return self.register("model", name)

    def register_layer(self, name: str) -> Callable[[T], T]:
        """A LUTLayer: (input_size, nodes, generator, **layer_config) -> layer."""
        return self.register("layer", name)

    def register_node(self, name: str) -> Callable[[T], T]:
        """LUTNodes: (count, inputs, **node_config) -> all nodes of a layer."""
        return self.register("node", name)

    def register_encoder(self, name: str) -> Callable[[T], T]:
        """An Encoder: (**encoder_config but for its name) -> encoder."""
        return self.register("encoder", name)

    def register_initializer(self, name: str) -> Callable[[T], T]:
        """(nodes, generator, **arguments) -> None; `fan_in`, `fan_out` are filled in."""
        return self.register("initializer", name)

    def register_regularizer(self, name: str) -> Callable[[T], T]:
        """(table (O, 2^n) of probabilities, **arguments) -> penalty, a scalar."""
        return self.register("regularizer", name)

    def unregister(self, kind: str, name: str) -> None:
        """Take a name back. Raises ValueError for an unknown one."""
        self.get(kind, name)
        del self._tables[kind][name]

    def get(self, kind: str, name: str, argument: str | None = None) -> Callable[..., Any]:
        """What has that name. Raises ValueError naming the argument and the nearest known name."""
        names = self.names(kind)
        return self._tables[kind][one_of(argument or kind, name, names)]

    def names(self, kind: str) -> list[str]:
        """The names of a kind, sorted. Raises ValueError for an unknown kind."""
        return sorted(self._tables[one_of("kind", kind, KINDS)])


REGISTRY = Registry()

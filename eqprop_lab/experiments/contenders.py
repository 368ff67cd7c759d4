"""What takes part in a comparison: a registered model by its arguments, scaled to a number of
parameters.

    widths <- f widths,   f so that the logits depend on as many parameters as asked for

Feedback weights are no part of that number: the logits do not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from eqprop_lab.algorithms.bioplausible import list_algorithms
from eqprop_lab.datasets import DataSet
from eqprop_lab.models.local_rule import LocalRule
from eqprop_lab.models.registry import model_registry
from eqprop_lab.validation import known_keys, one_of, shown

WIDTHS = ("hidden_dim", "hidden_dims", "hidden_channels", "channels")
HIDDEN = (64, 32)  # of a learning rule that is given by its name alone
ONE_LAYER = ("eq_align",)


@dataclass(frozen=True)
class Contender:
    """model: a registered name; params: its arguments but for sizes of the data and the seed;
    gradient: as in EqPropTrainer, None: what suits the model.
    """

    model: str
    params: Mapping[str, Any] = field(default_factory=dict)
    gradient: str | None = None

    def build(self, seed: int) -> nn.Module:
        """The network of that seed."""
        return model_registry.create(self.model, **self.params, seed=seed)

    def source(self, model: nn.Module) -> str | None:
        """Where its gradients come from; an ordinary network of the package: autograd."""
        plain = self.gradient is None and self.model.startswith("Backprop")
        return "autograd" if plain else self.gradient


def contender(name: str, given: Any, data: DataSet) -> Contender:
    """From a mapping {"model", "params", "gradient"}, or from None for the rule of that name.

    Raises TypeError, ValueError naming what is not known.
    """
    if given is None:
        one_of("models", name, list_algorithms())
        hidden = HIDDEN[:1] if name in ONE_LAYER else HIDDEN
        given = {"model": "BioplausibleModel", "params": {"algorithm": name, "hidden_dims": hidden}}
    if not isinstance(given, Mapping):
        raise TypeError(f"models[{name!r}] must be a mapping or None, got {shown(given)}")
    known_keys(f"models[{name!r}]", given, ("model", "params", "gradient"))
    model = one_of(f"models[{name!r}]['model']", given.get("model"), model_registry.list_models())
    params = dict(given.get("params", {}))
    facts = {"input_dim": data.input_dim, "output_dim": len(data.classes)}
    if len(data.input_shape) == 3:
        facts |= {"input_channels": data.input_shape[0]}
    known = set(model_registry.parameters(model) or ("input_dim", "output_dim"))
    params = {key: value for key, value in facts.items() if key in known} | params
    if "image_size" in known and len(data.input_shape) == 3:
        params.setdefault("image_size", list(data.input_shape[1:]))
    return Contender(model, params, given.get("gradient"))


def size(model: nn.Module) -> int:
    """How many trained numbers the logits depend on."""
    feedback = isinstance(model, LocalRule)
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not (feedback and name.rpartition(".")[2].startswith("feedback_"))
    )


def scaled(entry: Contender, parameters: int) -> Contender:
    """The same with widths for which `size` is nearest to `parameters`.

    Raises ValueError where the model has no width, or the smallest one is too large by half.
    """
    key = next((key for key in WIDTHS if key in entry.params), None)
    if key is None:
        raise ValueError(
            f"a {entry.model} of {parameters} parameters needs one of {', '.join(WIDTHS)} among "
            f"its params, got {', '.join(entry.params) or 'none'}"
        )
    base = entry.params[key]

    def at(step: int) -> Contender:
        # in steps of one unit of the widest layer
        widest = base if isinstance(base, int) else max(base)
        widths: Sequence[int] = [base] if isinstance(base, int) else base
        new = [max(1, round(width * step / widest)) for width in widths]
        value = new[0] if isinstance(base, int) else new
        return Contender(entry.model, {**entry.params, key: value}, entry.gradient)

    low, high = 1, 2
    while size(at(high).build(0)) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if size(at(middle).build(0)) <= parameters:
            low = middle
        else:
            high = middle
    best = min((at(low), at(high)), key=lambda c: abs(size(c.build(0)) - parameters))
    if abs(size(best.build(0)) - parameters) > parameters / 2:
        raise ValueError(
            f"parameters must be within reach of {entry.model}, got {parameters}: the nearest is "
            f"{size(best.build(0))}"
        )
    return best

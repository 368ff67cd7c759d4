"""The equilibrium language models by name, users' own among them.

get_eqprop_lm("hybrid", vocab_size=65, hidden_dim=64)      EqPropLM("hybrid", vocab_size=65)

@register_eqprop_lm("mine")
class MyLM(TokenModel, EquilibriumModel): ...
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.registry import Factory, ModelRegistry
from eqprop_lab.validation import one_of

F = TypeVar("F", bound=Factory)
HAS_LM_VARIANTS = True  # part of every installation
EQPROP_LM_REGISTRY = ModelRegistry()


class EqPropLM(ABC):  # noqa: B024 - nothing is abstract: it stands for its variants
    """``EqPropLM(variant, **arguments)`` is `get_eqprop_lm`; every variant is an instance of it.

    Raises: as `get_eqprop_lm`.
    """

    def __new__(cls, variant: str = "full", **arguments: Any) -> Any:
        """A model of the class that is registered as `variant`."""
        return get_eqprop_lm(one_of("variant", variant, list_eqprop_lm_variants()), **arguments)


def register_eqprop_lm(name: str) -> Callable[[F], F]:
    """Make the decorated class (or function that builds a model) a variant with this name.

    Raises: TypeError for a name that is no text; ValueError for one that another variant has.
    """
    add = EQPROP_LM_REGISTRY.register(name)

    def known(factory: F) -> F:
        add(factory)
        if isinstance(factory, type):
            EqPropLM.register(factory)
        return factory

    return known


def get_eqprop_lm(name: str, **arguments: Any) -> nn.Module:
    """A new model of a variant; the arguments are those of its class, `vocab_size` is needed.

    Raises: ValueError for an unknown name or argument, naming the nearest, or a missing one; what
    the class raises for a bad value.
    """
    return EQPROP_LM_REGISTRY.create(name, **arguments)


def list_eqprop_lm_variants() -> list[str]:
    """The names of the variants, sorted."""
    return EQPROP_LM_REGISTRY.list_models()


_VARIANTS: dict[str, Factory] = {
    "full": FullEqPropLM,
    "attention_only": EqPropAttentionOnlyLM,
    "recurrent_core": RecurrentEqPropLM,
    "hybrid": HybridEqPropLM,
    "looped_mlp": LoopedMLPForLM,
}
for _name, _model in _VARIANTS.items():
    register_eqprop_lm(_name)(_model)

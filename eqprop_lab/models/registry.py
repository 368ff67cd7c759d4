"""Models by name, so that presets, configuration files and users' own models are built in one way.

@model_registry.register("my_model")
class MyModel(EquilibriumModel): ...

model_registry.create("my_model", hidden_dim=64)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from eqprop_lab.models.adaptive_feedback import AdaptiveFeedbackMLP
from eqprop_lab.models.backprop import BackpropCNN, BackpropMLP
from eqprop_lab.models.conv import ConvEqProp, DeepEqProp
from eqprop_lab.models.equilibrium_alignment import EquilibriumAlignment
from eqprop_lab.models.equilibrium_chain import EquilibriumChain
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM, BackpropWindowLM
from eqprop_lab.models.language.transformer_eqprop import TransformerEqProp
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.models.lut_network import LUTNetwork
from eqprop_lab.models.predictive_coding import (
    FeedforwardConv,
    FeedforwardMLP,
    PredictiveConv,
    PredictiveMLP,
)
from eqprop_lab.models.single_state import SingleStateConv
from eqprop_lab.models.vision.densenet import DenseNet3, densenet3
from eqprop_lab.models.vision.resnet import NAMED, ResNetCifar
from eqprop_lab.models.vision.small_cnn import SmallCNN
from eqprop_lab.validation import adding, arguments, known_keys, one_of

Factory = Callable[..., nn.Module]


class ModelRegistry:
    """A table name -> class (or function) that builds a torch.nn.Module."""

    def __init__(self) -> None:
        self._factories: dict[str, Factory] = {}

    def register(self, name: str, factory: Factory | None = None) -> Any:
        """Add a model: ``register("name", Class)``, or ``@register("name")`` above the class.

        Raises: TypeError for a name that is no text or a factory that cannot be called; ValueError
        for a name that another model has already.
        """
        add = adding(self._factories, name, "factory")
        return add if factory is None else add(factory)

    def unregister(self, name: str) -> None:
        """Remove a model. Raises ValueError for an unknown name."""
        del self._factories[one_of("name", name, self._factories)]

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def list_models(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._factories)

    def factory(self, name: str) -> Factory:
        """What builds the model of that name. Raises ValueError for an unknown one."""
        return self._factories[one_of("name", name, self.list_models())]

    def parameters(self, name: str) -> dict[str, inspect.Parameter] | None:
        """The named arguments a model takes; None when it takes any (``**kwargs``)."""
        return arguments(self.factory(name))

    def check(self, name: str, given: dict[str, Any]) -> None:
        """Raise ValueError for an unknown argument (naming the nearest) or a missing one."""
        known = self.parameters(name)
        if known is None:
            return
        known_keys(f"the arguments of {name}", given, known)
        missing = [key for key, p in known.items() if p.default is p.empty and key not in given]
        if missing:
            raise ValueError(
                f"{name} needs {', '.join(missing)}; got {', '.join(given) or 'no arguments'}"
            )

    def create(self, name: str, **arguments: Any) -> nn.Module:
        """Build a model. ValueError for unknown names and arguments names the nearest known one."""
        self.check(name, arguments)
        model = self._factories[name](**arguments)
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"the factory of {name!r} must return a torch.nn.Module, got {type(model).__name__}"
            )
        return model


model_registry = ModelRegistry()
_VISION = (
    BackpropCNN,
    BackpropMLP,
    ConvEqProp,
    DeepEqProp,
    DenseNet3,
    EquilibriumChain,
    FeedforwardConv,
    FeedforwardMLP,
    LoopedMLP,
    LUTNetwork,
    PredictiveConv,
    PredictiveMLP,
    ResNetCifar,
    SingleStateConv,
    SmallCNN,
)
_RULES = (AdaptiveFeedbackMLP, EquilibriumAlignment)
_LANGUAGE: tuple[type[nn.Module], ...] = (
    BackpropTransformerLM,
    BackpropWindowLM,
    EqPropAttentionOnlyLM,
    FullEqPropLM,
    HybridEqPropLM,
    LoopedMLPForLM,
    RecurrentEqPropLM,
    TransformerEqProp,
)
for _model in (*_VISION, *_RULES, *_LANGUAGE):
    model_registry.register(_model.__name__, _model)
for _build in (densenet3, *NAMED):
    model_registry.register(_build.__name__, _build)

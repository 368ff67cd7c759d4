"""gradient="local": a model with a learning rule of its own gives its gradients itself.

Such a model is never trained by autograd, which would be another rule: it is refused, and so is
what a rule knows nothing of (a cost, phases, amp).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from torch import nn

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.models.local_rule import LocalRule
from eqprop_lab.validation import shown

LOCAL = "local"


def check_source(model: nn.Module, gradient: str) -> None:
    """Raise TypeError, ValueError unless the gradients may come from there."""
    name = type(model).__name__
    if gradient == LOCAL and not isinstance(model, LocalRule):
        raise TypeError(
            f"gradient={LOCAL!r} needs a model with a learning rule of its own, got {name}"
        )
    if isinstance(model, LocalRule) and gradient != LOCAL:
        estimated = isinstance(model, EquilibriumModel) and gradient != "autograd"
        if not estimated:
            raise ValueError(
                f"gradient must be {LOCAL!r} for {name}, which has a learning rule of its own, "
                f"got {gradient!r}; BioplausibleModel('backprop', ...) is the same network under "
                "backpropagation"
            )


def check_unused(given: Mapping[str, object], function: Callable[..., object]) -> None:
    """Raise ValueError for an argument that is not at its default: the rule would not see it."""
    known = inspect.signature(function).parameters
    for name, value in given.items():
        if name == "estimator":
            continue  # the gradient itself
        default = known[name].default
        if value is not default and value != default:
            raise ValueError(
                f"{name} must be {default!r} with gradient={LOCAL!r}, got {shown(value)}: the rule "
                "has its own settings, which its model is made with"
            )

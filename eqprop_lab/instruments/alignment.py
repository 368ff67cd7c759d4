"""How far a learning rule points along the true gradient.

    cos(g, g*) = <g, g*> / (||g|| ||g*||)    for every parameter,  g local,  g* exact

1 is the gradient, 0 is at right angles to it; from below 0 a step along g raises the loss.
"""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.models.feedback import feedback
from eqprop_lab.models.local_mlp import LocalMLP
from eqprop_lab.models.local_rule import LocalRule


def alignment(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """{parameter name: cosine of what the model learns by with the exact gradient}.

    Feedback weights, on which the logits do not depend, are left out. An equilibrium model without
    a rule is measured by its own estimator, any other module learns by the gradient: 1.
    Raises: TypeError, ValueError for a batch that the model does not take.
    """
    if isinstance(model, LocalRule):
        exact, found = model.exact_gradients(x, y), model.local_gradients(x, y)
        return {name: cosine(found[name], wanted) for name, wanted in exact.items()}
    if isinstance(model, EquilibriumModel):
        own = estimate_gradients(model, x, y)
        exact = estimate_gradients(model, x, y, "implicit", nudged_steps=model.max_steps)
        return {name: cosine(own[name], wanted) for name, wanted in exact.items()}
    return {name: 1.0 for name, p in model.named_parameters() if p.requires_grad}


def mean_cosine(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The mean of `alignment` over the matrices, without that of the readout, which every rule has
    right; nan where there is no other.
    """
    hidden = hidden_cosines(model, x, y)
    return statistics.fmean(hidden) if hidden else math.nan


def hidden_cosines(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """`alignment` of the matrices without the readout's, from the input up."""
    found = alignment(model, x, y)
    matrices = [name for name in found if model.get_parameter(name).ndim > 1]
    return [found[name] for name in matrices if not _is_readout(model, name)]


def _is_readout(model: nn.Module, name: str) -> bool:
    """Whether a parameter makes the logits: the readout of the contract, or the last layer."""
    rule = getattr(model, "rule", model)
    last = f"layers.{len(rule.layers) - 1}." if isinstance(rule, LocalMLP) else "W_out."
    return last in name


def feedback_angles(model: nn.Module) -> list[float]:
    """The angle between B_l and W_l in degrees, from layer 2 up.

    Raises TypeError for a model without such feedback weights.
    """
    rule = getattr(model, "rule", model)
    if not isinstance(rule, LocalMLP) or not hasattr(rule, "feedback_1"):
        raise TypeError(
            f"{type(rule).__name__} has no feedback weights of the shape of its weights"
        )
    with torch.no_grad():
        pairs = zip(feedback(rule), rule.weights()[1:], strict=True)
        return [math.degrees(math.acos(max(-1.0, min(1.0, cosine(b, w))))) for b, w in pairs]


def cosine(a: Tensor, b: Tensor) -> float:
    """cos of the angle between two tensors of one shape, in float64; nan where one is zero."""
    first, second = (t.detach().cpu().double().flatten() for t in (a, b))
    size = float(first.norm() * second.norm())
    return float(first @ second) / size if size > 0 else math.nan

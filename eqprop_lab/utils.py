"""Small things one asks about a model: parameters, size of its gradient, memory."""

from __future__ import annotations

import math

from torch import nn

from eqprop_lab.instruments.memory import estimate_memory_usage
from eqprop_lab.validation import switch

__all__ = ["compute_gradient_norm", "count_parameters", "estimate_memory_usage"]


def count_parameters(model: nn.Module, trainable_only: bool = True) -> int:
    """Number of scalars in the parameters, shared ones once.

    269,322 for LoopedMLP(784, 256, 10).
    """
    every = not switch("trainable_only", trainable_only)
    return sum(p.numel() for p in model.parameters() if p.requires_grad or every)


def compute_gradient_norm(model: nn.Module) -> float:
    """sqrt(sum of squares) over the `.grad` of all parameters, accumulated in float64.

    Raises ValueError when no parameter has a gradient: that is not a gradient of norm zero.
    """
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    if not grads:
        raise ValueError(
            "model has no gradients: train a batch, or call backward(), "
            "before asking for their norm"
        )
    return math.sqrt(sum(float(g.detach().cpu().double().square().sum()) for g in grads))

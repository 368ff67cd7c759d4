"""`leq_fa`: every layer settles by its lateral weights before it passes its state on.

    h <- rho(a_l),    K times: h <- rho(a_l + M_l h),    s_l = h
    delta_l by feedback alignment,    G_(M_l) = delta_l^T s_l / B

The predecessor's name, our definition; nearest: local representation alignment, Ororbia and Mali
2019, arXiv:1805.11703.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eqprop_lab.algorithms.registry import register_algorithm
from eqprop_lab.equilibrium.costs import Cost
from eqprop_lab.equilibrium.linear_maps import DenseMap
from eqprop_lab.equilibrium.spectral import Bounded
from eqprop_lab.models.feedback import FeedbackAlignmentMLP
from eqprop_lab.models.local_mlp import ACTIVATIONS, Credit, Pass, by_layer, pulled_back
from eqprop_lab.validation import positive_int

LATERAL = 0.9  # ||M_l|| stays strictly below it
START = 0.3


class Lateral(nn.Module):
    """M (n, n) with norm strictly below LATERAL, from 0.3 N(0, 1/n)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(START * torch.randn(units, units) / math.sqrt(units))
        bound = Bounded(self.weight, DenseMap(units, units), LATERAL)
        parametrize.register_parametrization(self, "weight", bound)


@register_algorithm("leq_fa")
class LayerwiseEquilibrium(FeedbackAlignmentMLP):
    """Feed-forward network whose hidden layers settle one after the other, under feedback
    alignment.

    Args: lateral_steps: K >= 1; the rest as in `LocalMLP`. The M_l (`lateral.N.weight`) are always
    bounded, or the layers would not settle.
    """

    def __init__(self, *sizes: Any, lateral_steps: int = 5, **frame: Any) -> None:
        super().__init__(*sizes, **frame)
        self.lateral_steps = positive_int("lateral_steps", lateral_steps)

    def _draw(self, maps: Sequence[DenseMap]) -> None:
        super()._draw(maps)
        self.lateral = nn.ModuleList(Lateral(linear.outputs) for linear in maps[:-1])

    def run(self, x: Tensor, weights: Sequence[Tensor]) -> Pass:
        rho, slope = ACTIVATIONS[self.activation]
        inputs: list[Tensor] = [x]
        pre: list[Tensor] = []
        slopes: list[Tensor] = []
        sides: list[Any] = [side.weight for side in self.lateral]
        for layer, weight in zip(self._layers(), weights, strict=True):
            a = driven = layer.linear.up(inputs[-1], weight, layer.bias)
            if len(pre) < len(sides):
                h = rho(a)
                for _ in range(self.lateral_steps):
                    a = driven + h @ sides[len(pre)].T
                    h = rho(a)
                inputs.append(h)
                slopes.append(slope(a, h))
            pre.append(a)
        return Pass(inputs, pre, slopes)

    def credit(self, x: Tensor, cost: Cost, weights: Sequence[Tensor]) -> Credit:
        seen = self.run(x, weights)
        logits = seen.pre[-1]
        deltas = self.deltas(seen, cost.grad(logits), weights)
        others = {}
        for number, side in enumerate(self.lateral):
            state = seen.inputs[number + 1]
            name, gradient = pulled_back(side, deltas[number].T @ state / len(state))
            others[f"lateral.{number}.{name}"] = gradient
        return Credit(*by_layer(deltas, seen.inputs), logits, others)

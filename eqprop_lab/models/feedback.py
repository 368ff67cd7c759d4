"""Feedback alignment: errors travel back through fixed random weights, not through W^T.

    delta_L = p - y,    delta_l = (delta_(l+1) B_(l+1) + e_l) * rho'(a_l)

B_l ~ N(0, 1/n_l) has the shape of W_l and stands beside the layer it belongs to: "feedback_1" is
that of "layers.1". e_l is zero here; variants add to it, or change B or delta_L.

Source: Lillicrap, Cownden, Tweed, Akerman 2016, doi:10.1038/ncomms13276.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eqprop_lab.equilibrium.costs import Cost
from eqprop_lab.equilibrium.linear_maps import DenseMap
from eqprop_lab.models.local_mlp import Credit, LocalMLP, Pass, by_layer


def draw_feedback(model: LocalMLP, maps: Sequence[DenseMap]) -> None:
    """Register B_2 ... B_L of these layers as buffers "feedback_1" ..., entries N(0, 1/n_l)."""
    for number, linear in enumerate(maps[1:], start=1):
        noise = torch.randn(linear.weight_shape) / math.sqrt(linear.outputs)
        model.register_buffer(f"feedback_{number}", noise)


def feedback(model: LocalMLP) -> list[Tensor]:
    """B_2 ... B_L, each (n_l, n_(l-1))."""
    return [getattr(model, f"feedback_{n}") for n in range(1, len(model.layers))]


class CarriedBack(LocalMLP):
    """The rules that carry delta_L down layer by layer; they say by which weights, and the rest."""

    def back(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """What carries delta_l down to layer l-1, for l = 2 ... L."""
        return feedback(self)

    def error(self, seen: Pass, error: Tensor) -> Tensor:
        """delta_L, from p - y (B, K)."""
        return error

    def extra(self, state: Tensor) -> Tensor | None:
        """e_l at the state s_l, None for nothing."""
        return None

    def deltas(self, seen: Pass, error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """delta_1 ... delta_L."""
        found = [self.error(seen, error)]
        layers = zip(self.back(weights), seen.slopes, seen.inputs[1:], strict=True)
        for carrier, slope, state in reversed(list(layers)):
            carried = found[0] @ carrier
            extra = self.extra(state)
            found.insert(0, (carried if extra is None else carried + extra) * slope)
        return found

    def credit(self, x: Tensor, cost: Cost, weights: Sequence[Tensor]) -> Credit:
        seen = self.run(x, weights)
        logits = seen.pre[-1]
        return Credit(*by_layer(self.deltas(seen, cost.grad(logits), weights), seen.inputs), logits)


class FeedbackAlignmentMLP(CarriedBack):
    """`LocalMLP` that learns by feedback alignment. Arguments, shapes and errors as there."""

    def _draw(self, maps: Sequence[DenseMap]) -> None:
        draw_feedback(self, maps)

"""What the models here have in common: tanh units under an affine force.

s <- tanh(a),    d tanh/da = 1 - s^2,    [abar; alpha] -> [M; D] of tanh(abar +- alpha)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.activations import tanh, tanh_pair
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.state import State


class TanhModel(EquilibriumModel):
    """The contract's part that is the same for every model of tanh units."""

    affine_force = True

    def activate(self, a: Tensor) -> Tensor:
        return tanh(a)

    def activate_pair(self, pair: Tensor) -> Tensor:
        return tanh_pair(pair)

    def activation_slope(self, state: State) -> State:
        return tuple(1 - block.square() for block in state)


def scaled_force(a: Tensor, h: Tensor, u: Tensor, weight: Tensor, gain: float) -> Tensor:
    """a <- gain (h W + u), one product."""
    return torch.addmm(u, h, weight, alpha=gain, beta=gain, out=a)


def class_first(rows: Tensor, linear: nn.Linear) -> Tensor:
    """z = W x + c, rows (B, features) -> logits (B, K), whose samples lie side by side in memory
    where no gradient is recorded.

    A product that writes a few long rows takes half the time of one that writes many short ones.
    """
    plain = torch.is_grad_enabled() or torch.compiler.is_exporting()  # a file is to be read
    if plain or linear.bias is None:
        return nn.functional.linear(rows, linear.weight, linear.bias)
    return torch.addmm(linear.bias[:, None], linear.weight, rows.T).T


def into_drive(cotangent: Tensor, driven: Sequence[bool]) -> Tensor:
    """The cotangent of the drive (B, ...): the sum over the phases that see it."""
    phases = cotangent.chunk(len(driven))
    parts = [part for part, on in zip(phases, driven, strict=True) if on]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

"""What the models here have in common: tanh units under an affine force.

s <- tanh(a),    d tanh/da = 1 - s^2,    [abar; alpha] -> [M; D] of tanh(abar +- alpha)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from eqprop_lab.equilibrium.activations import MINUS_ONE, tanh, tanh_pair
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


def walk_by_sigmoid(
    h: Tensor, u: Tensor, weight: Tensor, count: int, buffers: Sequence[Tensor]
) -> tuple[Tensor, float]:
    """`count` >= 2 steps h <- tanh(h W + u) as s = (h + 1)/2:    s <- sigma(4 s W + 2 (u - 1 W)).

    What turns sigma into tanh lies in the product, so that an activation is one pass. Returned: the
    last state, in one of two buffers and rounded as by `tanh_from_scaled`, and how far the last
    step but one went.
    """
    scaled, drive = 4 * weight, (u - weight.sum(0)).mul_(2)
    s = h.add(1).mul_(0.5)
    for left in range(count, 0, -1):
        before, s = s, torch.addmm(drive, s, scaled, out=buffers[left % 2]).sigmoid_()
        if left == 2:
            moved = vector_norm(s - before)
    return torch.add(MINUS_ONE, s, alpha=2, out=s), 2 * float(moved)


def class_first(rows: Tensor, linear: nn.Linear) -> Tensor:
    """z = W x + c, rows (B, features) -> logits (B, K), whose samples lie side by side in memory
    where no gradient is recorded.

    A product that writes a few long rows takes half the time of one that writes many short ones.
    """
    return class_first_reader(linear)(rows)


def class_first_reader(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """`class_first` of one layer: rows (B, features) -> logits (B, K), for a loop."""
    weight, bias = linear.weight, linear.bias
    plain = torch.is_grad_enabled() or torch.compiler.is_exporting()  # a file is to be read
    if plain or bias is None:
        return lambda rows: nn.functional.linear(rows, weight, bias)
    column = bias[:, None]
    return lambda rows: torch.addmm(column, weight, rows.T).T


def into_drive(cotangent: Tensor, driven: Sequence[bool]) -> Tensor:
    """The cotangent of the drive (B, ...): the sum over the phases that see it."""
    phases = cotangent.chunk(len(driven))
    parts = [part for part, on in zip(phases, driven, strict=True) if on]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

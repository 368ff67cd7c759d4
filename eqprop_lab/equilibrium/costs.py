"""Cost functions as what the estimators need: the derivative dC/dlogits of every sample.

C is summed over samples; the mean over the batch is taken in the parameter gradient only, so beta
never depends on the batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop_lab.validation import one_of

CostGradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Slope:
    """dC/dz = (sum_k t_k) softmax(z) - t, or z - t: logits (..., B, K), broadcast over phases.

    target t (B, K); soft: whether through softmax; total (B, 1): sum_k t_k, None where it is 1.
    """

    target: Tensor
    soft: bool
    total: Tensor | None = None

    def __call__(self, z: Tensor) -> Tensor:
        if not self.soft:
            return z - self.target
        return self._scaled(softmax(z), self.total).sub_(self.target)

    def nudges(self, betas: Tensor) -> CostGradient:
        """Logits of several phases (phases B, K) -> beta dC/dz, one beta a phase.

        For logits whose classes come first in memory, as `class_first` makes them: a few long rows
        take half the time of many short ones.
        """
        many, batch = betas.shape[0], self.target.shape[0]
        target = torch.cat([self.target.T] * many, 1)
        total = None if self.total is None else torch.cat([self.total.T] * many, 1)
        beta = betas[:, None].expand(many, batch).flatten()

        def pull(z: Tensor) -> Tensor:
            rows = z.T
            p = self._scaled(torch.softmax(rows, 0), total) if self.soft else rows
            return torch.sub(p, target).mul_(beta).T

        return pull

    def _scaled(self, p: Tensor, total: Tensor | None) -> Tensor:
        return p if total is None else p.mul_(total)


@dataclass(frozen=True)
class Cost:
    """C(z) of a batch. `grad`: logits (..., B, K) -> dC/dz, broadcast over phases; `value`: logits
    (B, K) -> C (B,).
    """

    name: str
    value: Callable[[Tensor], Tensor]
    grad: CostGradient


def _float_targets(cost: str, logits_width: int, y: Tensor, like: Tensor) -> Tensor:
    """(B, K), finite; for cross-entropy >= 0 too: a class cannot be asked for less than never."""
    if y.ndim != 2 or y.shape[1] != logits_width:
        raise ValueError(
            f"y with float targets must have shape (B, {logits_width}), got {tuple(y.shape)}"
        )
    t = y.to(like.dtype)
    wrong = ~torch.isfinite(t)
    accepted = "finite"
    if cost == "cross_entropy":
        wrong, accepted = wrong | (t < 0), "finite and >= 0 for cross_entropy"
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        value = float(y[row, column])
        raise ValueError(
            f"y with float targets must be {accepted}, got {value:g} at [{row}, {column}] in "
            f"{t.dtype}"
        )
    return t


def _one_hot(logits_width: int, y: Tensor, like: Tensor) -> Tensor:
    """Class indices (B,) -> (B, K)."""
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= logits_width:
        raise ValueError(
            f"y must hold class indices 0..{logits_width - 1}, got values from {low} to {high}"
        )
    hot = torch.zeros(len(y), logits_width, dtype=like.dtype, device=y.device)
    return hot.scatter_(1, y.long()[:, None], 1)


def softmax(z: Tensor) -> Tensor:
    """exp(z_k) / sum_j exp(z_j) over the last axis, continued to complex logits (for holomorphic
    nudges).

    Where torch has no kernel for it, it is written out.
    """
    if not z.is_complex():
        return torch.softmax(z, -1)
    largest = z.real.amax(-1, keepdim=True)
    powers = torch.sub(z, largest).exp_()
    return powers.div_(powers.sum(-1, keepdim=True))


def make_cost(cost: str, y: Tensor, classes: int, like: Tensor) -> Cost:
    """The named cost of one batch.

        "cross_entropy":  C = -sum_k t_k log softmax(z)_k,   dC/dz = (sum_k t_k) softmax(z) - t
        "mse":            C = 1/2 ||z - t||^2,               dC/dz = z - t

    Args: y class indices (B,) or float targets (B, classes), finite; for cross_entropy >= 0 too,
    but rows need not sum to 1 (several classes at once; a row of zeros asks for nothing). like: a
    tensor with the model's dtype.
    Raises: TypeError or ValueError for targets that do not fit, ValueError for an unknown cost.
    """
    one_of("cost", cost, ("cross_entropy", "mse"))
    if not isinstance(y, Tensor):
        raise TypeError(
            f"y must be a torch.Tensor of class indices or float targets, got {type(y).__name__}"
        )
    if y.dtype == torch.bool or y.is_complex() or (not y.is_floating_point() and y.ndim != 1):
        raise ValueError(
            f"y must be class indices (B,) or float targets (B, {classes}), got {y.dtype} "
            f"{tuple(y.shape)}"
        )
    if y.numel() == 0:
        raise ValueError(f"y must hold at least one target, got shape {tuple(y.shape)}")
    soft = y.is_floating_point()
    t = _float_targets(cost, classes, y, like) if soft else _one_hot(classes, y, like)
    if cost == "mse":
        return Cost(cost, lambda z: 0.5 * (z - t).square().sum(1), Slope(t, soft=False))
    slope = Slope(t, soft=True, total=t.sum(1, keepdim=True) if soft else None)
    return Cost(cost, lambda z: -(t * z.log_softmax(1)).sum(1), slope)

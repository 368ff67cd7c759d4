"""Targets and costs, with the classes along the first axis: logits (K, B), targets (K, B).

    cross_entropy   C = -sum_k t_k log softmax(z)_k    dC/dz = (sum_k t_k) softmax(z) - t
    mse             C = 1/2 ||z - t||^2                dC/dz = z - t

Ten classes of a hundred samples are reduced ten times as fast along the first axis as along the
last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eqprop_lab.kernel.arrays import Array, check_array

COSTS = ("cross_entropy", "mse")


@dataclass(frozen=True)
class Targets:
    """t (K, B); total (B,), the sum over classes, None where it is 1; the cost they belong to."""

    cost: str
    values: Array
    total: Array | None = None


def make_targets(cost: str, y: object, batch: int, classes: int, xp: Any, dtype: Any) -> Targets:
    """Class indices (B,) or float targets (B, K) as Targets.

    Raises TypeError, ValueError naming what does not fit.
    """
    labels = check_array("y", y, xp)
    if labels.shape[:1] != (batch,):
        raise ValueError(
            f"y must have one target per sample: x holds {batch}, y has shape {labels.shape}"
        )
    if labels.dtype.kind == "f":
        return _soft(cost, labels, classes, xp, dtype)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise ValueError(
            f"y must be class indices (B,) or float targets (B, {classes}), got {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"y must hold class indices 0..{classes - 1}, got values from {low} to {high}"
        )
    hot = (labels == xp.arange(classes)[:, None]).astype(dtype)
    return Targets(cost, hot)


def _soft(cost: str, y: Array, classes: int, xp: Any, dtype: Any) -> Targets:
    if y.ndim != 2 or y.shape[1] != classes:
        raise ValueError(
            f"y with float targets must have shape (B, {classes}), got {tuple(y.shape)}"
        )
    t = xp.ascontiguousarray(y.T.astype(dtype))
    accepted = "finite and >= 0 for cross_entropy" if cost == "cross_entropy" else "finite"
    if not bool(xp.isfinite(t).all()) or (cost == "cross_entropy" and bool((t < 0).any())):
        raise ValueError(f"y with float targets must be {accepted}")
    return Targets(cost, t, t.sum(0) if cost == "cross_entropy" else None)


def into_slope(targets: Targets, z: Array, row: Array, xp: Any) -> None:
    """z (K, phases B) becomes what dC/dz is before the targets are subtracted, in place.

    row: a buffer (phases B,).
    """
    if targets.cost == "mse":
        return
    xp.maximum.reduce(z, axis=0, out=row)  # `max` and `sum` take twice as long over so little
    xp.subtract(z, row, out=z)
    xp.exp(z, out=z)
    xp.add.reduce(z, axis=0, out=row)
    xp.divide(z, row, out=z)
    if targets.total is not None:
        batch = len(targets.total)
        for phase in (z[:, begin : begin + batch] for begin in range(0, z.shape[1], batch)):
            xp.multiply(phase, targets.total, out=phase)


def values(targets: Targets, z: Array, xp: Any) -> Array:
    """C of every sample (B,) at logits z (K, B)."""
    if targets.cost == "mse":
        return 0.5 * ((z - targets.values) ** 2).sum(0)
    moved = z - z.max(0)
    return -(targets.values * (moved - xp.log(xp.exp(moved).sum(0)))).sum(0)

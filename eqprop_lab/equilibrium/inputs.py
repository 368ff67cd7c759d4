"""What every model asks of its input: the right width, finite, of its dtype, on its device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def as_vectors(x: Tensor, features: int) -> Tensor:
    """Inputs of any image shape (B, ...) as rows (B, features).

    Raises ValueError when the sizes do not fit.
    """
    rows = x.flatten(1) if x.ndim > 1 else x
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ValueError(
            f"x must hold a batch of {features} features each, as (B, {features}) or any image "
            f"shape with that many pixels, got shape {tuple(x.shape)}"
        )
    return rows


def check_shape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x itself if it is a batch of samples of this shape. Raises ValueError when it is not."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(
            f"x must have shape (B, {', '.join(map(str, shape))}), got {tuple(x.shape)}"
        )
    return x


def check_input(x: Tensor, parameter: Tensor) -> None:
    """Raise unless x is a finite floating tensor of the parameters' dtype and device.

    TypeError or ValueError, naming what differs.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    if x.dtype != parameter.dtype:
        raise TypeError(
            f"x has dtype {x.dtype}, the model has {parameter.dtype}: "
            "convert one (x.to(...) or model.to(...))"
        )
    if x.device != parameter.device:
        raise ValueError(f"x is on {x.device}, the model on {parameter.device}: move one of them")
    if x.ndim == 0:
        raise ValueError("x must hold a batch of samples, got a single number (shape ())")
    if x.shape[0] == 0:
        raise ValueError("x must hold at least one sample, got a batch of size 0")
    # The sum is finite only if every value is; it costs a third of the full look, which decides
    # when it is not.
    if not math.isfinite(float(x.detach().sum())) and not bool(torch.isfinite(x).all()):
        raise ValueError("x holds NaN or infinite values; every input must be finite")


def check_pair(x: Tensor, y: object) -> None:
    """Raise TypeError, ValueError unless y holds one target for each sample of x, on its device.

    Whether the targets fit the cost is looked at where the cost is made.
    """
    if not isinstance(y, Tensor):
        raise TypeError(
            f"y must be a torch.Tensor of class indices or float targets, got {type(y).__name__}"
        )
    if y.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"y must have one target per sample: x holds {x.shape[0]}, y has shape {tuple(y.shape)}"
        )
    if y.device != x.device:
        raise ValueError(f"y is on {y.device}, x on {x.device}: move one of them")

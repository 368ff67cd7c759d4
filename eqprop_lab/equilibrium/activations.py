"""The activation of a relaxation, evaluated where the platform is fastest."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from eqprop_lab import quick_tanh

SMALL = 0.2  # |a| up to which four terms of the series are tanh(a) in float32
_TERMS = tuple(torch.tensor(term, device="cpu") for term in (-1 / 3, 2 / 15))
_SEVENTH = -17 / 315
MINUS_ONE = torch.tensor(-1.0, device="cpu")


def tanh(values: Tensor, out: Tensor | None = None) -> Tensor:
    """tanh(a), elementwise, same shape and dtype; written into `out` (also `values`) if given.

    Without gradients in float32 on a CPU, NumPy works on the tensor's own memory: it takes less
    time than torch, with AVX-512 a tenth (largest difference 6e-8).
    """
    if not _quick(values):
        return torch.tanh(values, out=out)
    result = torch.empty_like(values) if out is None else out
    np.tanh(values.numpy(), out=result.numpy())
    return result


def tanh_(values: Tensor) -> Tensor:
    """tanh(a) in place, by the quickest way of the machine (see `quick_tanh`).

    For steps that others follow: tanh is most of what a relaxation costs beside its matrix
    products, and of all rounding that of the last step is nearly all that is left at the end.
    """
    gain = tanh_gain(values)
    return tanh_from_scaled(values if gain == 1 else values.mul_(gain))


def _quick(values: Tensor) -> bool:
    plain = values.dtype == torch.float32 and values.device.type == "cpu"
    # An export meets tensors without memory.
    return plain and not values.requires_grad and not torch.compiler.is_exporting()


def tanh_gain(values: Tensor) -> float:
    """What a product that makes `values` is scaled by for `tanh_from_scaled`."""
    return quick_tanh.GAIN if _quick(values) else 1.0


def tanh_from_scaled(values: Tensor) -> Tensor:
    """tanh(values / tanh_gain(values)), in place."""
    return scaled_tanh(values)(values)


def scaled_tanh(like: Tensor) -> Callable[[Tensor], Tensor]:
    """`tanh_from_scaled` of tensors like this one, chosen once for a loop."""
    if not _quick(like) or quick_tanh.WAY == quick_tanh.NUMPY:
        return lambda values: tanh(values, values)
    return _tanh_by_sigmoid


def _tanh_by_sigmoid(doubled: Tensor) -> Tensor:
    # one pass, where doubling and subtracting would be two
    return torch.add(MINUS_ONE, doubled.sigmoid_(), alpha=2, out=doubled)


def small_tanh_(values: Tensor) -> Tensor:
    """tanh(a) to the last digits also near 0, in place: by its series where all of a is small."""
    if not _quick(values) or quick_tanh.WAY == quick_tanh.NUMPY:
        return tanh(values, values)
    # As they lie in memory, whichever axis comes last there: another order takes ten times as long.
    low, high = values.permute(
        sorted(range(values.ndim), key=values.stride, reverse=True)
    ).aminmax()
    if not -SMALL <= float(low) <= float(high) <= SMALL:
        return values.tanh_()
    square = values * values  # `square` takes twice as long
    series = torch.add(_TERMS[1], square, alpha=_SEVENTH)
    torch.addcmul(_TERMS[0], series, square, out=series)
    return values.addcmul_(values, series.mul_(square))


def tanh_entropy(state: Tensor) -> Tensor:
    """s artanh s + 1/2 log(1 - s^2), elementwise: the energy term whose slope is artanh.

    Written as 1/2 [(1+s) log(1+s) + (1-s) log(1-s)], which has no pole at |s| = 1.
    """
    return 0.5 * (torch.xlogy(1 + state, 1 + state) + torch.xlogy(1 - state, 1 - state))


@lru_cache(maxsize=8)
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones((), dtype=dtype, device=device)


def tanh_pair(pair: Tensor) -> Tensor:
    """[abar; alpha] -> [M; D] = ((p + r)/2, (p - r)/2), p, r = tanh(abar +- alpha), in place.

        D = d (1 - m^2) / (1 - m^2 d^2),    M = m - D m d,    m = tanh(abar),    d = tanh(alpha)

    No two close numbers are subtracted, however small alpha is. The halves lie along the batch;
    same shape and dtype as the argument.
    """
    mean, half = pair.chunk(2)
    tanh_(mean)
    small_tanh_(half)
    product = mean * half
    size = torch.addcmul(_one(pair.dtype, pair.device), product, product, value=-1)
    half.addcmul_(product, mean, value=-1).div_(size)
    mean.addcmul_(half, product, value=-1)
    return pair

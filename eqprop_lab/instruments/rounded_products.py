"""Coarse matrix products on any machine: their factors rounded to a few bits, their sums not.

    round(x) = 2^(e - b) rint(2^(b - e) x),   e = floor(log2 |x|),   b = explicit bits of mantissa

    float32 23,   TF32 and float16 10,   bfloat16 7

TF32 is what NVIDIA cards from Ampere on make of float32 products when they are allowed to: factors
with the exponents of float32 and the mantissa of float16, sums in float32. Whether a card rounds to
the nearest or cuts off is its own affair: a factor of at most two. Exponents are not limited here,
so that 10 bits are TF32 and float16 as far as that does not overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from eqprop_lab.validation import positive_int

FLOAT32, TF32, BFLOAT16 = 23, 10, 7  # explicit bits

_aten = torch.ops.aten
_FACTORS: Mapping[Any, tuple[int, ...]] = {
    _aten.mm.default: (0, 1),
    _aten.mm.out: (0, 1),
    _aten.bmm.default: (0, 1),
    _aten.bmm.out: (0, 1),
    _aten.addmm.default: (1, 2),
    _aten.addmm.out: (1, 2),
    _aten.addmm_.default: (1, 2),
    _aten.baddbmm.default: (1, 2),
    _aten.convolution.default: (0, 1),
    _aten.convolution_backward.default: (0, 1, 2),
}
"""Which arguments of a product are its factors. Those with a vector stay exact, as on a GPU."""


_LAYOUT: Mapping[Any, tuple[torch.dtype, int]] = {
    torch.float32: (torch.int32, 23),
    torch.float64: (torch.int64, 52),
}


def rounded(x: Tensor, bits: int) -> Tensor:
    """x to the nearest number with so many explicit bits of mantissa, ties to even; zero, inf and
    nan as they are. x: float32 or float64, any shape; the answer is a new tensor.
    """
    bits = positive_int("bits", bits)
    kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
    if kind not in _LAYOUT:
        raise TypeError(f"x must be a tensor of float32 or float64, got {kind}")
    whole, explicit = _LAYOUT[x.dtype]
    cut = explicit - bits
    if cut <= 0:
        return x.clone()
    # On the bits themselves: nothing overflows. What the sum carries over lands in the exponent.
    pattern = x.contiguous().view(whole)
    half = (1 << (cut - 1)) - 1 + (pattern >> cut & 1)
    near = ((pattern + half) >> cut << cut).view(x.dtype)
    return torch.where(x.isfinite(), near, x)


class rounded_products(TorchDispatchMode):  # noqa: N801  # read as a verb: with rounded_products(10):
    """Inside the context, every matrix product and convolution of torch rounds its factors to
    `bits` explicit bits of mantissa.

    A simulation, slower than what it simulates. Raises TypeError, ValueError naming the argument.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = positive_int("bits", bits)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        factors = _FACTORS.get(func, ())
        if factors:
            args = tuple(
                rounded(arg, self.bits) if place in factors else arg
                for place, arg in enumerate(args)
            )
        return func(*args, **(kwargs or {}))

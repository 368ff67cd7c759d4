"""The weight of any linear map (dense or convolution) with an operator norm strictly below a cap,
smoothly.

    W_eff = W / sqrt(1 + (m sigma / c)^2),    sigma = ||W|| at the true image size,    c the cap, m >= 1 a margin

The formula is that of `equilibrium.spectral`. The norm of a convolution is the norm of the map, not
of its flattened kernel, and sigma = ||W v|| has a vector v shaped like the input of the map.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from eqprop_lab.equilibrium.linear_maps import LinearMap
from eqprop_lab.equilibrium.sigma_vector import Bounded, fingerprint, unrounded
from eqprop_lab.equilibrium.spectral import MARGIN
from eqprop_lab.equilibrium.top_vectors import Rows
from eqprop_lab.validation import real


class BoundedMap(Bounded):
    """Parametrisation W -> W_eff of a linear map, ||W_eff|| strictly below `cap` > 0 (None: no
    bound).

    The gradient flows through sigma = ||W v||, which is exact to first order where v is the top
    right singular vector; see `Bounded`. The block holds `vectors` of them and is a buffer: a
    checkpoint holds it.

    Args: weight, the initial W; linear, the map it belongs to. Raises: ValueError for a cap that is
    not > 0.
    """

    SIZE = "square"
    square: Tensor

    def __init__(
        self, weight: Tensor, linear: LinearMap, cap: float | None, vectors: int = 4
    ) -> None:
        super().__init__(min(vectors, math.prod(linear.in_shape)))
        self.linear = linear
        self.cap = None if cap is None else real("cap", cap, above=0.0)
        self.register_buffer("basis", weight.new_zeros(self.vectors, *linear.in_shape))
        self.register_buffer("square", weight.new_zeros(()))  # sigma^2
        self.start(weight)

    @property
    def sigma(self) -> float:
        """The followed norm of the raw weight."""
        return float(self.square.sqrt())

    def scaled(self, factor: float, weight: Tensor) -> Self:
        """The same parametrisation for a `weight` that was multiplied by `factor`, in place: the
        same directions.
        """
        self.square.mul_(factor**2)
        if self._tracked is not None:
            self._tracked = self._exact = fingerprint(weight), self._tracked[1]
        return self

    def _operator(self, weight: Tensor) -> Rows:
        shape = self.linear.in_shape
        return lambda rows: self.linear.down(
            self.linear.up(rows.unflatten(1, shape), weight), weight
        ).flatten(1)

    def _rows(self) -> Tensor:
        return self.basis.flatten(1)

    def _laid_out(self, rows: Tensor) -> Tensor:
        return rows.unflatten(1, self.linear.in_shape)

    def forward(self, weight: Tensor) -> Tensor:
        """W -> W_eff, same shape."""
        return weight if self.cap is None else self.at(weight, self.top(weight))

    @unrounded
    def at(self, weight: Tensor, v: Tensor) -> Tensor:
        """W -> W_eff at sigma's vector v (units,)."""
        assert self.cap is not None
        image = self.linear.up(v.unflatten(0, (1, *self.linear.in_shape)), weight)
        return weight * torch.rsqrt(1.0 + image.square().sum() * (MARGIN / self.cap) ** 2)


def raw_norm(effective: float, cap: float | None) -> float:
    """The norm of W that gives W_eff the norm `effective` < cap / margin, the inverse of the
    formula above.
    """
    if cap is None:
        return effective
    return effective / (1 - (MARGIN * effective / cap) ** 2) ** 0.5

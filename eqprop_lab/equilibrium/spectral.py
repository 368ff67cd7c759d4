"""Weights whose operator norm stays strictly below a cap, smoothly.

    W_eff = S / sqrt(1 + (m sigma / c)^2),    S = (A + A^T)/2 or A,    sigma = ||S||

c is the cap, m >= 1 a margin. ``||W_eff|| = ||S|| / sqrt(1 + (m sigma/c)^2) < c`` as long as
``m sigma >= ||S||``: smooth in A, where a hard ``min(1, c/sigma)`` has a kink at which float32 and
float64 gradients differ. d sigma/dS = u v^T holds sigma's vectors, so they are a part of the
gradient: `sigma_vector` says where they come from.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eqprop_lab.equilibrium.linear_maps import DenseMap, LinearMap, symmetric_part as symmetric_part
from eqprop_lab.equilibrium.norms import exact_norm as exact_norm
from eqprop_lab.equilibrium.sigma_vector import SigmaVector, fingerprint, unrounded
from eqprop_lab.validation import real

MARGIN = 1.02  # covers the lag of a followed sigma behind the true one


class Bounded(SigmaVector):
    """Parametrisation A -> W_eff of any linear map, norm strictly below `cap` > 0 (None: no bound).

    sigma is the norm of the map at its true image size, not that of a flattened kernel. The
    gradient flows through sigma = ||S v||, or |v^T S v| where S is symmetric, which is exact to
    first order at sigma's vector v: see `SigmaVector`.

    Args: weight, the initial A; linear, the map it belongs to; symmetric: S is (A + A^T)/2 (a
    square dense map), else A; vectors: how many are followed.
    Raises: ValueError for a cap that is not > 0.
    """

    def __init__(
        self,
        weight: Tensor,
        linear: LinearMap,
        cap: float | None,
        symmetric: bool = False,
        vectors: int = 4,
    ) -> None:
        checked = None if cap is None else real("cap", cap, above=0.0)
        super().__init__(weight, linear, symmetric, vectors)
        self.cap = checked

    @property
    def sigma(self) -> float:
        """The followed norm of S."""
        size: Tensor = getattr(self, self.SIZE)
        return float(size if self.symmetric else size.sqrt())

    def scaled(self, factor: float, weight: Tensor) -> Self:
        """The same for a `weight` multiplied by `factor` in place: the directions stay."""
        getattr(self, self.SIZE).mul_(factor**self.order)
        if self._tracked is not None:
            self._tracked = self._exact = fingerprint(weight), self._tracked[1]
        return self

    def forward(self, original: Tensor) -> Tensor:
        """A -> W_eff, same shape."""
        return self._matrix(original) if self.cap is None else self.at(original, self.top(original))

    @unrounded
    def at(self, original: Tensor, v: Tensor) -> Tensor:
        """A -> W_eff at sigma's vector v (units,), differentiable in A."""
        matrix = self._matrix(original, fingerprint(original) if self.symmetric else None)
        return matrix * self._scale(matrix, v)[1]

    def _scale(self, matrix: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(S v (*out_shape), 1 / sqrt(1 + (m sigma/c)^2)) at sigma's vector v."""
        image = self._image(matrix, v)
        square = torch.dot(v, image) ** 2 if self.symmetric else image.square().sum()
        assert self.cap is not None
        return image, torch.rsqrt(1.0 + square * (MARGIN / self.cap) ** 2)

    def _image(self, matrix: Tensor, v: Tensor) -> Tensor:
        """S v (*out_shape)."""
        return self.linear.up(v.unflatten(0, (1, *self.linear.in_shape)), matrix)[0]


class Reading(NamedTuple):
    """What a weight of this fingerprint is multiplied by: S, sigma's vector v, S v, the factor."""

    mark: Tensor
    v: Tensor
    matrix: Tensor
    image: Tensor
    scale: Tensor


class BoundedNorm(Bounded):
    """The same for a square matrix A (n, n) and a cap below 1, symmetric unless told otherwise.

    Its block is stored as columns (n, vectors), its derivative is a closed form: a matrix is
    trained in steps so short that a graph would be felt.

    Args: weight (n, n), the initial A; cap in (0, 1).
    Raises: ValueError for a matrix that is not square or a cap outside (0, 1).
    """

    SIZE = "size"

    def __init__(
        self, weight: Tensor, cap: float | None, symmetric: bool = True, vectors: int = 8
    ) -> None:
        if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
            raise ValueError(f"weight must be a square matrix, got shape {tuple(weight.shape)}")
        checked = None if cap is None else real("cap (rho)", cap, above=0.0, below=1.0)
        super().__init__(weight, DenseMap(*weight.shape), checked, bool(symmetric), vectors)
        self._held: Reading | None = None

    def _rows(self) -> Tensor:
        return self.basis.mT.contiguous()

    def _laid_out(self, rows: Tensor) -> Tensor:
        return rows.mT.contiguous()

    def _image(self, matrix: Tensor, v: Tensor) -> Tensor:
        return torch.mv(matrix, v)  # a product with one row takes five times as long

    @unrounded
    def forward(self, original: Tensor) -> Tensor:
        """A -> W_eff (n, n)."""
        if self.cap is None or (torch.is_grad_enabled() and original.requires_grad):
            return super().forward(original)
        read = self._read(original)
        return read.matrix * read.scale

    def _read(self, original: Tensor) -> Reading:
        """Of a weight without a graph; a training step asks twice for the same."""
        mark = fingerprint(original)
        v, held = self._top(original, mark), self._held
        if held is None or held.v is not v or not torch.equal(held.mark, mark):
            matrix = self._matrix(original, mark)
            # Assigned whole: another thread sees this one or the one before.
            self._held = held = Reading(mark, v, matrix, *self._scale(matrix, v))
        return held

    def _forget(self) -> None:
        super()._forget()
        self._held = None

    @unrounded
    @torch.no_grad()
    def pull_back(self, original: Tensor, by_weight: Tensor) -> Tensor:
        """dL/dA from dL/dW_eff (n, n), the derivative of `forward`, in closed form."""
        if self.cap is None:
            return self._matrix(by_weight)
        read = self._read(original)
        v, matrix, image, scale = read.v, read.matrix, read.image, read.scale
        # d scale / d square = -scale^3 (m/c)^2 / 2;  d square / dS = 2 (v.Sv) v v^T, or 2 (S v) v^T
        inner = torch.dot(by_weight.flatten(), matrix.flatten())
        along = inner * -(scale**3) * (MARGIN / self.cap) ** 2
        if not self.symmetric:
            return torch.addr(scale * by_weight, along * image, v)
        # v v^T is symmetric already
        found = by_weight.mT.contiguous().add_(by_weight).mul_(0.5 * scale)
        return found.addr_((along * torch.dot(v, image)) * v, v)


def raw_norm(effective: float, cap: float | None) -> float:
    """The norm of S that gives W_eff the norm `effective` < cap / margin: the formula inverted."""
    if cap is None:
        return effective
    return effective / (1 - (MARGIN * effective / cap) ** 2) ** 0.5


Bounds = list[tuple[str, Bounded, parametrize.ParametrizationList]]


def bounded_weights(model: nn.Module) -> Bounds:
    """(name, parametrisation, holder of the original) of every bounded weight of a model."""
    found = []
    for name, module in model.named_modules():
        if (
            isinstance(module, parametrize.ParametrizationList)
            and len(module)
            and isinstance(module[0], Bounded)
        ):
            found.append((name.replace("parametrizations.", ""), module[0], module))
    return found


def sigma_error(model: nn.Module) -> float:
    """The largest `Bounded.error` of a model's weights that have a cap; nan where none has."""
    errors = [
        bound.error(held.original)
        for _, bound, held in bounded_weights(model)
        if bound.cap is not None
    ]
    return max(errors, default=math.nan)


def follow_updates(bounds: Bounds) -> None:
    """After an update of the weights: move every block."""
    for _, bound, held in bounds:
        bound.follow(held.original)

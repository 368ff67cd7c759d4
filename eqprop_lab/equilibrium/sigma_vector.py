"""sigma's vector: which one a bounded weight uses, and when it is found anew.

    read in a training step (`tracked`)   a block that `follow` moves once an update, a few products
    read anywhere else                    converged: angle to the true one <= 1e-9 (float64), 1e-7

A block not known to belong to its weight (loaded, copied, cast, written by anybody but the
optimiser, moved far) is estimated anew, and so is a block of short vectors. Reading changes neither
the block nor what a training computes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from typing import Any, ParamSpec, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from eqprop_lab.equilibrium.linear_maps import LinearMap, symmetric_part
from eqprop_lab.equilibrium.top_vectors import (
    TOLERANCE,
    Rows,
    TopVectors,
    converge,
    follow,
    seed_of,
)
from eqprop_lab.validation import positive_int

LARGE = 0.2  # relative change of a weight from which on nothing is followed
# vectors up to this length are found anew: all eigenvectors cost what following a few does
SMALL = 64
LAG = 1.01  # a block whose sigma is this much too small belongs to no weight
FRESH = 2  # vectors drawn at random beside the block
P = ParamSpec("P")
R = TypeVar("R")


class _Mode(threading.local):
    tracked = False


_MODE = _Mode()


def in_tracked() -> bool:
    """Whether this thread reads bounded weights as a training step does."""
    return _MODE.tracked


@contextmanager
def tracked(on: bool = True) -> Iterator[None]:
    """Bounded weights at the vectors that follow the updates, for the body of a training step."""
    before, _MODE.tracked = _MODE.tracked, on
    try:
        yield
    finally:
        _MODE.tracked = before


@lru_cache(maxsize=64)
def _probe(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator(device="cpu").manual_seed(1)
    return torch.randn(length, generator=generator, device="cpu").to(device, dtype)


def unrounded(function: Callable[P, R]) -> Callable[P, R]:
    """A function untouched by torch.autocast: a norm has its weight's precision.

    Its last argument is a tensor.
    """

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        device = cast("Tensor", args[-1]).device.type
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return inside


def widened(weight: Tensor) -> Tensor:
    """The numbers of a weight, in float32 where its own type is coarser."""
    weight = weight.detach()
    return weight.float() if weight.dtype in (torch.bfloat16, torch.float16) else weight


@unrounded
def fingerprint(weight: Tensor) -> Tensor:
    """W r, r a fixed random vector: weights that differ differ in it. ||W r|| is about ||W||_F."""
    rows = widened(weight).flatten(1)
    return torch.mv(rows, _probe(rows.shape[1], rows.dtype, rows.device))


def _apart(mark: Tensor, before: Tensor) -> float:
    """||W' - W|| / ||W'||, about, of the fingerprints: inf where there is none of a matrix of 0."""
    moved, size = torch.stack([vector_norm(mark - before), vector_norm(mark)]).tolist()
    return moved / size if size > 0 else math.inf if moved else 0.0


def _drawn(count: int, like: Tensor, by: Tensor) -> Tensor:
    """Random rows shaped like those of `like`, drawn by a weight."""
    generator = torch.Generator(device="cpu").manual_seed(seed_of(by))
    rows = torch.randn(count, like.shape[1], generator=generator, device="cpu")
    return rows.to(like)


class SigmaVector(nn.Module):
    """What every bounded weight knows of sigma: a block of top vectors that belongs to it.

        M = S, or S^T S where S is not symmetric:    M v = lambda v,    |lambda| = sigma, or sigma^2

    A symmetric S has its own operator: its extreme eigenvalues come in pairs near +sigma and
    -sigma, which S^T S cannot tell apart. The block is the buffer `basis`, one vector of the shape
    of an input after the other, and its largest |lambda| the buffer named `SIZE`: a checkpoint
    holds both.
    """

    SIZE = "square"
    basis: Tensor
    cap: float | None

    def __init__(self, weight: Tensor, linear: LinearMap, symmetric: bool, vectors: int) -> None:
        super().__init__()
        self.linear = linear
        self.symmetric = symmetric
        self.order = 1 if symmetric else 2  # the power of the weight in M
        units = math.prod(linear.in_shape)
        self.vectors = min(positive_int("vectors", vectors), units)
        self.register_buffer("basis", self._laid_out(weight.new_zeros(self.vectors, units)))
        self.register_buffer(self.SIZE, weight.new_zeros(()))
        # (fingerprint of the weight it belongs to, sigma's vector): the block's, and the converged
        # one
        self._tracked: tuple[Tensor, Tensor] | None = None
        # (fingerprint of a symmetric weight, S): a training step asks for it three times
        self._part: tuple[Tensor, Tensor] | None = None
        self._adopt(weight, fingerprint(weight))
        self._exact: tuple[Tensor, Tensor] | None = self._tracked

    def _matrix(self, original: Tensor, mark: Tensor | None = None) -> Tensor:
        """S = (A + A^T)/2, or A itself. mark: the fingerprint of A, to find the last S by."""
        if not self.symmetric:
            return original
        if mark is None or (torch.is_grad_enabled() and original.requires_grad):
            return symmetric_part(original)
        held = self._part
        known = held is not None and held[1].dtype == original.dtype
        if held is None or not (known and torch.equal(held[0], mark)):
            # Assigned whole: another thread sees this pair or the one before.
            self._part = held = mark, symmetric_part(original)
        return held[1]

    def _operator(self, original: Tensor, mark: Tensor | None = None) -> Rows:
        """M as a map of rows (k, units)."""
        matrix = self._matrix(original, mark)

        def apply(rows: Tensor) -> Tensor:
            # A few long rows times a matrix are much quicker than the matrix times a few columns.
            x = rows.unflatten(1, self.linear.in_shape)
            y = x if self.symmetric else self.linear.up(x, matrix)
            return self.linear.down(y, matrix).flatten(1)

        return apply

    def _rows(self) -> Tensor:
        """The block as rows (k, units)."""
        return self.basis.flatten(1)

    def _laid_out(self, rows: Tensor) -> Tensor:
        """The inverse of `_rows`."""
        return rows.unflatten(1, self.linear.in_shape)

    def _forget(self) -> None:
        self._tracked = self._exact = self._part = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self._forget()
        held = state_dict.get(prefix + "basis")
        if isinstance(held, Tensor) and 0 < held.numel() < self.basis.numel():
            # A block with fewer vectors, of an earlier version: taken as it is; the next update
            # makes it whole.
            rows = self._rows()
            with suppress(RuntimeError):  # another shape altogether: the load says so
                self.basis = self._laid_out(rows[: held.numel() // rows.shape[1]])
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._forget()
        return super()._apply(fn, recurse)

    @unrounded
    def top(self, weight: Tensor) -> Tensor:
        """sigma's vector (units,): tracked in a training step, converged elsewhere."""
        return self._top(weight, fingerprint(weight))

    def _top(self, weight: Tensor, mark: Tensor) -> Tensor:
        held = self._tracked if _MODE.tracked else self._exact
        if held is None or not torch.equal(held[0], mark):
            if _MODE.tracked:
                return self._adopt(weight, mark)
            # Assigned whole: another thread sees this pair or the one before.
            self._exact = held = mark, self.converged(weight).rows[0].to(weight)
        return held[1]

    @torch.no_grad()
    def converged(self, weight: Tensor) -> TopVectors:
        """The block of this weight in float64, to the stated tolerance; NaN if it is not finite."""
        exact = weight.detach().to(
            "cpu" if weight.device.type == "mps" else weight.device, torch.float64
        )
        scale = float(exact.abs().max())
        rows = self._rows().to(exact)
        if not math.isfinite(scale):
            return TopVectors(rows[:, 0] * math.nan, rows * math.nan, math.nan)
        known = rows if bool(torch.isfinite(rows).all()) else torch.zeros_like(rows[:0])
        begin = torch.cat([known, _drawn(self.vectors - len(known) + FRESH, rows, exact)])
        tol = TOLERANCE if weight.dtype == torch.float64 else 1e2 * TOLERANCE
        found = converge(self._operator(exact / scale if scale > 0 else exact), begin, tol)
        return TopVectors(
            found.values[: self.vectors] * scale**self.order,
            found.rows[: self.vectors],
            found.angle,
        )

    @torch.no_grad()
    @unrounded
    def _adopt(self, weight: Tensor, mark: Tensor) -> Tensor:
        """The block of an unknown weight, found anew unless the one at hand belongs to it."""
        found = self.converged(weight)
        if self._tracked is not None or not self._belongs(weight, float(found.values[0].abs())):
            self._keep(found.rows.to(weight), found.values[0].abs().to(weight))
        vector = self._rows()[0]
        self._tracked = mark, vector
        return vector

    def _keep(self, rows: Tensor, size: Tensor) -> None:
        self.basis = self._laid_out(rows)
        setattr(self, self.SIZE, size)

    def _belongs(self, weight: Tensor, largest: float) -> bool:
        """Whether the stored block is what `follow` made of this very weight, up to rounding."""
        rows = self._rows()
        if len(rows) < self.vectors or not bool(torch.isfinite(rows).all()) or largest == 0:
            return False
        projected = (self._operator(weight.detach())(rows) @ rows.T).cpu().double()
        rounding = 1e3 * torch.finfo(weight.dtype).eps * largest
        expected = torch.diag(projected.diagonal())
        expected[0, 0] = float(getattr(self, self.SIZE)) * projected[0, 0].sign()
        lag = LAG**self.order
        ones = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        orthonormal = float((rows @ rows.T - ones).abs().max()) <= 1e-3
        same = float((projected - expected).abs().max()) <= rounding
        return orthonormal and same and largest <= lag * float(projected[0, 0].abs())

    @torch.no_grad()
    @unrounded
    def error(self, weight: Tensor) -> float:
        """||u v^T - u* v*^T||_F against the converged vectors: the relative error of d sigma/dW.

        u turns by no more than v, so this is what the angle of v allows: exact where the weight is
        symmetric.
        """
        with tracked(False):
            pair = (v.cpu().double() for v in (self._rows()[0], self.top(weight)))
            a, b = (v / v.norm() for v in pair)
        # 1 - |<v, v*>|, without its rounding
        lost = float((a - b * torch.dot(a, b).sign()).square().sum()) / 2
        return math.sqrt(2 * lost * (2 - lost))

    @torch.no_grad()
    @unrounded
    def follow(self, weight: Tensor) -> None:
        """Move the block after an update of the weight: once a training step."""
        if self.cap is None:
            return
        mark = fingerprint(weight)
        held = self._tracked
        moved = math.inf if held is None else _apart(mark, held[0])
        if moved == 0:
            return
        rows = self._rows()
        if rows.shape[1] <= SMALL or not moved <= LARGE:
            self._adopt(weight, mark)
            return
        wide = widened(weight)
        rows = rows.to(wide.dtype)
        found = follow(self._operator(wide, mark), rows, _drawn(1, rows, mark))
        block = found.rows.to(weight.dtype)
        self._keep(block, found.values[0].abs().to(weight.dtype))
        self._tracked = mark, block[0]

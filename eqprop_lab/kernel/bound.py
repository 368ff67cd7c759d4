"""The bounded weight of a kernel: W = S / sqrt(1 + (m sigma/c)^2), S = (A + A^T)/2, sigma = ||S||.

    dL/dA = k G' + (dk/dsigma^2) <G', S> 2 (v.Sv) v v^T,    G' = (G + G^T)/2,  k the factor of S

c is the cap, m = 1.02 covers the lag of a followed sigma, v is sigma's vector. It is followed by a
block of vectors that moves with each update (Rayleigh-Ritz in [V, R, S R], R = S V - V V^T S V), or
found from the whole matrix: at first, after a large change, for up to 64 units, or always if asked.
Only small Gram matrices are solved on the host; on a GPU the block stays there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eqprop_lab.kernel.arrays import Array
from eqprop_lab.kernel.operations import Operations

MARGIN = 1.02
SMALL = 64  # matrices up to this size: all eigenvectors cost what following a few does
LARGE = 0.2  # relative change from which on nothing is followed
VECTORS, ROUNDS, GROWN = 8, 4, 1.01
TINY = 1e-37  # a column of zeros stays one
LEANING = 1e-8  # directions of a Gram matrix smaller than this, relatively, are rounding
FOLLOWED, CONVERGED = WAYS = ("followed", "converged")
Scale = tuple[Any, Any]


def symmetric_part(matrix: Array, out: Array, ops: Operations, spare: Array) -> None:
    """out <- (A + A^T)/2; spare: as `Operations.with_transpose` takes it."""
    ops.with_transpose(matrix, out, spare)
    ops.xp.multiply(out, 0.5, out=out)


class Bound:
    """sigma's vector and the factor of one symmetric matrix S (n, n).

    cap: of the norm, None for no bound; way: "followed" or "converged".
    Raises FloatingPointError for a matrix that is not finite.
    """

    def __init__(self, ops: Operations, cap: float | None, way: str = FOLLOWED) -> None:
        self.ops, self.xp, self.cap, self.way = ops, ops.xp, cap, way
        self.rows: Array | None = None  # (VECTORS, n), the first is sigma's
        self._mark: np.ndarray | None = None
        self._probe: Array | None = None
        self._draws = np.random.default_rng(0)

    def vector(self, matrix: Array) -> Array:
        """sigma's vector of S (n,), for a matrix that is new or has moved since the last call."""
        if self._probe is None or len(self._probe) != len(matrix):
            self._probe, self.rows = self.xp.asarray(self._drawn(matrix)), None
        mark = self.ops.on_host(matrix @ self._probe)
        moved = (
            np.inf
            if self.rows is None or self._mark is None
            else float(np.linalg.norm(mark - self._mark) / np.linalg.norm(mark))
        )
        if not moved == 0:
            alone = self.way == CONVERGED or len(matrix) <= SMALL or not moved <= LARGE
            self.rows = self._converged(matrix) if alone else self._followed(matrix)
            self._mark = mark
        assert self.rows is not None
        return self.rows[0]

    def _drawn(self, matrix: Array) -> np.ndarray:
        row: np.ndarray = self._draws.standard_normal(len(matrix)).astype(matrix.dtype)
        return row

    def _converged(self, matrix: Array) -> Array:
        """The top vectors from all of them, in float64."""
        xp = self.xp
        if not bool(xp.isfinite(matrix).all()):
            raise FloatingPointError("W_rec holds NaN or infinite values")
        values, vectors = xp.linalg.eigh(matrix.astype(np.float64))
        order = xp.argsort(-xp.abs(values))[:VECTORS]
        return xp.ascontiguousarray(vectors[:, order].T.astype(matrix.dtype))

    def _followed(self, matrix: Array) -> Array:
        """The block moved to a matrix that has changed a little, the last row drawn at random."""
        assert self.rows is not None
        drawn = self.xp.asarray(self._drawn(matrix)[None])
        begin = self.xp.concatenate([self.rows[:-1], drawn])
        for _ in range(ROUNDS):
            begin, before, value = _round(self.ops, begin, matrix)
            if value <= GROWN * before:
                break
        return begin

    def scale(self, matrix: Array, v: Array | None) -> Scale:
        """(v.Sv, k) of W = k S at sigma's vector: numbers, or what will be some on the device."""
        if self.cap is None or v is None:
            return 0.0, 1.0
        sigma = self.ops.quotient(matrix, v)
        along = sigma * MARGIN / self.cap
        return sigma, (1.0 + along * along) ** -0.5

    def pull_back(
        self, product: Array, matrix: Array, v: Array | None, scale: Scale, out: Array
    ) -> None:
        """out <- dL/dA from product = dL/dW, which is overwritten; scale: that of the matrix."""
        xp = self.xp
        xp.add(product, product.T, out=out)
        xp.multiply(out, 0.5, out=out)
        if self.cap is None or v is None:
            return
        sigma, factor = scale
        inner = self.ops.inner(out, matrix)
        along = -(factor**3) * (MARGIN / self.cap) ** 2 * inner * sigma
        xp.multiply(out, factor, out=out)
        xp.multiply(v[:, None], along * v, out=product)
        xp.add(out, product, out=out)


def _round(ops: Operations, begin: Array, matrix: Array) -> tuple[Array, float, float]:
    """A better block (rows), and the size of its first value before and after.

    B = [V, R, S R], G = B^T B and H = B^T S B in float64: H y = lambda G y is solved on the host.
    """
    xp = ops.xp
    rows, last = begin[:-1], begin[-1:]  # the block is orthonormal, what is drawn is not
    old = xp.concatenate([rows, _unit((last - (last @ rows.T) @ rows).T, xp).T]).T
    # A matrix times a few columns takes half the time of a few rows times it.
    image = matrix @ old
    rest = _unit(image - old @ (old.T @ image), xp)
    of_rest = matrix @ rest
    last = _unit(of_rest, xp)
    space = xp.concatenate([old, rest, last], axis=1)
    images = xp.concatenate([image, of_rest, matrix @ last], axis=1)
    wide = xp.concatenate([space, images], axis=1).astype(np.float64)
    many = space.shape[1]
    both = ops.on_host(wide[:, :many].T @ wide)
    gram, projected = both[:, :many], both[:, many:]
    turn, value = _ritz(gram, projected, len(begin), float(np.finfo(matrix.dtype).eps))
    found = xp.asarray(turn.astype(matrix.dtype)) @ space.T
    return found, abs(float(projected[0, 0])), value


def _ritz(
    gram: np.ndarray, projected: np.ndarray, keep: int, eps: float
) -> tuple[np.ndarray, float]:
    """The top solutions y of H y = lambda G y as rows (keep, n), and the largest |lambda|."""
    white = _white(gram, eps)
    reduced = white @ projected @ white.T
    values, rotation = np.linalg.eigh((reduced + reduced.T) / 2)
    order = np.argsort(-np.abs(values))[:keep]
    return rotation[:, order].T @ white, float(abs(values[order[0]]))


def _white(gram: np.ndarray, eps: float) -> np.ndarray:
    """w with w G w^T = 1; directions that depend on others up to rounding are left out."""
    floor = max(1e3 * eps, LEANING)
    try:
        lower = np.linalg.cholesky(gram)
        if lower.diagonal().min() ** 2 > floor:
            return np.linalg.inv(lower)
    except np.linalg.LinAlgError:
        pass
    sizes, turn = np.linalg.eigh(gram)
    whole = sizes > floor * sizes[-1]
    return (turn[:, whole] / np.sqrt(sizes[whole])).T


def _unit(columns: Array, xp: Any) -> Array:
    sizes = xp.sqrt((columns * columns).sum(0))
    return columns / xp.maximum(sizes, TINY)

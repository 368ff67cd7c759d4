"""The top eigenvectors of a symmetric map, converged: block Lanczos, Rayleigh-Ritz, restarts.

    K = span{V, A V, A^2 V, ...},   T = K^T A K = R diag(theta) R^T,   v = K R e_1
    angle of v to the true vector <= ||A v - theta v|| / gap,   gap = min_j |theta - theta_j|

"Top" is by |eigenvalue|, so A may be a symmetric matrix or W^T W. A near-degenerate pair needs a
block that holds both and a residual far below their gap: the criterion is the quotient, not the
residual.
Source: Golub and Underwood 1977, doi:10.1016/B978-0-12-587260-7.50018-2; Stewart and Sun 1990,
theorem V.3.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Rows = Callable[[Tensor], Tensor]  # vectors as rows (k, n) -> A times each of them
TOLERANCE = 1e-9  # of the angle of the top vector to the true one
# times the rounding of a product: no residual is smaller, so nearly degenerate top values end here
FLOOR = 4
DEPTH, CYCLES = 12, 100
ROUNDS, GROWN = 4, 1.01
DENSE = 512  # vectors up to this length: the whole matrix and LAPACK, which is quicker then
_DEPENDENT, _TINY = 1e-12, 1e-300
LEANING = 1e-8  # directions of a Gram matrix smaller than this, relatively, are rounding


@dataclass(frozen=True)
class TopVectors:
    """values (k,), |values| falling; rows (k, n), orthonormal; angle: error bound of the first.

    exhausted: whether the residual is down at rounding, so that no arithmetic of this precision
        knows more.
    """

    values: Tensor
    rows: Tensor
    angle: float
    exhausted: bool = False


def seed_of(weight: Tensor) -> int:
    """A seed made of the numbers of a weight: none can be made orthogonal to what it draws."""
    return (
        int(weight.detach().cpu().double().flatten().view(torch.int64).sum())
        & 0x7FFF_FFFF_FFFF_FFFF
    )


def orthonormal(rows: Tensor, against: Tensor | None = None) -> Tensor:
    """Rows that span the same, orthonormal and orthogonal to `against`; dependent ones drop out."""
    for _ in range(2):  # what was nearly dependent still leans on the others after the first round
        if against is not None:
            rows = rows - (rows @ against.T) @ against
        size = rows.norm(dim=1)
        rows = (rows / size[:, None])[size > _DEPENDENT] if len(rows) else rows
        q, r = torch.linalg.qr(rows.T)
        rows = q.T[r.diagonal().abs() > _DEPENDENT]
    return rows


def ritz(apply: Rows, start: Tensor, depth: int, keep: int) -> TopVectors:
    """The `keep` top Ritz vectors of the Krylov space of orthonormal rows `start`."""
    basis, images = start, apply(start)
    block = images
    for _ in range(depth - 1):
        block = orthonormal(block / block.norm(dim=1, keepdim=True).clamp_min(_TINY), basis)
        if len(block) == 0:
            break
        basis, block = torch.cat([basis, block]), apply(block)
        images = torch.cat([images, block])
    projected = images @ basis.T
    values, rotation = torch.linalg.eigh((projected + projected.T) / 2)
    order = values.abs().argsort(descending=True)[:keep]
    turn = rotation[:, order].T
    rows = turn @ basis
    residual = float((turn[:1] @ images - values[order[0]] * rows[:1]).norm())
    rounding = FLOOR * torch.finfo(rows.dtype).eps * rows.shape[1] * float(values[order[0]].abs())
    return TopVectors(
        values[order], rows, _angle(residual, values, int(order[0])), residual <= rounding
    )


def _angle(residual: float, values: Tensor, top: int) -> float:
    apart = (values - values[top]).abs()
    apart[top] = values[top].abs()  # a single value is as far from the others as from zero
    gap = float(apart.min())
    return residual / gap if gap > 0 else math.inf if residual > 0 else 0.0


def converge(apply: Rows, start: Tensor, tol: float = TOLERANCE) -> TopVectors:
    """The top vectors from any start (k, n), as many as it has rows.

    Raises RuntimeError without convergence.

    Short vectors: all eigenvectors of the matrix. Long ones: two restarts at least, and as many as
    the tolerance takes; a start with enough vectors drawn at random finds the top value whatever
    the others are.
    """
    count, size = start.shape
    if size <= DENSE:
        matrix = apply(torch.eye(size, dtype=start.dtype, device=start.device))
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        order = values.abs().argsort(descending=True)[:count]
        rounding = torch.finfo(start.dtype).eps * size * float(values[order[0]].abs())
        angle = _angle(rounding, values, int(order[0]))
        return TopVectors(values[order], vectors[:, order].T.contiguous(), angle, True)
    found = ritz(apply, orthonormal(start), DEPTH, count)
    for _ in range(CYCLES):
        found = ritz(apply, found.rows, DEPTH, count)
        if found.angle <= tol or found.exhausted:
            return found
    raise RuntimeError(
        f"the top vector did not converge in {CYCLES} cycles: angle {found.angle:.1e} > {tol:.1e}"
    )


def follow(apply: Rows, rows: Tensor, fresh: Tensor) -> TopVectors:
    """The block `rows` (k, n) moved to the top vectors of a map that has changed a little.

    Rayleigh-Ritz in the space of [V, R, A R], V the block and vectors drawn at random, R = A V - V
    (V^T A V); another round as long as the estimate grows.
    """
    begin = torch.cat([rows, fresh])[: rows.shape[1]]
    for _ in range(ROUNDS):
        found, before = gram_round(apply, begin, len(rows))
        begin = found.rows
        if float(found.values[0].abs()) <= GROWN * before:
            break
    return found


def gram_round(apply: Rows, begin: Tensor, keep: int) -> tuple[TopVectors, float]:
    """A better block, and the size of the first value before. begin: orthonormal but for its last.

    G = B B^T and H = B A B^T in float64, H y = lambda G y solved on the host: a GPU, which is slow
    with small matrices, is waited for once. On a CPU the vectors are NumPy's, whose calls take a
    fifth of the time of torch's; only A is applied by torch.
    """
    if begin.device.type == "cpu":

        def image(rows: Any) -> Any:
            return apply(torch.from_numpy(rows)).numpy()

        space, wide = _krylov(image, begin.numpy(), np.concatenate)
        wide = wide.astype(np.float64)
    else:
        space, wide = _krylov(apply, begin, torch.cat)
        # a device that has no float64 leaves it to the CPU
        home = torch.device("cpu") if wide.device.type == "mps" else wide.device
        wide = wide.to(home).double()
    many = len(space)
    both = wide[:many] @ wide.T
    both = both.cpu().numpy() if isinstance(both, Tensor) else both
    leaning = max(1e3 * torch.finfo(begin.dtype).eps, LEANING)
    values, turn = _ritz(both[:, :many], both[:, many:], keep, leaning)
    if isinstance(space, Tensor):
        rows = torch.from_numpy(turn).to(begin) @ space
    else:
        rows = torch.from_numpy(turn.astype(space.dtype) @ space)
    return TopVectors(torch.from_numpy(values).to(begin), rows, math.nan), abs(both[0, many])


def _krylov(apply: Any, begin: Any, joined: Any) -> tuple[Any, Any]:
    """(B, [B; A B]) of B = [V, R, A R] as rows of length 1, of NumPy's arrays or torch's."""
    rows, last = begin[:-1], begin[-1:]
    first = joined([rows, _unit(last - (last @ rows.T) @ rows)])
    of_first = apply(first)
    moved = _unit(of_first - (of_first @ first.T) @ first)
    of_moved = apply(moved)
    ahead = _unit(of_moved)
    space = joined([first, moved, ahead])
    return space, joined([space, of_first, of_moved, apply(ahead)])


def _unit(rows: Any) -> Any:
    """Rows of length 1; one of zeros stays one."""
    size = (rows * rows).sum(1)[:, None] ** 0.5
    return rows / (size + (size == 0))


def _ritz(gram: Any, projected: Any, keep: int, leaning: float) -> tuple[Any, Any]:
    """The top solutions of H y = lambda G y: values (keep,), y as rows."""
    white = _white(gram, leaning)
    reduced = white @ projected @ white.T
    values, rotation = np.linalg.eigh((reduced + reduced.T) / 2)
    order = np.argsort(-np.abs(values))[:keep]
    return values[order], rotation[:, order].T @ white


def _white(gram: Any, leaning: float) -> Any:
    """w with w G w^T = 1; directions that depend on others up to rounding are left out."""
    with suppress(np.linalg.LinAlgError):
        lower = np.linalg.cholesky(gram)
        if lower.diagonal().min() ** 2 > leaning:
            return np.linalg.inv(lower)
    sizes, turn = np.linalg.eigh(gram)
    whole = sizes > leaning * sizes[-1]
    return (turn[:, whole] / np.sqrt(sizes[whole])).T

"""Weights whose operator norm stays strictly below a cap, smoothly, and the exact certificate.

    W_eff = S / sqrt(1 + (m sigma / c)^2),    S = (A + A^T)/2 or A,    sigma ~ ||S||,    c the cap, m >= 1 a margin

``||W_eff|| = ||S|| / sqrt(1 + (m sigma/c)^2) < c`` as long as ``m sigma >= ||S||``: smooth in A, where a hard
``min(1, c/sigma)`` has a kink at which float32 and float64 gradients differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.validation import positive_int, real

ROUNDS, GROWN = 4, 1.01
MARGIN = 1.02  # covers the lag of the tracked sigma behind the true one; the certificate decides whether it was enough


def symmetric_part(matrix: Tensor) -> Tensor:
    """S = (A + A^T)/2 of a square matrix (n, n)."""
    # The transpose is copied first: adding along the columns of a matrix costs twice as much.
    return (matrix + matrix.mT.contiguous()).mul(0.5)


@torch.no_grad()
def exact_norm(weight: Tensor) -> float:
    """||W||_2, the largest singular value of a matrix (out, in), in float64: the certificate, exact and never
    under-estimated.

    Cost O(n^3): once per epoch, at save or on request, never per step.
    """
    return float(torch.linalg.matrix_norm(weight.detach().double().cpu(), ord=2))


class BoundedNorm(nn.Module):
    """Parametrisation A -> W_eff, norm strictly below `cap` (None: no bound), symmetric on demand.

    S is (A + A^T)/2, or A itself for ``symmetric=False``. sigma comes from a warm block Q of `vectors` orthonormal
    vectors (per update of A, the top Ritz vectors in the space of [Q, SQ, SSQ]; a single power vector stalls on a
    symmetric matrix, whose extreme eigenvalues come in pairs near +sigma and -sigma). The block moves only when A has
    changed, so W_eff is constant within a settle and reading it has no side effect. The gradient flows through
    ``sigma = |v^T S v|`` (symmetric) or ``||S v||``, with the top Ritz vector v held fixed.

    Args: weight (n, n), the initial A, from which the block starts at its exact singular vectors; cap in (0, 1).
    Raises: ValueError for a matrix that is not square or a cap outside (0, 1).
    """

    basis: Tensor
    size: Tensor

    def __init__(self, weight: Tensor, cap: float | None, symmetric: bool = True, vectors: int = 4) -> None:
        super().__init__()
        if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
            raise ValueError(f"weight must be a square matrix, got shape {tuple(weight.shape)}")
        self.cap = None if cap is None else real("cap (rho)", cap, above=0.0, below=1.0)
        self.symmetric = bool(symmetric)
        matrix = self._matrix(weight.detach())
        values, columns = torch.linalg.eigh(matrix if self.symmetric else matrix.mT @ matrix)
        order = values.abs().argsort(descending=True)[: positive_int("vectors", vectors)]
        self.register_buffer("basis", columns[:, order].clone())
        self.register_buffer("size", values.abs().max().clone())  # of S, or of S^T S
        self._seen: tuple[int, float] | None = None
        self._register_load_state_dict_pre_hook(self._forget)

    def _matrix(self, original: Tensor) -> Tensor:
        return symmetric_part(original) if self.symmetric else original

    def _forget(self, *_: object) -> None:
        # A checkpoint holds A and the block that belongs to it: the load itself is not an update.
        self._seen = None

    @torch.no_grad()
    def _track(self, original: Tensor, matrix: Tensor) -> None:
        # Fused optimisers change a tensor without counting it as a new version: its size is looked at too.
        flat = original.detach().flatten()
        seen = (original._version, float(torch.dot(flat, flat)))
        if self._seen is not None and seen != self._seen:
            self._follow(matrix)
        self._seen = seen

    def _follow(self, matrix: Tensor) -> None:
        """Move the block to the top Ritz vectors of the new S, in the space of [Q, SQ, SSQ]."""

        def apply(block: Tensor) -> Tensor:
            # A few long rows times a matrix are much quicker than the matrix times a few columns.
            lead = block.mT.contiguous()
            return (lead @ matrix).mT if self.symmetric else ((lead @ matrix.mT) @ matrix).mT

        # A plain subspace step lags behind large updates: norm 1.05 was seen with cap 0.9. So a Krylov space, and
        # another round as long as the estimate still grows.
        for _ in range(ROUNDS):
            once = apply(self.basis) / self.size
            space = torch.linalg.qr(torch.cat([self.basis, once, apply(once) / self.size], 1)).Q
            values, rotation = torch.linalg.eigh(space.mT @ apply(space))
            order = values.abs().argsort(descending=True)[: self.basis.shape[1]]
            self.basis.copy_(space @ rotation[:, order])
            before = float(self.size)
            self.size.copy_(values[order[0]].abs())
            if float(self.size) <= GROWN * before:
                break

    def _scale(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """(S v, 1 / sqrt(1 + (m sigma/c)^2)) at the held top Ritz vector v."""
        v = self.basis[:, 0]
        image = matrix @ v
        square = torch.dot(v, image) ** 2 if self.symmetric else torch.dot(image, image)
        assert self.cap is not None
        return image, torch.rsqrt(1.0 + square * (MARGIN / self.cap) ** 2)

    def forward(self, original: Tensor) -> Tensor:
        """A (n, n) -> W_eff (n, n)."""
        matrix = self._matrix(original)
        if self.cap is None:
            return matrix
        self._track(original, matrix)
        return matrix * self._scale(matrix)[1]

    def pull_back(self, original: Tensor, by_weight: Tensor) -> Tensor:
        """dL/dA from dL/dW_eff (n, n), the derivative of `forward` at the held block, in closed form."""
        if self.cap is None:
            return self._matrix(by_weight)
        matrix = self._matrix(original)
        self._track(original, matrix)
        image, scale = self._scale(matrix)
        v = self.basis[:, 0]
        # d scale / d square = -scale^3 (m/c)^2 / 2;  d square / dS = 2 (v.Sv) v v^T, or 2 (S v) v^T
        along = torch.dot(by_weight.flatten(), matrix.flatten()) * -(scale**3) * (MARGIN / self.cap) ** 2
        left = torch.dot(v, image) * v if self.symmetric else image
        return self._matrix(torch.addr(scale * by_weight, along * left, v))

"""Weights whose operator norm stays strictly below a cap, smoothly, and the exact certificate.

    W_eff = S / sqrt(1 + (m sigma / c)^2),    S = (A + A^T)/2 or A,    sigma = ||S||,    c the cap, m >= 1 a margin

``||W_eff|| = ||S|| / sqrt(1 + (m sigma/c)^2) < c`` as long as ``m sigma >= ||S||``: smooth in A,
where a hard ``min(1, c/sigma)`` has a kink at which float32 and float64 gradients differ. d
sigma/dS = u v^T holds sigma's vectors, so they are a part of the gradient: `sigma_vector` says
where they come from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eqprop_lab.equilibrium.sigma_vector import Bounded, unrounded
from eqprop_lab.equilibrium.top_vectors import Rows
from eqprop_lab.validation import positive_int, real

MARGIN = 1.02  # covers the lag of a followed sigma behind the true one


def symmetric_part(matrix: Tensor) -> Tensor:
    """S = (A + A^T)/2 of a square matrix (n, n)."""
    # The transpose is copied first: adding along the columns of a matrix costs twice as much.
    return (matrix + matrix.mT.contiguous()).mul(0.5)


def outward(value: float, terms: int) -> float:
    """A norm from LAPACK in float64 plus what rounding may have taken from it: 4 (terms + 1) eps of
    it.
    """
    return value * (1 + 4 * (terms + 1) * torch.finfo(torch.float64).eps)


@torch.no_grad()
def exact_norm(weight: Tensor) -> float:
    """||W||_2, the largest singular value of a matrix (out, in), in float64: the certificate, exact
    up to rounding, which is added: never under-estimated.

    Cost O(n^3): once per epoch, at save or on request, never per step.
    """
    return outward(
        float(torch.linalg.matrix_norm(weight.detach().cpu().double(), ord=2)), max(weight.shape)
    )


class BoundedNorm(Bounded):
    """Parametrisation A -> W_eff, norm strictly below `cap` (None: no bound), symmetric on demand.

    S is (A + A^T)/2, or A itself for ``symmetric=False``. The gradient flows through ``sigma = |v^T
    S v|`` (symmetric) or ``||S v||``, which is exact to first order where v is the top eigenvector
    of S, of S^T S; see `Bounded`. The block holds `vectors` of them, of S itself where it is
    symmetric: the extreme eigenvalues of a symmetric matrix come in pairs near +sigma and -sigma,
    which S^T S cannot tell apart.

    Args: weight (n, n), the initial A; cap in (0, 1).
    Raises: ValueError for a matrix that is not square or a cap outside (0, 1).
    """

    SIZE = "size"
    size: Tensor

    def __init__(
        self, weight: Tensor, cap: float | None, symmetric: bool = True, vectors: int = 8
    ) -> None:
        super().__init__(min(positive_int("vectors", vectors), len(weight)))
        if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
            raise ValueError(f"weight must be a square matrix, got shape {tuple(weight.shape)}")
        self.cap = None if cap is None else real("cap (rho)", cap, above=0.0, below=1.0)
        self.symmetric = bool(symmetric)
        self.order = 1 if self.symmetric else 2
        self.register_buffer("basis", weight.new_zeros(len(weight), self.vectors))
        self.register_buffer("size", weight.new_zeros(()))  # of S, or of S^T S
        self.start(weight)

    def _matrix(self, original: Tensor) -> Tensor:
        return symmetric_part(original) if self.symmetric else original

    def _operator(self, weight: Tensor) -> Rows:
        matrix = self._matrix(weight)
        if self.symmetric:
            return lambda rows: rows @ matrix
        # A few long rows times a matrix are much quicker than the matrix times a few columns.
        return lambda rows: (rows @ matrix.mT) @ matrix

    def _rows(self) -> Tensor:
        return self.basis.mT.contiguous()

    def _laid_out(self, rows: Tensor) -> Tensor:
        return rows.mT.contiguous()

    def _scale(self, matrix: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(S v, 1 / sqrt(1 + (m sigma/c)^2)) at the top vector v."""
        image = matrix @ v
        square = torch.dot(v, image) ** 2 if self.symmetric else torch.dot(image, image)
        assert self.cap is not None
        return image, torch.rsqrt(1.0 + square * (MARGIN / self.cap) ** 2)

    def forward(self, original: Tensor) -> Tensor:
        """A (n, n) -> W_eff (n, n)."""
        return self._matrix(original) if self.cap is None else self.at(original, self.top(original))

    @unrounded
    def at(self, original: Tensor, v: Tensor) -> Tensor:
        """A (n, n) -> W_eff (n, n) at sigma's vector v (n,)."""
        matrix = self._matrix(original)
        return matrix * self._scale(matrix, v)[1]

    @unrounded
    def pull_back(self, original: Tensor, by_weight: Tensor) -> Tensor:
        """dL/dA from dL/dW_eff (n, n), the derivative of `forward`, in closed form."""
        if self.cap is None:
            return self._matrix(by_weight)
        matrix, v = self._matrix(original), self.top(original)
        image, scale = self._scale(matrix, v)
        # d scale / d square = -scale^3 (m/c)^2 / 2;  d square / dS = 2 (v.Sv) v v^T, or 2 (S v) v^T
        along = (
            torch.dot(by_weight.flatten(), matrix.flatten())
            * -(scale**3)
            * (MARGIN / self.cap) ** 2
        )
        left = torch.dot(v, image) * v if self.symmetric else image
        return self._matrix(torch.addr(scale * by_weight, along * left, v))

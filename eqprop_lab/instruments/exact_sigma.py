"""sigma found by itself, for references: no vector that a bounded weight follows takes part.

    sigma(W) = <u, W v>,    d sigma/dW = u v^T,    u, v the top singular vectors, float64

The whole matrix of the map is made of unit vectors and decomposed by LAPACK; beyond 1024 units
ARPACK takes over.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.sigma_vector import tracked
from eqprop_lab.equilibrium.spectral import Bounded, bounded_weights

DENSE_UP_TO = 1024
Model = TypeVar("Model", bound=nn.Module)


def right_vector(bound: Bounded, weight: Tensor) -> Tensor:
    """sigma's right vector (n,) of a weight as the parametrisation gets it, float64."""
    operator = bound._operator(weight.detach().double())
    size = bound._rows().shape[1]
    with torch.no_grad():
        if size <= DENSE_UP_TO:
            values, vectors = torch.linalg.eigh(
                operator(torch.eye(size, dtype=torch.float64, device=weight.device))
            )
            return vectors[:, values.abs().argmax()]

        from scipy.sparse.linalg import LinearOperator, eigsh

        def product(v: np.ndarray) -> np.ndarray:
            return operator(torch.from_numpy(v).to(weight.device)[None])[0].cpu().numpy()

        start = np.random.default_rng(0).standard_normal(size)
        values, columns = eigsh(
            LinearOperator((size, size), product, dtype=np.float64), k=2, v0=start, tol=1e-14
        )
        return torch.from_numpy(columns[:, np.abs(values).argmax()].copy()).to(weight.device)


class ExactSigma(nn.Module):
    """A bounded parametrisation with sigma's vector computed from the weight alone."""

    def __init__(self, bound: Bounded) -> None:
        super().__init__()
        self.bound = bound
        self.cap = bound.cap
        self._known: tuple[Tensor, Tensor] | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """W -> W_eff, differentiable."""
        copied = weight.detach().clone()
        if self._known is None or not torch.equal(self._known[0], copied):
            self._known = copied, right_vector(self.bound, copied).to(copied)
        return self.bound.at(weight, self._known[1])


def with_exact_sigma(model: Model) -> Model:
    """Let every bounded weight of a model compute sigma itself, in place; names stay."""
    for _, bound, held in bounded_weights(model):
        if bound.cap is not None:
            held[0] = ExactSigma(bound)
    return model


def sigma_errors(model: nn.Module, following: bool) -> dict[str, float]:
    """{weight: ||u v^T - u* v*^T||_F}: relative error of d sigma/dW, by the vectors found here.

    following: of the vectors of a training step, else of those that estimates use.
    """
    errors = {}
    with tracked(following), torch.no_grad():
        for name, bound, held in bounded_weights(model):
            if bound.cap is None:
                continue
            a, b = (
                v.double() / v.double().norm()
                for v in (bound.top(held.original), right_vector(bound, held.original))
            )
            lost = float((a - b * torch.dot(a, b).sign()).square().sum()) / 2
            errors[name] = math.sqrt(2 * lost * (2 - lost))
    return errors

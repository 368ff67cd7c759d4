"""Nodes whose logits are linear in their parameters: z = theta M^T, theta (O, P), M (2^n, P).

    probabilistic   M = 1, one logit an entry             f = multilinear(x, sigmoid(z / T))
    linear_lut      M = [1, a_1, ..., a_n]                f = sigmoid(multilinear(x, z) / T)
    polylut         M = products of at most D bits          the same
    warp            M = products of signs (2 a_j - 1)       the same

A product of pins is its own multilinear extension, so that theta_0 + theta . x, a polynomial and a
Walsh series are all `multilinear` of their values on bits. Sources: DiffLogic's successors
arXiv:2510.03250 (probabilistic, n = 2), PolyLUT 10.1109/ICFPT59805.2023.00012, WARP
arXiv:2602.03527.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from eqprop_lab.lut.multilinear import multilinear
from eqprop_lab.lut.nodes.base import EntryNodes, LUTNodes
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import integer


def corners(inputs: int) -> Tensor:
    """The bits of all addresses, (2^n, n) float32, lowest first."""
    return (torch.arange(2**inputs)[:, None] >> torch.arange(inputs) & 1).float()


def subsets(inputs: int, degree: int) -> list[tuple[int, ...]]:
    """The sets of at most `degree` pins, the empty one first."""
    return [chosen for size in range(degree + 1) for chosen in combinations(range(inputs), size)]


def basis(values: Tensor, degree: int) -> Tensor:
    """Products (2^n, P) of at most `degree` columns of values (2^n, n)."""
    chosen = subsets(values.shape[1], degree)
    return torch.stack([values[:, list(columns)].prod(1) for columns in chosen], 1)


@REGISTRY.register_node("probabilistic")
class ProbabilisticNodes(EntryNodes):
    """One logit an entry: f is the chance of a 1 when pins and entries are independent bits."""


class _BasisNodes(LUTNodes):
    """Logits in a basis M (2^n, P), the sigmoid after the extension."""

    default_init = ("normal", {"std": 0.1})
    matrix: Tensor

    def __init__(self, count: int, inputs: int, values: Tensor, degree: int) -> None:
        super().__init__(count, inputs)
        self.register_buffer("matrix", basis(values, degree), persistent=False)
        self.theta = nn.Parameter(torch.zeros(self.count, self.matrix.shape[1]))

    def logits(self) -> Tensor:
        return self.theta @ self.matrix.T

    def set_logits(self, logits: Tensor) -> None:
        with torch.no_grad():
            self.theta.copy_(logits @ torch.linalg.pinv(self.matrix).T)

    def soft(self, pins: Tensor, temperature: float) -> Tensor:
        return torch.sigmoid(multilinear(pins, self.logits()) / temperature)


@REGISTRY.register_node("polylut")
class PolynomialNodes(_BasisNodes):
    """A polynomial of the pins, of at most `degree` (2) different pins a term."""

    def __init__(self, count: int, inputs: int, degree: int = 2) -> None:
        degree = integer("degree", degree, at_most=8, accepted="an integer from 1 to 8")
        super().__init__(count, inputs, corners(inputs), min(degree, inputs))


@REGISTRY.register_node("linear_lut")
class LinearNodes(_BasisNodes):
    """A threshold of a weighted sum of the pins."""

    def __init__(self, count: int, inputs: int) -> None:
        super().__init__(count, inputs, corners(inputs), 1)


@REGISTRY.register_node("warp")
class WalshNodes(_BasisNodes):
    """All 2^n Walsh coefficients, each the weight of a parity."""

    def __init__(self, count: int, inputs: int) -> None:
        super().__init__(count, inputs, 2 * corners(inputs) - 1, inputs)

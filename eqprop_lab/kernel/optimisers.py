"""Optimisers of a kernel that stands alone, over all parameters as one vector, in place.

    sgd    b <- mu b + g,    theta <- theta - lr b
    adam   m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
           theta <- theta - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

mu = 0.9, b1 = 0.9, b2 = 0.999, eps = 1e-8, as torch's. Source of the second: Kingma and Ba 2015,
arXiv:1412.6980. Pieces of the vector are taken one by one, so that they stay in the cache through
the passes of an update.
"""

from __future__ import annotations

from typing import Any

from eqprop_lab.kernel.arrays import Array

NAMES = ("adam", "sgd")
MOMENTUM, BETAS, EPS = 0.9, (0.9, 0.999), 1e-8
PIECE = 8192


class SGD:
    """With momentum; lr may be changed between steps."""

    memories = 1

    def __init__(self, parameters: Array, lr: float, xp: Any) -> None:
        self.xp, self.lr, self.steps = xp, lr, 0
        self.memory = [xp.zeros_like(parameters) for _ in range(self.memories)]
        self.spare = xp.empty_like(parameters[:PIECE])

    def step(self, parameters: Array, gradient: Array) -> None:
        """One update of the parameters, in place."""
        self.steps += 1
        for begin in range(0, len(parameters), PIECE):
            here = slice(begin, begin + PIECE)
            kept = [memory[here] for memory in self.memory]
            spare = self.spare[: len(kept[0])]
            self._piece(parameters[here], gradient[here], kept, spare)

    def _piece(self, theta: Array, g: Array, kept: list[Array], spare: Array) -> None:
        xp, (b,) = self.xp, kept
        xp.multiply(b, MOMENTUM, out=b)
        xp.add(b, g, out=b)
        xp.multiply(b, self.lr, out=spare)
        xp.subtract(theta, spare, out=theta)


class Adam(SGD):
    """m and v are kept without their factors 1 - b1 and 1 - b2, which saves two passes."""

    memories = 2

    def _piece(self, theta: Array, g: Array, kept: list[Array], spare: Array) -> None:
        xp, (m, v) = self.xp, kept
        (b1, b2), t = BETAS, self.steps
        first, second = (1 - b1) / (1 - b1**t), (1 - b2) / (1 - b2**t)
        rate = self.lr * first
        xp.multiply(m, b1, out=m)
        xp.add(m, g, out=m)
        xp.multiply(v, b2, out=v)
        xp.multiply(g, g, out=spare)
        xp.add(v, spare, out=v)
        # rate m / (sqrt(second v) + eps) = m / (sqrt(v) sqrt(second)/rate + eps/rate)
        xp.sqrt(v, out=spare)
        xp.multiply(spare, second**0.5 / rate, out=spare)
        xp.add(spare, EPS / rate, out=spare)
        xp.divide(m, spare, out=spare)
        xp.subtract(theta, spare, out=theta)


def make_optimiser(name: str, parameters: Array, lr: float, xp: Any) -> SGD:
    """The optimiser of a name in `NAMES`."""
    return (Adam if name == "adam" else SGD)(parameters, lr, xp)

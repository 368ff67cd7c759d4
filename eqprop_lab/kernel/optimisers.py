"""Optimisers of a kernel that stands alone, over all parameters as one vector, in place.

    sgd    b <- mu b + g,    theta <- theta - lr b
    adam   m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
           theta <- theta - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

mu = 0.9, b1 = 0.9, b2 = 0.999, eps = 1e-8, as torch's. Source of the second: Kingma and Ba 2015,
arXiv:1412.6980. Pieces of the vector are taken one by one, so that large ones stay in the cache
through the passes of an update; on CuPy an update is one kernel.
"""

from __future__ import annotations

from typing import Any

from eqprop_lab.kernel.arrays import Array

NAMES = ("adam", "sgd")
MOMENTUM, BETAS, EPS = 0.9, (0.9, 0.999), 1e-8
PIECE = 65536


class SGD:
    """With momentum; lr may be changed between steps."""

    memories = 1
    fused = (
        "T g, T momentum, T lr",
        "T theta, T b",
        "b = momentum * b + g; theta -= lr * b",
        "eqprop_sgd",
    )

    def __init__(self, parameters: Array, lr: float, xp: Any) -> None:
        self.xp, self.lr, self.steps = xp, lr, 0
        self.memory = [xp.zeros_like(parameters) for _ in range(self.memories)]
        self.spare = xp.empty_like(parameters[:PIECE])
        compiled = getattr(xp, "ElementwiseKernel", None)
        self._kernel = None if compiled is None else compiled(*self.fused)

    def step(self, parameters: Array, gradient: Array) -> None:
        """One update of the parameters, in place."""
        self.steps += 1
        if self._kernel is not None:
            self._kernel(gradient, *self._rates(), parameters, *self.memory)
            return
        for begin in range(0, len(parameters), PIECE):
            here = slice(begin, begin + PIECE)
            kept = [memory[here] for memory in self.memory]
            spare = self.spare[: len(kept[0])]
            self._piece(parameters[here], gradient[here], kept, spare)

    def _rates(self) -> tuple[float, ...]:
        return MOMENTUM, self.lr

    def _piece(self, theta: Array, g: Array, kept: list[Array], spare: Array) -> None:
        xp, (b,) = self.xp, kept
        xp.multiply(b, MOMENTUM, out=b)
        xp.add(b, g, out=b)
        xp.multiply(b, self.lr, out=spare)
        xp.subtract(theta, spare, out=theta)


class Adam(SGD):
    """m and v are kept without their factors 1 - b1 and 1 - b2, which saves two passes."""

    memories = 2
    fused = (
        "T g, T b1, T b2, T factor, T floor",
        "T theta, T m, T v",
        "m = b1 * m + g; v = b2 * v + g * g; theta -= m / (sqrt(v) * factor + floor)",
        "eqprop_adam",
    )

    def _rates(self) -> tuple[float, ...]:
        (b1, b2), t = BETAS, self.steps
        first, second = (1 - b1) / (1 - b1**t), (1 - b2) / (1 - b2**t)
        rate = self.lr * first
        return b1, b2, second**0.5 / rate, EPS / rate

    def _piece(self, theta: Array, g: Array, kept: list[Array], spare: Array) -> None:
        xp, (m, v) = self.xp, kept
        b1, b2, factor, floor = self._rates()
        xp.multiply(m, b1, out=m)
        xp.add(m, g, out=m)
        xp.multiply(v, b2, out=v)
        xp.multiply(g, g, out=spare)
        xp.add(v, spare, out=v)
        # rate m / (sqrt(second v) + eps) = m / (sqrt(v) sqrt(second)/rate + eps/rate)
        xp.sqrt(v, out=spare)
        xp.multiply(spare, factor, out=spare)
        xp.add(spare, floor, out=spare)
        xp.divide(m, spare, out=spare)
        xp.subtract(theta, spare, out=theta)


def make_optimiser(name: str, parameters: Array, lr: float, xp: Any) -> SGD:
    """The optimiser of a name in `NAMES`."""
    return (Adam if name == "adam" else SGD)(parameters, lr, xp)

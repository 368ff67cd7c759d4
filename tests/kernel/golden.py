"""The steps of the kernel once more: slow float64 code, one number after the other, none shared.

    h <- tanh(W h + u),   e = dC/dz,   h <- tanh(W h + u - beta W_out^T e),   v <- n (W v) - n g

Only sigma comes from somewhere, numpy.linalg's SVD; what a bound does to a gradient is measured on
the bound itself, by differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
MARGIN = 1.02
ORIGINAL = "W_rec.parametrizations.weight.original"


def product(a: Array, b: Array) -> Array:
    """a b^T by dot products of rows: (m, k), (n, k) -> (m, n)."""
    return np.array([[math.fsum(map(float.__mul__, r, c)) for c in b.tolist()] for r in a.tolist()])


def bounded(a: Array, cap: float | None) -> Array:
    """W of a matrix A: S = (A + A^T)/2 over sqrt(1 + (m sigma / cap)^2)."""
    n = len(a)
    s = np.array([[(a[i, j] + a[j, i]) / 2 for j in range(n)] for i in range(n)])
    if cap is None:
        return s
    sigma = np.linalg.svd(s, compute_uv=False)[0]
    return s / math.sqrt(1 + (MARGIN * sigma / cap) ** 2)


def along(a: Array, by_w: Array, direction: Array, cap: float | None) -> float:
    """<dL/dA, direction> from dL/dW, by central differences of fourth order of W itself."""
    step = 1e-3 * float(np.linalg.norm(a))
    unit = direction / np.linalg.norm(direction)

    def inner(times: float) -> float:
        w = bounded(a + times * step * unit, cap)
        return math.fsum((by_w * w).ravel().tolist())

    slope = (8 * (inner(1) - inner(-1)) - (inner(2) - inner(-2))) / (12 * step)
    return slope * float(np.linalg.norm(direction))


@dataclass(frozen=True)
class Net:
    """Weights by the names of the kernel, and the cap of the norm (None: no bound)."""

    p: dict[str, Array]
    cap: float | None

    @property
    def w(self) -> Array:
        """The effective W_rec."""
        return bounded(self.p[ORIGINAL], self.cap)

    def drive(self, x: Array) -> Array:
        """u = W_in x + b."""
        bias = self.p["W_in.bias"] + self.p["W_rec.bias"]
        return product(x, self.p["W_in.weight"]) + bias

    def logits(self, h: Array) -> Array:
        """z = W_out h + c."""
        return product(h, self.p["W_out.weight"]) + self.p["W_out.bias"]

    def free(self, u: Array, steps: int) -> list[Array]:
        """The states from tanh(u) on, one a step."""
        w = self.w
        return _trail(_tanh(u), steps, lambda h: _tanh(product(h, w) + u))

    def nudged(
        self, u: Array, h: Array, t: Array, cost: str, beta: float, steps: int
    ) -> list[Array]:
        """The states from h on under a nudge of beta."""
        w = self.w

        def sweep(h: Array) -> Array:
            e = slope(self.logits(h), t, cost)
            return _tanh(product(h, w) + u - beta * self.pull(e))

        return _trail(h, steps, sweep)

    def pull(self, e: Array) -> Array:
        """dC/dh = W_out^T e."""
        return product(e, self.p["W_out.weight"].T)

    def response(self, h: Array, g: Array, steps: int) -> list[Array]:
        """v of an infinitesimal nudge g at h."""
        w, n = self.w, np.array([[1 - value**2 for value in row] for row in h])
        return _trail(-n * g, steps, lambda v: n * product(v, w) - n * g)

    def gradients(self, x: Array, h: Array, e: Array, c: Array, m: Array) -> dict[str, Array]:
        """dL/dparameter from c = -D/(beta B) and the mean state; dL/dW stands under "W"."""
        count = len(x)
        by_bias = np.array([math.fsum(column) for column in c.T.tolist()])
        return {
            "W_in.weight": product(c.T, x.T),
            "W_in.bias": by_bias,
            "W_rec.bias": by_bias,
            "W_out.weight": product(e.T, h.T) / count,
            "W_out.bias": np.array([math.fsum(column) for column in e.T.tolist()]) / count,
            "W": product(c.T, m.T),
        }


def _trail(state: Array, steps: int, sweep: Callable[[Array], Array]) -> list[Array]:
    states = [state]
    for _ in range(steps):
        states.append(sweep(states[-1]))
    return states


def _tanh(a: Array) -> Array:
    return np.array([[math.tanh(value) for value in row] for row in a])


def softmax(z: Array) -> Array:
    """exp(z) over its sum, row by row."""
    rows = []
    for row in z.tolist():
        weights = [math.exp(value - max(row)) for value in row]
        rows.append([weight / math.fsum(weights) for weight in weights])
    return np.array(rows)


def slope(z: Array, t: Array, cost: str) -> Array:
    """dC/dz (B, K) at logits z and targets t (B, K)."""
    if cost == "mse":
        return z - t
    return np.array(
        [
            [math.fsum(t_row) * p - t for p, t in zip(p_row, t_row, strict=True)]
            for p_row, t_row in zip(softmax(z).tolist(), t.tolist(), strict=True)
        ]
    )


def costs(z: Array, t: Array, cost: str) -> Array:
    """C (B,)."""
    if cost == "mse":
        return np.array([math.fsum(((a - b) ** 2).tolist()) / 2 for a, b in zip(z, t, strict=True)])
    logs = np.array(
        [
            [value - max(row) - math.log(math.fsum(math.exp(v - max(row)) for v in row))
             for value in row]
            for row in z.tolist()
        ]
    )  # fmt: skip
    return np.array([-math.fsum((a * b).tolist()) for a, b in zip(logs, t, strict=True)])


def sgd(theta: list[float], gradients: list[list[float]], lr: float) -> list[float]:
    """Weights after one gradient a step, with momentum 0.9."""
    speed = [0.0] * len(theta)
    for gradient in gradients:
        speed = [0.9 * b + g for b, g in zip(speed, gradient, strict=True)]
        theta = [value - lr * b for value, b in zip(theta, speed, strict=True)]
    return theta


def adam(theta: list[float], gradients: list[list[float]], lr: float) -> list[float]:
    """Weights after one gradient a step, by Algorithm 1 of arXiv:1412.6980."""
    m, v = [0.0] * len(theta), [0.0] * len(theta)
    for t, gradient in enumerate(gradients, 1):
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradient, strict=True)]
        v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradient, strict=True)]
        for i, value in enumerate(theta):
            first, second = m[i] / (1 - 0.9**t), v[i] / (1 - 0.999**t)
            theta[i] = value - lr * first / (math.sqrt(second) + 1e-8)
    return theta

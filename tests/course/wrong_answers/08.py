"""Answers to the exercises of notebook 08 as learners give them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eqprop_lab import EqPropKernel
from tests.course.answers import right, wrong

Array = np.ndarray
Two = tuple[Array, Array]

# --- multiplications


def products(
    features: int, hidden: int, classes: int, batch: int, free: int, nudged: int,
    *, rows: int = 2, pull: int = 2, slopes: bool = True, drives: int = 1,
) -> int:  # fmt: skip
    """The products of a gradient, with one thing changed."""
    inner, outer, inputs = hidden * hidden, hidden * classes, features * hidden
    phases = free * inner + rows * nudged * (inner + pull * outer) + outer
    return batch * (drives * inputs + phases + slopes * (inputs + inner + outer))


@wrong("multiplications", "their batch has 2B rows")
def one_nudged_state(*sizes: int) -> int:
    return products(*sizes, rows=1)


@wrong("multiplications", "two products with the readout's weights")
def readout_or_pull(*sizes: int) -> int:
    return products(*sizes, pull=1)


@wrong("multiplications", "the slopes of the weights are products")
def phases_alone(*sizes: int) -> int:
    return products(*sizes, slopes=False)


@wrong("multiplications", "the drive is computed once")
def drive_in_every_step(*sizes: int) -> int:
    return products(*sizes, drives=sizes[4] + 2 * sizes[5])


@wrong("multiplications", "twice what it should be")
def additions_too(*sizes: int) -> int:
    return 2 * products(*sizes)


@wrong("multiplications", "1/(the batch size) times")
def of_one_image(*sizes: int) -> float:
    return products(*sizes) / sizes[3]


@wrong("multiplications", "the same for every input")
def copied_number(*sizes: int) -> int:
    return 10_000


@wrong("multiplications", "which products are there once")
def weights_alone(
    features: int, hidden: int, classes: int, batch: int, free_steps: int, nudged_steps: int
) -> int:
    return batch * (free_steps + 2 * nudged_steps) * hidden**2


@wrong("multiplications", "uses EqPropKernel")
def asked_of_the_package(
    features: int, hidden: int, classes: int, batch: int, free_steps: int, nudged_steps: int
) -> int:
    net = EqPropKernel(features, hidden, classes)
    return len(net.parameters)


@right("multiplications")
def shape_by_shape(
    features: int, hidden: int, classes: int, batch: int, free_steps: int, nudged_steps: int
) -> int:
    shapes = [(batch, features, hidden), (batch, hidden, classes)]
    shapes += free_steps * [(batch, hidden, hidden)]
    pair = [(hidden, hidden), (hidden, classes), (classes, hidden)]
    shapes += [(2 * batch, *each) for each in nudged_steps * pair]
    shapes += [(hidden, batch, columns) for columns in (features, hidden, classes)]
    return sum(math.prod(shape) for shape in shapes)


# --- folded


@wrong("folded", "the 1 of h is missing in the drive")
def only_the_gain(W: Array, u: Array) -> Two:
    return -4 * W, -2 * u


@wrong("folded", "the sum of W runs over the other axis")
def rows_of_w(W: Array, u: Array) -> Two:
    return -4 * W, -2 * (u - W.sum(1))


@wrong("folded", "[0] of the answer: it is half of what it should be")
def two_forgotten(W: Array, u: Array) -> Two:
    return -2 * W, -2 * (u - W.sum(0))


@wrong("folded", "the sign is flipped")
def usual_logistic(W: Array, u: Array) -> Two:
    return 4 * W, 2 * (u - W.sum(0))


@wrong("folded", "collect what belongs to s")
def one_with_the_wrong_sign(W: Array, u: Array) -> Two:
    return -4 * W, -2 * (u + W.sum(0))


@wrong("folded", "changes its argument 1 in place")
def in_place(W: Array, u: Array) -> Two:
    W *= -4
    return W, -2 * u - W.sum(0) / 2


@wrong("folded", "a tuple of 2 is needed")
def weights_only(W: Array, u: Array) -> Array:
    return -4 * W


@right("folded")
def by_a_row_of_ones(W: Array, u: Array) -> Two:
    return W * -4, (np.ones((1, len(W))) @ W - u) * 2


# --- train_step

Weights = dict[str, Array]


def softmax(z: Array) -> Array:
    z = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(z / z.sum(1, keepdims=True))


def stepped(
    weights: Weights, x: Array, target: Array, beta: float, lr: float, free_steps: int,
    nudged_steps: int, work: Weights, *, inside: float = 1.0, readout: float = 1.0,
    symmetric: bool = True, from_zero: bool = False, stale: bool = False,
    keep: list[Array] | None = None, careless: bool = False,
) -> Weights:  # fmt: skip
    """A step with one thing done wrong; `careless` makes new arrays."""
    W, out, u, then, pull = weights["rec"], weights["out"], *map(work.get, ("u", "other", "pull"))
    assert u is not None and then is not None and pull is not None
    np.matmul(x, weights["in"].T, out=u)
    np.tanh(u, out=work["h"])
    phases = {"h": (0.0, free_steps), "plus": (beta, nudged_steps), "minus": (-beta, nudged_steps)}
    for name, (strength, steps) in phases.items():
        h = work[name]
        h[...] = 0 if from_zero and strength else work["h"]
        for _ in range(steps):
            if careless:
                slope = strength * (softmax(h @ out.T) - target) @ out
                h = np.tanh(h @ W + u - slope)
                continue
            np.add(np.matmul(h, W, out=then), u, out=then)
            seen = work["h"] if stale and strength else h
            error = softmax(seen @ out.T) - target
            np.subtract(then, np.matmul(strength * error, out, out=pull), out=then)
            h, then = np.tanh(then, out=then), h
            if keep is not None:
                keep.append(h.copy())
        work[name] = h
    np.subtract(work["minus"], work["plus"], out=then)
    np.add(work["minus"], work["plus"], out=pull)
    inner = then.T @ pull / (4 * beta)
    slopes = {
        "in": inside * (then.T @ x) / (2 * beta),
        "rec": inside * ((inner + inner.T) / 2 if symmetric else inner),
        "out": readout * ((softmax(work["h"] @ out.T) - target).T @ work["h"]),
    }
    return {name: weight - lr * slopes[name] / len(x) for name, weight in weights.items()}


@wrong("train_step", "the hidden weights climb")
def plus_from_minus(*given: Any) -> Weights:
    return stepped(*given, inside=-1)


@wrong("train_step", "everything climbs")
def ascent(*given: Any) -> Weights:
    return stepped(*given, inside=-1, readout=-1)


@wrong("train_step", "lacks its 1/beta")
def no_beta(*given: Any) -> Weights:
    return stepped(*given, inside=given[3])


@wrong("train_step", "twice too large")
def over_beta(*given: Any) -> Weights:
    return stepped(*given, inside=2)


@wrong("train_step", "the contrast is a sum over the batch")
def contrast_summed(*given: Any) -> Weights:
    return stepped(*given, inside=len(given[1]))


@wrong("train_step", "gradients are sums over the batch")
def all_summed(*given: Any) -> Weights:
    return stepped(*given, inside=len(given[1]), readout=len(given[1]))


@wrong("train_step", "the readout does not learn")
def readout_forgotten(*given: Any) -> Weights:
    return stepped(*given, readout=0)


@wrong("train_step", "is the slope of rec symmetric?")
def not_symmetric(*given: Any) -> Weights:
    return stepped(*given, symmetric=False)


@wrong("train_step", "do both nudged phases start at the free state")
def nudged_from_zero(*given: Any) -> Weights:
    return stepped(*given, from_zero=True)


@wrong("train_step", "is e made anew in every step")
def pull_of_the_free_state(*given: Any) -> Weights:
    return stepped(*given, stale=True)


@wrong("train_step", "it makes new arrays")
def new_arrays(*given: Any) -> Weights:
    return stepped(*given, careless=True)


@wrong("train_step", "its memory grows with the steps")
def trajectory(*given: Any) -> Weights:
    return stepped(*given, keep=[])


@wrong("train_step", "uses EqPropKernel")
def by_the_kernel(weights: Weights, x: Array, target: Array, *rest: Any) -> Weights:
    net = EqPropKernel(*x.shape, len(weights["out"]))
    return net.gradients(x, target)


@wrong("train_step", "is the `return` missing?")
def gives_nothing_back(*given: Any) -> None:
    stepped(*given)


@right("train_step")
def into_work(*given: Any) -> Weights:
    return stepped(*given)


@right("train_step")
def into_the_weights(*given: Any) -> Weights:
    weights: Weights = given[0]
    for name, found in stepped(*given).items():
        weights[name][...] = found
    return weights


# --- unrolled_slopes


def backwards(
    W: Array, u: Array, slope: Array, steps: int, *,
    matrix: Callable[[Array], Array] = np.transpose, start: bool = True, first: int = 0,
    old: bool = False,
) -> Two:  # fmt: skip
    """BPTT with every state kept, and one thing changed."""
    path = [np.tanh(u)]
    for _ in range(steps):
        path.append(np.tanh(path[-1] @ W + u))
    of_W, of_u = np.zeros_like(W), np.zeros_like(u)
    for t in range(steps, first, -1):
        a = slope * (1 - path[t - 1 if old else t] ** 2)
        of_W, of_u, slope = of_W + path[t - 1].T @ a, of_u + a, a @ matrix(W)
    return of_W, of_u + slope * (1 - path[0] ** 2) if start else of_u


@wrong("unrolled_slopes", "states for 100 steps")
def all_of_them(W: Array, u: Array, slope: Array, steps: int) -> Two:
    return backwards(W, u, slope, steps)


@wrong("unrolled_slopes", "hears of u, too")
def start_forgotten(W: Array, u: Array, slope: Array, steps: int) -> Two:
    return backwards(W, u, slope, steps, start=False)


@wrong("unrolled_slopes", "this is the last step alone")
def last_step(W: Array, u: Array, slope: Array, steps: int) -> Two:
    return backwards(W, u, slope, steps, start=False, first=steps - 1)


@wrong("unrolled_slopes", "through W transposed")
def not_transposed(W: Array, u: Array, slope: Array, steps: int) -> Two:
    return backwards(W, u, slope, steps, matrix=lambda matrix: matrix)


@wrong("unrolled_slopes", "does each step use its own state?")
def state_before(W: Array, u: Array, slope: Array, steps: int) -> Two:
    return backwards(W, u, slope, steps, old=True)


@right("unrolled_slopes")
def from_the_start_each_time(W: Array, u: Array, slope: Array, steps: int) -> Two:
    """Hardly any memory, and steps^2/2 steps."""

    def state(count: int) -> Array:
        h = np.tanh(u)
        for _ in range(count):
            h = np.tanh(h @ W + u)
        return h

    of_W, of_u, after = np.zeros_like(W), np.zeros_like(u), state(steps)
    for t in range(steps, 0, -1):
        before = state(t - 1)
        a = slope * (1 - after**2)
        of_W, of_u = of_W + before.T @ a, of_u + a
        slope, after = a @ W.T, before
    return of_W, of_u + slope * (1 - after**2)

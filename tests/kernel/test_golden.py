"""Every step of the kernel against `golden`: slow float64 code that shares nothing with it.

A float64 kernel has to agree to 1e-6 and does to 1e-9. In float32 one rounding is 6e-8 and a step
has a few: states, logits, costs, the bound and the optimisers agree to 1e-6 too. What is divided by
beta does not: c = (h- - h+)/(2 beta) carries the rounding of h times |h|/|h- - h+|.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest

from eqprop_lab import EqPropKernel
from eqprop_lab.kernel.bound import SMALL, Bound
from eqprop_lab.kernel.costs import into_slope, make_targets, values
from eqprop_lab.kernel.operations import Operations
from eqprop_lab.kernel.optimisers import NAMES, PIECE, make_optimiser
from eqprop_lab.kernel.phases import read
from eqprop_lab.kernel.units import LOGISTIC, TANH
from tests.kernel import golden
from tests.kernel.golden import ORIGINAL, Net

FREE, NUDGED, BETA = 17, 6, 0.1
EXACT = {"float64": 1e-9, "float32": 1e-6}
UNITS = {"tanh": TANH, "logistic": LOGISTIC}
both_dtypes = pytest.mark.parametrize("dtype", EXACT)
both_costs = pytest.mark.parametrize("cost", ["cross_entropy", "mse"])
all_units = pytest.mark.parametrize("units", UNITS)


def off(got: Any, expected: Any) -> float:
    """||got - expected|| / ||expected||, in float64."""
    wide = np.asarray(expected, float)
    return float(np.linalg.norm(np.asarray(got, float) - wide) / np.linalg.norm(wide))


@dataclass
class Case:
    """A kernel of 5-7-3, four samples, and the same in float64 for `golden`."""

    dtype: str
    cost: str = "cross_entropy"
    units: str = "tanh"
    estimator: str = "centered"
    optimizer: str = "sgd"
    soft: bool = False
    bound: bool = True

    @cached_property
    def kernel(self) -> EqPropKernel:
        made = EqPropKernel(
            5, 7, 3, seed=1, dtype=self.dtype, free_steps=FREE, nudged_steps=NUDGED, beta=BETA,
            cost=self.cost, estimator=self.estimator, optimizer=self.optimizer, lr=0.05,
            use_spectral_norm=self.bound, free_units=UNITS[self.units],
            nudged_units=UNITS[self.units],
        )  # fmt: skip
        for name in ("W_in.weight", ORIGINAL):  # so that the units saturate and the bound binds
            made.parameters[name] *= 2 if self.bound or name != ORIGINAL else 0.7
        return made

    @cached_property
    def batch(self) -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        x, labels = rng.standard_normal((4, 5)).astype(self.dtype), np.array([2, 0, 1, 1])
        return x, rng.random((4, 3)).astype(self.dtype) if self.soft else labels

    @cached_property
    def net(self) -> Net:
        kernel = self.kernel
        wide = {name: value.astype(float) for name, value in kernel.parameters.items()}
        return Net(wide, kernel.rho if self.bound else None)

    @cached_property
    def x(self) -> np.ndarray:
        return self.batch[0].astype(float)

    @cached_property
    def t(self) -> np.ndarray:
        y = self.batch[1]
        return y.astype(float) if self.soft else np.eye(3)[y]

    @cached_property
    def trail(self) -> list[np.ndarray]:
        return self.net.free(self.net.drive(self.x), FREE)

    @cached_property
    def error(self) -> np.ndarray:
        return golden.slope(self.net.logits(self.trail[-1]), self.t, self.cost)

    @cached_property
    def displaced(self) -> tuple[list[np.ndarray], ...]:
        """The trails under +beta and -beta; of the one vector v for `response`."""
        h, net = self.trail[-1], self.net
        if self.estimator == "response":
            return (net.response(h, net.pull(self.error), NUDGED),)
        u = net.drive(self.x)
        return tuple(net.nudged(u, h, self.t, self.cost, s * BETA, NUDGED) for s in (1, -1))

    @cached_property
    def gradients(self) -> dict[str, np.ndarray]:
        h, ends = self.trail[-1], [trail[-1] for trail in self.displaced]
        if self.estimator == "response":
            c, mean = -ends[0] / len(h), h
        else:
            c, mean = (ends[1] - ends[0]) / (2 * BETA * len(h)), (ends[0] + ends[1]) / 2
        return self.net.gradients(self.x, h, self.error, c, mean)

    def settled(self) -> tuple[Any, Any, Any]:
        """Buffers that hold the free state, how it ended, logits (K, B)."""
        kernel = self.kernel
        return kernel.estimator.settle(
            self.batch[0], kernel.parameters, FREE, kernel._vector()
        )  # fmt: skip


def reads(end: Any, trails: list[list[np.ndarray]], allowed: float) -> Any:
    """The report of a phase, which says how it ended: residual of the worst sample, size of the
    state, and movements of all, those of the last step and of the one two before it.
    """
    (end,) = read(end)
    steps = len(trails[0]) - 1

    def moved(number: int) -> np.ndarray:
        states = [np.concatenate([trail[at] for trail in trails]) for at in (number - 1, number)]
        return np.linalg.norm(states[1] - states[0], axis=1)

    lengths = np.linalg.norm(np.concatenate([trail[-1] for trail in trails]), axis=1)
    assert end.steps == steps and [number for number, _ in end.pace] == [steps - 2, steps]
    assert end.residual == pytest.approx(max(moved(steps) / lengths), rel=1e-6, abs=allowed)
    assert end.size == pytest.approx(np.linalg.norm(lengths), rel=allowed)
    for number, movement in end.pace:  # a difference of two roundings
        found = np.linalg.norm(moved(number))
        assert movement == pytest.approx(found, rel=1e-6, abs=10 * allowed)
    return end


@both_dtypes
@all_units
@pytest.mark.parametrize("bound", [True, False])
def test_the_free_phase(dtype: str, units: str, bound: bool) -> None:
    case = Case(dtype, units=units, bound=bound)
    work, end, z = case.settled()
    assert off(work.u, case.net.drive(case.x)) < EXACT[dtype]
    assert off(work.free, case.trail[-1]) < EXACT[dtype]
    assert off(z.T, case.net.logits(case.trail[-1])) < EXACT[dtype]
    found = reads(end, [case.trail], EXACT[dtype])
    assert found.coarse == 1 and found.change * found.size == pytest.approx(found.pace[-1][1])


@both_dtypes
@all_units
def test_one_sweep(dtype: str, units: str) -> None:
    case = Case(dtype, units=units)
    kernel = case.kernel
    found = kernel.estimator.settle(case.batch[0], kernel.parameters, 1, kernel._vector())[0].free
    assert off(found, case.net.free(case.net.drive(case.x), 1)[-1]) < EXACT[dtype]


@both_dtypes
@both_costs
@all_units
@pytest.mark.parametrize("soft", [True, False])
def test_the_nudged_phases(dtype: str, cost: str, units: str, soft: bool) -> None:
    case = Case(dtype, cost, units, soft=soft)
    kernel, (work, _, _) = case.kernel, case.settled()
    targets = kernel.targets(case.batch[1], 4)
    end = kernel.estimator._centered(
        work, case.error.T.astype(dtype), targets, kernel.parameters, kernel.how
    )
    plus, minus = (trail[-1] for trail in case.displaced)
    for got, expected in zip(work.pair.both, (plus, minus), strict=True):
        assert off(got, expected) < EXACT[dtype]
    # rounding of the states over the size of their difference
    per = np.linalg.norm(plus) / np.linalg.norm(minus - plus)
    assert off(work.other, minus - plus) < EXACT[dtype] * (1 + per)
    found = reads(end, list(case.displaced), EXACT[dtype])
    last, before = ([trail[i] for trail in case.displaced] for i in (-1, -2))
    difference = (last[0] - last[1]) - (before[0] - before[1])
    change = np.linalg.norm(difference) / np.linalg.norm(last[0] - last[1])
    assert found.change == pytest.approx(change, rel=1e-6, abs=EXACT[dtype] * (1 + per))
    half = np.linalg.norm(last[0] - last[1]) / 2
    assert found.coarse == pytest.approx(found.size / 2**0.5 / half, rel=EXACT[dtype] * (1 + per))


@both_dtypes
@both_costs
def test_the_linear_response(dtype: str, cost: str) -> None:
    case = Case(dtype, cost, estimator="response")
    kernel, (work, _, _) = case.kernel, case.settled()
    # z becomes dC/dz, as `estimate` makes it
    end = kernel.estimator._response(
        work, case.error.T.astype(dtype), kernel.parameters, kernel.how
    )
    assert off(-work.other, case.displaced[0][-1]) < EXACT[dtype]
    reads(end, list(case.displaced), EXACT[dtype])


@both_dtypes
@both_costs
@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_cost_and_softmax_pull(dtype: str, cost: str, soft: bool, size: float) -> None:
    case = Case(dtype, cost, soft=soft)
    z = np.random.default_rng(3).standard_normal((4, 3)).astype(dtype) * size
    targets = make_targets(cost, case.batch[1], 4, 3, np, np.dtype(dtype))
    assert off(values(targets, z.T, np), golden.costs(z.astype(float), case.t, cost)) < EXACT[dtype]
    slope = np.ascontiguousarray(z.T)
    into_slope(targets, slope, np.empty(4, dtype), np)
    slope -= targets.values
    assert off(slope.T, golden.slope(z.astype(float), case.t, cost)) < EXACT[dtype]


def bounds(dtype: str, n: int, way: str, moved: float) -> tuple[float, float]:
    """The worst relative errors of W and of dL/dA (along two directions) at a matrix that moves."""
    rng, cap = np.random.default_rng(n), 0.9
    a = rng.standard_normal((n, n)) / np.sqrt(n)
    ops = Operations(np)
    bound, of_w, of_slope = Bound(ops, cap, way), 0.0, 0.0
    for _ in range(4):
        a = (a + moved * rng.standard_normal((n, n)) / np.sqrt(n)).astype(dtype)
        s, by_w = ((a + a.T) / 2).astype(dtype), rng.standard_normal((n, n)).astype(dtype)
        v, expected = bound.vector(s), golden.bounded(a.astype(float), cap)
        of_w = max(of_w, off(bound.scale(s, v)[1] * s, expected))
        assert np.linalg.svd(expected, compute_uv=False)[0] < cap
        found, kept = np.empty_like(s), by_w.astype(float)
        bound.pull_back(by_w, s, v, bound.scale(s, v), found)
        for direction in (rng.standard_normal((n, n)), np.outer(v, v)):
            slope = golden.along(a.astype(float), kept, direction, cap)
            size = np.linalg.norm(found) * np.linalg.norm(direction)
            of_slope = max(of_slope, abs(float((found * direction).sum()) - slope) / float(size))
    return of_w, of_slope


@both_dtypes
@pytest.mark.parametrize("n", [1, 2, 7, SMALL, SMALL + 16])
def test_the_bound(dtype: str, n: int) -> None:
    """Norm, W and what it does to a gradient: found from the whole matrix, it is exact."""
    assert max(bounds(dtype, n, "converged", 0.01)) < EXACT[dtype]


@both_dtypes
@pytest.mark.parametrize("bound", [True, False])
def test_the_certificate(dtype: str, bound: bool) -> None:
    case = Case(dtype, bound=bound)
    norm = np.linalg.svd(case.net.w, compute_uv=False)[0]
    assert case.kernel.contraction_bound() == pytest.approx(norm, rel=EXACT[dtype])


@both_dtypes
@pytest.mark.parametrize("moved", [1e-2, 1e-3])
def test_a_followed_vector_lags_by_less_than_the_step(dtype: str, moved: float) -> None:
    """Its error is a part of how far the matrix has moved, that of sigma the square of it."""
    of_w, of_slope = bounds(dtype, SMALL + 16, "followed", moved)
    assert of_w < max(moved**2, EXACT[dtype]) and of_slope < 0.1 * moved


@both_dtypes
@pytest.mark.parametrize("name", NAMES)
def test_the_optimisers(dtype: str, name: str) -> None:
    """On more numbers than one piece, from gradients of many sizes."""
    rng, count = np.random.default_rng(5), PIECE + 7
    begin = rng.standard_normal(count).astype(dtype)
    scale = 10.0 ** rng.integers(-6, 3, count)
    given = [(scale * rng.standard_normal(count)).astype(dtype) for _ in range(12)]
    theta = begin.copy()
    optimiser = make_optimiser(name, theta, 0.01, np)
    for gradient in given:
        kept = gradient.copy()
        optimiser.step(theta, gradient)
        assert np.array_equal(kept, gradient)
    lists = [gradient.astype(float).tolist() for gradient in given]
    expected = getattr(golden, name)(begin.astype(float).tolist(), lists, 0.01)
    # theta is rounded too, and moves by a part of itself
    allowed = EXACT[dtype] * np.linalg.norm(begin) / np.linalg.norm(theta - begin)
    assert off(theta - begin, np.array(expected) - begin) < allowed


@both_dtypes
@both_costs
@pytest.mark.parametrize("estimator", ["centered", "response"])
@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("bound", [True, False])
def test_the_gradients(dtype: str, cost: str, estimator: str, soft: bool, bound: bool) -> None:
    case = Case(dtype, cost, estimator=estimator, soft=soft, bound=bound)
    found = case.kernel.estimate(*case.batch)
    z = case.net.logits(case.trail[-1])
    assert off(found.logits, z) < EXACT[dtype]
    assert off(found.loss, golden.costs(z, case.t, cost)) < EXACT[dtype]
    expected = dict(case.gradients)
    by_w = expected.pop("W")
    # as above: two states of size |h| that differ by |h- - h+|
    ends = [trail[-1] for trail in case.displaced]
    per = np.linalg.norm(ends[0]) / np.linalg.norm(ends[-1] - ends[0]) if len(ends) > 1 else 0
    allowed = EXACT[dtype] * (1 + per)
    for name, gradient in expected.items():
        assert off(found.gradients[name], gradient) < allowed, name
    got = found.gradients[ORIGINAL].astype(float)
    for i, j in np.ndindex(7, 7):
        unit = np.zeros((7, 7))
        unit[i, j] = 1
        slope = golden.along(case.net.p[ORIGINAL], by_w, unit, case.net.cap)
        assert abs(got[i, j] - slope) < allowed * np.linalg.norm(got)


@both_dtypes
@pytest.mark.parametrize("optimizer", NAMES)
def test_one_training_step(dtype: str, optimizer: str) -> None:
    """The parameters after it, but W_rec, whose gradient has a test of its own."""
    case = Case(dtype, estimator="response", optimizer=optimizer)
    expected = {
        name: getattr(golden, optimizer)(
            value.ravel().tolist(), [case.gradients[name].ravel().tolist()], 0.05
        )
        for name, value in case.net.p.items()
        if name != ORIGINAL
    }
    begin = {name: value.copy() for name, value in case.kernel.parameters.items()}
    numbers = case.kernel.train_step(*case.batch)
    for name, after in expected.items():
        moved = case.kernel.parameters[name] - begin[name]
        # a weight of size 1 is rounded when it moves by 0.05
        allowed = EXACT[dtype] * np.linalg.norm(begin[name]) / np.linalg.norm(moved)
        assert off(moved.ravel(), np.array(after) - begin[name].ravel()) < allowed, name
    z = case.net.logits(case.trail[-1])
    mean = golden.costs(z, case.t, "cross_entropy").mean()
    assert numbers["loss"] == pytest.approx(mean, rel=EXACT[dtype])
    assert numbers["accuracy"] == (z.argmax(1) == case.batch[1]).mean()

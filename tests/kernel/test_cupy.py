"""The kernel on CuPy, as far as a machine without a GPU can tell: see `fake_cupy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from eqprop_lab import EqPropKernel
from eqprop_lab.kernel import blas
from eqprop_lab.kernel.blas import Blas, leading
from eqprop_lab.kernel.recording import KEPT, Recorder
from eqprop_lab.kernel.units import LOGISTIC, TANH
from tests.kernel.fake_cupy import Cublas, fake_cupy

RNG = np.random.default_rng(0)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    library = Cublas()
    monkeypatch.setattr(blas, "_library", lambda cupy: library)
    module = fake_cupy()
    module.library = library
    return module


def batch(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.standard_normal((rows, 6)), RNG.integers(0, 3, rows)


def both(cupy: Any, hidden: int = 12, **options: Any) -> tuple[EqPropKernel, EqPropKernel]:
    """On the fake and on NumPy, from one seed."""
    graph = options.pop("graph", False)
    options = {"seed": 0, "dtype": "float64", "optimizer": "sgd", "lr": 0.1} | options
    return (
        EqPropKernel(6, hidden, 3, arrays=cupy, graph=graph, **options),
        EqPropKernel(6, hidden, 3, **options),
    )


def apart(one: EqPropKernel, other: EqPropKernel) -> float:
    return max(
        float(np.abs(np.asarray(one.parameters[name]) - value).max())
        for name, value in other.parameters.items()
    )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("estimator", ["centered", "response"])
def test_it_trains_as_numpy_does(cupy: Any, estimator: str, optimizer: str, graph: bool) -> None:
    """Batches of sizes that come again, grow and shrink; a wide net, whose norm is followed."""
    nets = both(
        cupy, 70, estimator=estimator, optimizer=optimizer, lr=1e-2, graph=graph, free_steps=7
    )
    for rows in (8, 8, 5, 8, 11, 5, 8, 1):
        x, y = batch(rows)
        reports = nets[0].train_step(cupy.asarray(x), cupy.asarray(y)), nets[1].train_step(x, y)
        for name, value in reports[1].items():
            assert reports[0][name] == pytest.approx(value, rel=1e-7), (rows, name)
    assert apart(*nets) < 1e-9
    assert {"eqprop_tanh", "eqprop_scale", f"eqprop_{optimizer}"} <= set(cupy.made)


@pytest.mark.parametrize("units", [TANH, LOGISTIC], ids=lambda units: units.name)
@pytest.mark.parametrize("cost", ["cross_entropy", "mse"])
def test_soft_targets_and_both_costs(cupy: Any, cost: str, units: Any) -> None:
    nets = both(cupy, cost=cost, graph=True, free_units=units, nudged_units=units)
    for rows in (4, 4, 3):
        x, _ = batch(rows)
        y = RNG.random((rows, 3))
        found = nets[0].gradients(cupy.asarray(x), cupy.asarray(y))
        for name, value in nets[1].gradients(x, y).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12)


def test_a_launch_takes_the_place_of_the_calls(cupy: Any) -> None:
    net, _ = both(cupy, graph=True)
    real, calls = net.estimator._estimate, []
    net.estimator._estimate = lambda *args: (calls.append(1), real(*args))[1]  # type: ignore
    for _ in range(4):
        x, y = batch(5)
        net.train_step(cupy.asarray(x), cupy.asarray(y))
    assert len(calls) == 2, "run once, recorded once"


def test_what_is_held_of_an_estimate_stays(cupy: Any) -> None:
    net, _ = both(cupy, graph=True)
    x, y = map(cupy.asarray, batch(5))
    first = net.estimate(x, y)
    logits, loss = np.array(first.logits), np.array(first.loss)
    net.estimate(*map(cupy.asarray, batch(5)))
    assert np.array_equal(first.logits, logits) and np.array_equal(first.loss, loss)


def test_what_diverges_in_a_graph_updates_nothing(cupy: Any) -> None:
    net, _ = both(cupy, graph=True)
    x, y = map(cupy.asarray, batch(5))
    net.train_step(x, y)
    net.parameters["W_in.weight"][0] = np.inf
    before = np.array(net._flat)
    with pytest.raises(FloatingPointError, match="the free phase diverged"):
        net.train_step(x, y)
    assert np.array_equal(before, net._flat)


def test_graphs_need_a_gpu_and_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="graph=True needs arrays='cupy'"):
        EqPropKernel(6, 12, 3, graph=True)

    def absent(cupy: Any) -> Any:
        raise RuntimeError("cuBLAS 13 cannot be called: no such file")

    monkeypatch.setattr(blas, "_library", absent)
    with pytest.raises(RuntimeError, match="graph=True needs cuBLAS: cuBLAS 13 cannot be called"):
        EqPropKernel(6, 12, 3, arrays=fake_cupy(), graph=True)
    x, y = batch(4)
    module = fake_cupy()
    net, plain = both(module)
    found = net.gradients(module.asarray(x), module.asarray(y))
    for name, value in plain.gradients(x, y).items():  # CuPy's own products do too
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12)


def test_a_step_that_waits_cannot_be_recorded(cupy: Any) -> None:
    recorder: Recorder[float] = Recorder(cupy)
    number = cupy.asarray(np.ones(2))
    with pytest.raises(RuntimeError, match="cannot be recorded: RuntimeError: cudaErrorStream"):
        recorder("key", lambda: float(number.sum()))
    assert recorder("other", lambda: number.sum()) == 2


def test_only_so_many_graphs_are_kept(cupy: Any) -> None:
    recorder: Recorder[Any] = Recorder(cupy)
    number = cupy.asarray(np.ones(2))
    for key in range(KEPT + 1):
        recorder(key, lambda: number + 1)
    assert list(recorder.graphs) == [KEPT]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("inner", [1, 4])
def test_products_of_views(cupy: Any, dtype: str, rows: int, columns: int, inner: int) -> None:
    """Whole arrays, transposed ones and parts of larger ones, also as results; strided ones."""
    product = Blas(cupy, dtype)

    def some(*shape: int) -> np.ndarray:
        return np.asarray(RNG.standard_normal(shape), dtype)

    lefts = some(rows, inner), some(inner, rows).T, some(rows, inner + 2)[:, 1 : inner + 1]
    rights = some(inner, columns), some(columns, inner).T, some(inner, 2 * columns)[:, ::2]
    for a in lefts:
        for b in rights:
            whole = np.full((rows, columns + 3), 7, dtype)
            product(a, b, whole[:, 2 : columns + 2])
            np.testing.assert_allclose(whole[:, 2 : columns + 2], a @ b, rtol=1e-5)
            assert (whole[:, :2] == 7).all() and (whole[:, columns + 2 :] == 7).all()


def test_a_transposed_result_is_refused(cupy: Any) -> None:
    with pytest.raises(ValueError, match="out must hold its rows one after the other"):
        Blas(cupy, "float64")(np.ones((2, 3)), np.ones((3, 4)), np.ones((4, 2)).T)
    assert leading((2, 3), (48, 16), 8) == (None, 0)


def test_cublas_is_told_of_streams_and_keeps_its_workspace(cupy: Any) -> None:
    product, a = Blas(cupy, "float64"), np.ones((2, 2))
    product(a, a, np.empty((2, 2)))
    product(a, a, np.empty((2, 2)))
    with cupy.cuda.Stream(non_blocking=True):
        product(a, a, np.empty((2, 2)))
    changes = ["cublasSetStream_v2", "cublasSetWorkspace_v2"]
    assert cupy.library.calls == ["cublasCreate_v2", *changes, *changes]


def test_a_status_is_an_error(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cublas, "gemm", lambda *_: 13)
    with pytest.raises(RuntimeError, match="cublasGemm failed with status 13"):
        Blas(cupy, "float32")(*(np.ones((2, 2), "float32") for _ in range(3)))

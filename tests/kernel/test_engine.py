"""EqPropKernel as an object: it learns, keeps its memory and dtype, and refuses bad input."""

from __future__ import annotations

import threading
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import EqPropKernel, LoopedMLP
from eqprop_lab.kernel import arrays

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 6)).astype("float32")
Y = RNG.integers(0, 3, 8)


def kernel(**options: Any) -> EqPropKernel:
    return EqPropKernel(6, 12, 3, seed=0, **options)


@pytest.mark.parametrize("estimator", ["centered", "response"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_loss_falls_on_a_fixed_batch(estimator: str, optimizer: str) -> None:
    """A gradient of the wrong sign climbs."""
    net = kernel(estimator=estimator, optimizer=optimizer, lr=1e-2)
    losses = [net.train_step(X, Y)["loss"] for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0] and net.contraction_bound() < net.rho


def peak(steps: int, hidden: int = 32, batch: int = 64, estimator: str = "centered") -> int:
    net = EqPropKernel(
        20, hidden, 4, seed=0, free_steps=steps, nudged_steps=steps, estimator=estimator
    )
    x = np.zeros((batch, 20), "float32")
    y = np.zeros(batch, int)
    net.train_step(x, y)
    tracemalloc.start()
    net.estimator.space = net.estimator._space(1)  # so that the buffers are made, and counted
    net.train_step(x, y)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("estimator", ["centered", "response"])
def test_memory_does_not_grow_with_the_steps(estimator: str) -> None:
    few, many = (peak(steps, estimator=estimator) for steps in (10, 1000))
    assert abs(many - few) < 0.01 * few
    assert few > 64 * 32 * 4  # or nothing was counted


def test_memory_grows_linearly_with_the_hidden_size() -> None:
    """Of a large batch, beside which the matrices (H, H) are small."""
    sizes = [peak(3, hidden, 4096) for hidden in (16, 32, 64)]
    steps = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert steps[1] / steps[0] == pytest.approx(2, rel=0.05)


def test_nothing_creeps_to_float64() -> None:
    net = kernel()
    net.train_step(X, Y)
    found = net.estimate(X, Y)
    held = [*net.parameters.values(), *found.gradients.values(), found.logits, found.loss]
    held += [*net.optimizer.memory, *vars(net.estimator.space.of(8)).values(), net.bound.rows]
    assert {a.dtype.name for a in held if isinstance(a, np.ndarray)} == {"float32"}


def test_two_threads_get_what_one_gets() -> None:
    """Two kernels side by side, and one that two threads share."""
    expected = kernel(estimator="response").gradients(X, Y)
    shared = kernel(estimator="response")
    wrong: list[str] = []

    def work(net: EqPropKernel) -> None:
        for _ in range(100):
            found = net.gradients(X, Y)
            wrong.extend(k for k, g in found.items() if not np.array_equal(g, expected[k]))

    nets = shared, shared, kernel(estimator="response"), kernel(estimator="response")
    threads = [threading.Thread(target=work, args=(net,)) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_that_is_made_has_the_same_numbers(dtype: str) -> None:
    net = kernel(dtype=dtype)
    net.train_step(X.astype(dtype), Y)
    for name, value in net.to_model(LoopedMLP).named_parameters():
        assert np.array_equal(value.detach().numpy(), net.parameters[name])
        assert value.detach().numpy().dtype == dtype


def test_to_a_model_and_back() -> None:
    net = kernel()
    net.train_step(X, Y)
    model = net.to_model(LoopedMLP)
    again = EqPropKernel.from_model(model)
    assert all(np.array_equal(a, again.parameters[n]) for n, a in net.parameters.items())
    assert net.to_model(model) is model
    assert np.array_equal(net.predict(X), net.logits(X).argmax(1))
    with pytest.raises(ValueError, match="model must be 6-12-3 with the cap 0.9"):
        net.to_model(LoopedMLP(6, 11, 3))
    with pytest.raises(TypeError, match="must be a LoopedMLP itself"):
        EqPropKernel.from_model(np)
    with pytest.raises(ValueError, match="model must be symmetric"):
        EqPropKernel.from_model(LoopedMLP(6, 12, 3, symmetric=False))


class FromCupy:
    """What the type of a CuPy array says of itself."""


FromCupy.__module__ = "cupy"


@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        (X.astype("float64"), Y, TypeError, "x has dtype float64, the kernel computes in float32"),
        (X[:0], Y[:0], ValueError, "x must hold at least one sample"),
        (X[:, :5], Y, ValueError, "x must hold a batch of 6 features"),
        (np.where(X == X[0, 0], np.nan, X), Y, ValueError, "x holds NaN"),
        (X.tolist(), Y, TypeError, "x must be an array of numpy, got builtins.list"),
        (FromCupy(), Y, TypeError, r"x must be an array of numpy, got cupy.* cupy.asnumpy\(x\)"),
        (X, Y + 1, ValueError, r"y must hold class indices 0..2, got values from \d to 3"),
        (X, Y[:3], ValueError, "y must have one target per sample: x holds 8"),
        (X, Y > 1, ValueError, "y must be class indices"),
        (X, np.full((8, 3), -1.0), ValueError, "finite and >= 0 for cross_entropy"),
    ],
)
def test_bad_batches_are_refused(x: Any, y: Any, error: type[Exception], text: str) -> None:
    net = kernel()
    before = net._flat.copy()
    with pytest.raises(error, match=text):
        net.train_step(x, y)
    assert np.array_equal(before, net._flat)


def test_a_parameter_stays_where_it_lies() -> None:
    """Another array under its name would be computed with, and never trained."""
    net = kernel()
    held = net.parameters["W_in.bias"]
    net.parameters["W_in.bias"] = np.full(12, 0.5)
    net.parameters["W_out.weight"] *= 2
    assert net.parameters["W_in.bias"] is held and (held == 0.5).all()
    net.train_step(X, Y)
    assert (held != 0.5).all() and np.shares_memory(held, net._flat)
    with pytest.raises(
        ValueError, match=r"W_in.bias has the shape \(12,\), got an array of \(3,\)"
    ):
        net.parameters["W_in.bias"] = np.zeros(3)
    with pytest.raises(KeyError, match="did you mean 'W_in.bias'"):
        net.parameters["W_in.bais"] = np.zeros(12)


def test_other_parameters_have_to_fit() -> None:
    net = kernel()
    given = dict(net.parameters)
    with pytest.raises(ValueError, match=r"W_out.bias must have the shape \(3,\), got \(4,\)"):
        net.estimate(X, Y, given | {"W_out.bias": np.zeros(4, "float32")})
    del given["W_in.weight"]
    with pytest.raises(ValueError, match="W_in.weight is missing"):
        net.estimate(X, Y, given)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"free_units": "tanh"}, TypeError, "free_units must be units .* got 'tanh'"),
        ({"nudged_units": 2}, TypeError, "nudged_units must be units .* got 2"),
        ({"arrays": torch}, TypeError, "NumPy's interface; torch has no ndarray, copyto"),
        ({"arrays": "jax"}, ValueError, "arrays must be one of 'numpy', 'cupy', got 'jax'"),
    ],
)
def test_bad_options_are_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        kernel(**options)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (LoopedMLP(6, 12, 3).bfloat16(), "float32 or float64 .* got torch.bfloat16"),
        (LoopedMLP(6, 12, 3).to("meta"), "its weights are on the meta device"),
    ],
)
def test_models_without_usable_numbers_are_refused(model: LoopedMLP, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EqPropKernel.from_model(model)


def test_an_answer_that_is_no_number_is_refused() -> None:
    net = kernel()
    net.parameters["W_out.weight"][0] = np.nan
    for ask in (net.logits, net.predict):
        with pytest.raises(FloatingPointError, match="the logits are not finite"):
            ask(X)
    with pytest.raises(FloatingPointError):
        net.train_step(X, Y)


def test_what_diverges_updates_nothing() -> None:
    net = kernel()
    net.parameters["W_in.weight"][0] = np.inf
    before = net._flat.copy()
    with pytest.raises(FloatingPointError, match="the free phase diverged"):
        net.train_step(X, Y)
    assert np.array_equal(before, net._flat)


def test_without_cupy_or_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(f"no {name}")

    monkeypatch.setattr(arrays.importlib, "import_module", absent)
    with pytest.raises(RuntimeError, match=r"needs CuPy, which does not import \(no cupy\)"):
        kernel(arrays="cupy")

    def broken(_: int) -> Any:
        raise OSError("no device")

    monkeypatch.setattr(arrays.importlib, "import_module", lambda _: SimpleNamespace(ones=broken))
    with pytest.raises(RuntimeError, match=r"needs a GPU .* \(no device\)"):
        kernel(arrays="cupy")

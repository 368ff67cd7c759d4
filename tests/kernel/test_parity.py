"""The kernel computes what the torch path does, and what references of their own do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import EqPropKernel, LoopedMLP, build_dataset, estimate_gradients
from eqprop_lab.instruments.gradient_check import exact_gradients
from eqprop_lab.kernel.units import LOGISTIC, TANH

DATA = build_dataset("digits")
OPTIMIZERS = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "adam": lambda p, lr: torch.optim.Adam(p, lr=lr),
}


def batch(number: int, dtype: torch.dtype, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    rows = slice(number * size, (number + 1) * size)
    return DATA.train.x[rows].to(dtype), DATA.train.y[rows]


def both_trained(
    optimizer: str, dtype: torch.dtype, steps: int, hidden: int = 48, lr: float = 1e-2
) -> tuple[EqPropKernel, LoopedMLP]:
    """A kernel and a model after the same steps from the same weights."""
    model = LoopedMLP(64, hidden, 10, seed=0).to(dtype)
    kernel = EqPropKernel.from_model(model, optimizer=optimizer, lr=lr, sigma="converged")
    torch_optimizer = OPTIMIZERS[optimizer](model.parameters(), lr)
    for number in range(steps):
        x, y = batch(number % 40, dtype)
        found = estimate_gradients(model, x, y)
        for name, parameter in model.named_parameters():
            parameter.grad = found[name]
        torch_optimizer.step()
        kernel.train_step(x.numpy(), y.numpy())
    return kernel, model


def apart(kernel: EqPropKernel, model: LoopedMLP) -> float:
    """The largest ||p - q|| / ||q|| of all parameters."""
    return max(
        float(np.linalg.norm(kernel.parameters[name] - q) / np.linalg.norm(q))
        for name, q in ((name, q.detach().numpy()) for name, q in model.named_parameters())
    )


@pytest.mark.parametrize("hidden", [48, 96])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_hundred_steps_in_float64(optimizer: str, hidden: int) -> None:
    kernel, model = both_trained(optimizer, torch.float64, 100, hidden)
    assert apart(kernel, model) < 1e-10


@pytest.mark.parametrize(("optimizer", "allowed"), [("sgd", 1e-4), ("adam", 1e-2)])
def test_a_hundred_steps_in_float32(optimizer: str, allowed: float) -> None:
    kernel, model = both_trained(optimizer, torch.float32, 100, lr=1e-3)
    assert apart(kernel, model) < allowed


@pytest.mark.parametrize("units", [TANH, LOGISTIC], ids=lambda units: units.name)
@pytest.mark.parametrize("steps", [0, 40])
def test_the_gradient_is_the_exact_one(steps: int, units: Any) -> None:
    """Against autograd through a float64 copy at its fixed point, with the true sigma."""
    x, y = batch(3, torch.float64)
    _, model = both_trained("adam", torch.float64, steps, 96)
    exact = exact_gradients(model, x, y)
    for estimator, allowed in (("response", 1e-8), ("centered", 2e-3)):
        kernel = EqPropKernel.from_model(
            model, estimator=estimator, beta=0.01, free_steps=400, nudged_steps=400,
            free_units=units, nudged_units=units,
        )  # fmt: skip
        for name, got in kernel.gradients(x.numpy(), y.numpy()).items():
            reference = exact[name].numpy()
            error = np.linalg.norm(got - reference) / np.linalg.norm(reference)
            assert error < allowed, (estimator, name, error)


def golden(p: dict[str, np.ndarray], x: Any, y: Any, cap: float, how: Any) -> dict[str, Any]:
    """The centered estimate with Python floats, one unit at a time: nothing is shared."""
    a = p["W_rec.parametrizations.weight.original"]
    n, classes = len(a), len(p["W_out.bias"])
    s = [[(a[i][j] + a[j][i]) / 2 for j in range(n)] for i in range(n)]
    sizes, vectors = np.linalg.eig(np.array(s))
    top = int(np.argmax(np.abs(sizes.real)))
    sigma, v = float(abs(sizes[top].real)), vectors[:, top].real
    k = 1 / math.sqrt(1 + (1.02 * sigma / cap) ** 2)
    grads: dict[str, Any] = {name: np.zeros_like(value) for name, value in p.items()}
    by_w = np.zeros((n, n))

    def slopes(h: list[float], label: int) -> list[float]:
        z = [
            sum(p["W_out.weight"][c][i] * h[i] for i in range(n)) + p["W_out.bias"][c]
            for c in range(classes)
        ]
        total = sum(math.exp(value) for value in z)
        return [math.exp(z[c]) / total - (c == label) for c in range(classes)]

    for row, label in zip(x, y, strict=True):
        u = [
            sum(w * value for w, value in zip(p["W_in.weight"][i], row, strict=True))
            + p["W_in.bias"][i]
            + p["W_rec.bias"][i]
            for i in range(n)
        ]

        def relaxed(
            h: list[float], steps: int, beta: float, u: list[float] = u, label: int = int(label)
        ) -> list[float]:
            for _ in range(steps):
                e = slopes(h, label)
                pull = [
                    sum(p["W_out.weight"][c][i] * e[c] for c in range(classes)) for i in range(n)
                ]
                h = [
                    math.tanh(u[i] + sum(k * s[i][j] * h[j] for j in range(n)) - beta * pull[i])
                    for i in range(n)
                ]
            return h

        free = relaxed([math.tanh(value) for value in u], how.free_steps, 0.0)
        plus, minus = (relaxed(free, how.nudged_steps, sign * how.beta) for sign in (1, -1))
        e = slopes(free, int(label))
        for i in range(n):
            c = (minus[i] - plus[i]) / (2 * how.beta * len(x))
            grads["W_in.bias"][i] += c
            grads["W_rec.bias"][i] += c
            grads["W_in.weight"][i] += c * row
            for j in range(n):
                by_w[i][j] += c * (plus[j] + minus[j]) / 2
        for c in range(classes):
            grads["W_out.bias"][c] += e[c] / len(x)
            for i in range(n):
                grads["W_out.weight"][c][i] += e[c] * free[i] / len(x)
    inner = sum(by_w[i][j] * s[i][j] for i in range(n) for j in range(n))
    slope = -(k**3) * (1.02 / cap) ** 2 * sigma * float(np.sign(sizes[top].real))
    by_s = [[k * by_w[i][j] + inner * slope * v[i] * v[j] for j in range(n)] for i in range(n)]
    grads["W_rec.parametrizations.weight.original"] = np.array(
        [[(by_s[i][j] + by_s[j][i]) / 2 for j in range(n)] for i in range(n)]
    )
    return grads


@pytest.mark.parametrize(("dtype", "allowed"), [("float64", 1e-9), ("float32", 2e-4)])
def test_the_golden_reference(dtype: str, allowed: float) -> None:
    kernel = EqPropKernel(5, 7, 3, seed=1, dtype=dtype, free_steps=20, nudged_steps=6, beta=0.1)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 5)).astype(dtype), rng.integers(0, 3, 4)
    wide = {name: value.astype(np.float64) for name, value in kernel.parameters.items()}
    expected = golden(wide, x.astype(np.float64), y, kernel.rho, kernel.how)
    for name, got in kernel.gradients(x, y).items():
        assert got.dtype == dtype
        size = np.linalg.norm(expected[name])
        assert np.linalg.norm(got - expected[name]) < allowed * size, name

"""The kernel computes what the torch path does, and what references of their own do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import EqPropKernel, LoopedMLP, build_dataset, estimate_gradients
from eqprop_lab.instruments.gradient_check import exact_gradients
from eqprop_lab.kernel.units import LOGISTIC, TANH
from tests.reference import adjoint_gradients

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


@pytest.mark.parametrize("trained", [0, 60])
def test_so_is_that_of_a_kernel_which_trains_itself(trained: int) -> None:
    """Against the adjoint equations, solved as such, with sigma by an SVD. The kernel follows
    sigma's vector as it does by default: by a step, it lags.
    """
    kernel = EqPropKernel(
        64, 96, 10, seed=0, free_steps=200, nudged_steps=200, estimator="response", lr=3e-3,
        dtype="float64",
    )  # fmt: skip
    for number in range(trained):
        x, y = batch(number % 40, torch.float64)
        kernel.train_step(x.numpy(), y.numpy())
    x, y = batch(3, torch.float64)
    exact = adjoint_gradients(kernel.to_model(LoopedMLP), x, y)
    for name, got in kernel.gradients(x.numpy(), y.numpy()).items():
        error = np.linalg.norm(got - exact[name]) / np.linalg.norm(exact[name])
        assert error < ((3e-4 if "original" in name else 1e-6) if trained else 1e-8), (name, error)

"""Costs: the derivative is the derivative of the value, and targets that do not fit are refused."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab.equilibrium.activations import tanh
from eqprop_lab.equilibrium.costs import make_cost


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_grad_is_the_derivative_of_value(name: str) -> None:
    z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    cost = make_cost(name, torch.tensor([0, 3, 1, 1, 2]), 4, z)
    (slope,) = torch.autograd.grad(cost.value(z).sum(), z)
    torch.testing.assert_close(cost.grad(z), slope)


def test_cross_entropy_is_torchs() -> None:
    z, y = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    expected = torch.nn.functional.cross_entropy(z, y, reduction="none")
    torch.testing.assert_close(make_cost("cross_entropy", y, 4, z).value(z), expected)


@pytest.mark.parametrize(
    ("y", "error"),
    [
        (torch.tensor([0, 4]), ValueError),
        (torch.tensor([-1, 0]), ValueError),
        (torch.tensor([True, False]), ValueError),
        (torch.zeros(2, 1, dtype=torch.long), ValueError),
        (torch.zeros(2, 3), ValueError),
        ([0, 1], TypeError),
    ],
)
def test_targets_that_do_not_fit_are_refused(y: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="y "):
        make_cost("cross_entropy", y, 4, torch.zeros(2, 4))  # type: ignore[arg-type]


def test_tanh_agrees_with_torch_and_carries_gradients() -> None:
    values = torch.linspace(-20, 20, 401)
    assert (tanh(values) - torch.tanh(values)).abs().max() <= 2e-7
    torch.testing.assert_close(tanh(values.reshape(-1, 1).T), torch.tanh(values.reshape(-1, 1).T), rtol=0, atol=2e-7)
    leaf = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh, leaf)

"""Costs: the derivative is the derivative of the value, and targets that do not fit are refused."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab.equilibrium.activations import tanh
from eqprop_lab.equilibrium.costs import Slope, make_cost

HOT = torch.nn.functional.one_hot(torch.tensor([0, 3, 1, 1, 2]), 4).double()
TARGETS = {
    "indices": torch.tensor([0, 3, 1, 1, 2]),
    "one-hot": HOT,
    "smoothed": 0.9 * HOT + 0.025,
    "soft": torch.linspace(0.1, 2.0, 20).reshape(5, 4).softmax(1).double(),
    "multi-hot": torch.tensor(
        [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1], [1, 0, 1, 1.0]]
    ),
    "some rows zero": HOT * torch.tensor([[1.0], [0.0], [1.0], [0.0], [1.0]]),
    "all zero": torch.zeros(5, 4),
    "weighted rows": HOT * torch.tensor([[3.0], [0.5], [1.0], [20.0], [1e-3]]),
}


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
@pytest.mark.parametrize("targets", TARGETS)
def test_grad_is_the_derivative_of_value(name: str, targets: str) -> None:
    z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    cost = make_cost(name, TARGETS[targets], 4, z)
    (slope,) = torch.autograd.grad(cost.value(z).sum(), z)
    torch.testing.assert_close(cost.grad(z), slope)


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
@pytest.mark.parametrize("targets", TARGETS)
def test_nudges_are_beta_times_the_derivative_phase_by_phase(name: str, targets: str) -> None:
    z = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    betas = torch.tensor([0.7, -0.2, 0.05], dtype=torch.float64)
    cost = make_cost(name, TARGETS[targets], 4, z)
    value = torch.stack([b * cost.value(phase).sum() for b, phase in zip(betas, z, strict=True)])
    (expected,) = torch.autograd.grad(value.sum(), z)
    assert isinstance(cost.grad, Slope)
    rows = z.detach().flatten(0, 1)
    before = rows.clone()
    torch.testing.assert_close(cost.grad.nudges(betas)(rows), expected.flatten(0, 1))
    assert torch.equal(rows, before)


@pytest.mark.parametrize("targets", TARGETS)
def test_on_complex_logits_grad_is_the_analytic_continuation(targets: str) -> None:
    # An analytic function obeys f(z + ih) = f(z) + i h f'(z) + O(h^2): the imaginary part is the
    # real derivative.
    z, turn = torch.randn(2, 5, 4, dtype=torch.float64)
    cost = make_cost("cross_entropy", TARGETS[targets], 4, z)
    step = 1e-20
    along = cost.grad(torch.complex(z, step * turn)).imag / step
    expected = torch.autograd.functional.hvp(lambda z: cost.value(z).sum(), z, turn)[1]
    torch.testing.assert_close(along, expected)


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
        (torch.tensor([[0.5, 0.6, -0.1, 0.0]] * 2), ValueError),
        (torch.tensor([[1.0, 0.0, float("nan"), 0.0]] * 2), ValueError),
        (torch.tensor([[1.0, 0.0, float("inf"), 0.0]] * 2), ValueError),
        # beyond float32
        (torch.tensor([[1e300, 0.0, 0.0, 0.0]] * 2, dtype=torch.float64), ValueError),
        (torch.zeros(0, 4), ValueError),
        (torch.zeros(0, dtype=torch.long), ValueError),
        (torch.tensor(0.5), ValueError),
    ],
)
def test_targets_that_do_not_fit_are_refused(y: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="y "):
        make_cost("cross_entropy", y, 4, torch.zeros(2, 4))  # type: ignore[arg-type]


def test_a_refused_target_is_named_with_its_place() -> None:
    y = torch.zeros(3, 4)
    y[1, 2] = -0.25
    with pytest.raises(
        ValueError, match=r"y with float targets must be finite and >= 0 .* got -0.25 at \[1, 2\]"
    ):
        make_cost("cross_entropy", y, 4, y)
    y[1, 2] = float("nan")
    with pytest.raises(
        ValueError, match=r"y with float targets must be finite, got nan at \[1, 2\]"
    ):
        make_cost("mse", y, 4, y)
    y[1, 2] = -0.25
    # a regression may ask for less than nothing
    assert make_cost("mse", y, 4, y).value(y).tolist() == [0, 0, 0]


def test_tanh_agrees_with_torch_and_carries_gradients() -> None:
    values = torch.linspace(-20, 20, 401)
    assert (tanh(values) - torch.tanh(values)).abs().max() <= 2e-7
    torch.testing.assert_close(
        tanh(values.reshape(-1, 1).T), torch.tanh(values.reshape(-1, 1).T), rtol=0, atol=2e-7
    )
    leaf = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh, leaf)

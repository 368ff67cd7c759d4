"""The mean and half difference are the two nudged phases, without the rounding of their
subtraction.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqprop_lab import ConvEqProp, DeepEqProp, LoopedMLP, build_dataset, estimate_gradients
from eqprop_lab.equilibrium.activations import tanh_pair
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.gradients import Gradients
from eqprop_lab.instruments.gradient_check import exact_gradients

TRAIN = build_dataset("digits").train
X, Y = TRAIN.x[:16].double(), TRAIN.y[:16]


class Plain(LoopedMLP):
    """Without a pair of its own: the general one."""

    activate_pair = EquilibriumModel.activate_pair


MODELS = {
    "looped": lambda: LoopedMLP(64, 32, 10, seed=0),
    "general pair": lambda: Plain(64, 32, 10, seed=0),
    "conv": lambda: ConvEqProp(1, [4, 6, 8], 10, gamma=0.1, image_size=8, seed=0),
    "deep": lambda: DeepEqProp(64, [16, 12], 10, seed=0),
}


def worst(got: Gradients, expected: Gradients) -> float:
    assert got.keys() == expected.keys()
    return max(float((got[k].double() - e).norm() / e.norm()) for k, e in expected.items())


def both(
    model: EquilibriumModel, x: Tensor, y: Tensor, beta: float, steps: int
) -> tuple[Gradients, Gradients]:
    """(by mean and difference, by stacking)."""
    found = []
    for affine in (True, False):
        model.mean_difference = affine
        found.append(
            estimate_gradients(model, x, y, "centered", beta, free_steps=steps, nudged_steps=steps)
        )
    return found[0], found[1]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beta", [0.03, 0.5])
@pytest.mark.parametrize("steps", [2, 4, 30])
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_it_equals_stacking_at_any_beta_and_number_of_steps(
    name: str, beta: float, steps: int
) -> None:
    pair, stack = both(MODELS[name]().double(), X, Y, beta, steps)
    assert worst(pair, stack) <= 1e-9


@pytest.mark.filterwarnings("ignore::eqprop_lab.RoundingWarning")
def test_float32_keeps_the_lower_layers_where_stacking_loses_them() -> None:
    model = ConvEqProp(3, [8, 16, 16, 16], 10, gamma=0.034, seed=0)
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = torch.arange(8) % 10
    exact = exact_gradients(model, x, y)
    pair, stack = both(model, x, y, 0.03, 20)
    assert worst(pair, exact) <= 1e-4
    assert worst(stack, exact) > 0.1


def test_the_difference_of_two_tanh_keeps_its_digits() -> None:
    mean = torch.linspace(-3, 3, 61)
    middle, difference = tanh_pair(torch.cat([mean, torch.full_like(mean, 1e-9)])).chunk(2)
    expected = 1e-9 * (1 - torch.tanh(mean.double()) ** 2)
    torch.testing.assert_close(difference.double(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(middle, torch.tanh(mean))


def test_the_pair_of_tanh_is_right_for_large_differences_too() -> None:
    mean, half = torch.meshgrid(
        *[torch.linspace(-4, 4, 41, dtype=torch.float64)] * 2, indexing="ij"
    )
    p, r = torch.tanh(mean + half), torch.tanh(mean - half)
    middle, difference = tanh_pair(torch.cat([mean, half])).chunk(2)
    torch.testing.assert_close(middle, (p + r) / 2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(difference, (p - r) / 2, rtol=1e-10, atol=1e-12)


def test_a_nudge_of_one_model_reports_a_missed_tolerance() -> None:
    from eqprop_lab import ConvergenceWarning

    model = MODELS["conv"]().double()
    with pytest.warns(ConvergenceWarning, match="relaxation not converged"):
        estimate_gradients(model, X, Y, "centered", free_steps=100, nudged_steps=2, tol=1e-9)

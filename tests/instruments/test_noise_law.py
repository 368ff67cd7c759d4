"""The law of noise: its closed form against the curve, its numbers against those of a search."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import LoopedMLP, NoiseLaw, Noisy, build_dataset, estimate_gradients, noise_law
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.instruments.noise_law import flat, spread

DATA = build_dataset("digits")
X, Y = DATA.train.x[:24].double(), DATA.train.y[:24]
PHASES = {"free_steps": 40, "nudged_steps": 25}


def model() -> LoopedMLP:
    return LoopedMLP(64, 16, 10, seed=0).double()


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("noise", [1e-4, 1e-2])
def test_the_best_beta_is_where_the_curve_is_lowest(noise: float, order: int) -> None:
    law = NoiseLaw(0.03, noise, order)
    betas = np.geomspace(1e-3, 30, 20_001)
    errors = (0.03 * betas**order) ** 2 + (noise / betas) ** 2
    assert law.best_beta == pytest.approx(betas[errors.argmin()], rel=1e-3)
    assert law.error(0.5) == pytest.approx(math.sqrt((0.03 * 0.5**order) ** 2 + 4 * noise**2))


def test_spread_is_the_length_of_what_varies() -> None:
    drawn = torch.randn(4000, 9, generator=torch.Generator().manual_seed(0)) * 2 + 5
    assert spread(drawn) == pytest.approx(6, rel=0.02)


@pytest.mark.parametrize("estimator", ["one_sided", "centered"])
def test_both_numbers_are_those_of_the_gradients_at_other_betas(estimator: str) -> None:
    """The law foretells the error at a beta that it has not seen."""
    device = Noisy(model(), states=1e-3, seed=0)
    law = noise_law(device, X, Y, estimator, **PHASES)
    exact = flat(estimate_gradients(device.model, X, Y, "implicit", **PHASES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for beta in (0.02, 0.4):
            away = [
                flat(estimate_gradients(device, X, Y, estimator, beta, **PHASES)) - exact
                for _ in range(6)
            ]
            error = math.sqrt(float(torch.stack(away).square().sum(1).mean()))
            assert error / float(exact.norm()) == pytest.approx(law.error(beta), rel=0.2)


def test_the_order_of_a_circle_is_the_number_of_its_nudges() -> None:
    device = Noisy(model(), states=1e-3, seed=0)
    how: dict[str, Any] = {"repeats": 2, **PHASES}
    assert noise_law(device, X, Y, "holomorphic", points=6, **how).order == 6
    assert noise_law(device, X, Y, "asymmetric", **how).order == 2


@pytest.mark.parametrize(
    ("device", "how", "said"),
    [
        ({"states": 0.1, "each": "batch"}, {}, "common to all phases"),
        ({"states": 0.1}, {"estimator": "response"}, "divides by beta"),
        ({"states": 0.1}, {"repeats": 1}, "repeats"),
        ({"states": 0.1}, {"bent_at": 0.0}, "bent_at"),
        ({"state_bits": 8}, {}, "nothing of it is random"),
    ],
)
def test_what_has_no_law(device: dict[str, Any], how: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        noise_law(Noisy(model(), **device), X, Y, **how)


def test_numbers_that_are_no_law() -> None:
    with pytest.raises(TypeError, match="device must be a Noisy"):
        noise_law(model(), X, Y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="curvature must be"):
        NoiseLaw(0.0, 1.0)
    with pytest.raises(ValueError, match="beta must be"):
        NoiseLaw(1.0, 1.0).error(0.0)

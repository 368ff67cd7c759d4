"""The explorer of noise: its marks are gradients of the device, its law foretells them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from eqprop_lab import Noisy, estimate_gradients
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.notebook.explorers.noise_and_beta import (
    DIGITS,
    PHASES,
    NoiseAndBeta,
    budget,
    network,
)
from eqprop_lab.notebook.explorers.small_networks import digits


@pytest.mark.parametrize("estimator", ["one_sided", "centered", "holomorphic"])
def test_the_marks_lie_on_the_law_where_nothing_is_rounded(estimator: str) -> None:
    for beta in (0.02, 0.3):
        found = budget(2e-3, beta, estimator, "as they are")
        assert found.error == pytest.approx(found.law.error(beta), rel=0.25)


def test_the_marks_are_errors_of_the_estimator_on_a_device_of_the_same_seed() -> None:
    x, y = digits(DIGITS)
    device = Noisy(network(), states=1e-2, state_bits=8, weight_bits=8, seed=1)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        got = estimate_gradients(device, x, y, "centered", 0.1, **PHASES)
    loss = torch.nn.functional.cross_entropy(network()(x), y)
    wanted = torch.autograd.grad(loss, list(network().parameters()))
    pairs = list(zip(got.values(), wanted, strict=True))
    away = sum(float((g - w).square().sum()) for g, w in pairs)
    error = (away / sum(float(w.square().sum()) for _, w in pairs)) ** 0.5
    assert budget(1e-2, 0.1, "centered", "8 bits").errors[0] == pytest.approx(error, rel=1e-4)


def test_fewer_bits_and_a_weaker_nudge_are_farther_off() -> None:
    fine, rough = (budget(1e-5, 0.1, "centered", bits).error for bits in ("8 bits", "4 bits"))
    assert budget(1e-5, 0.1, "centered", "as they are").error < fine < rough
    assert budget(1e-5, 0.01, "centered", "8 bits").error > 3 * fine


def test_the_sentence_says_what_is_drawn() -> None:
    explorer = NoiseAndBeta()
    explorer.set(noise=1e-2, beta=0.3, estimator="holomorphic", bits="bfloat16")
    said = explorer.describe(explorer.data, **explorer.values)
    assert said.startswith("holomorphic, noise 0.01 a unit, states and weights bfloat16")
    assert f"{explorer.data.error:.1e} off" in said and len(explorer.data.errors) > 1
    assert np.isfinite(explorer.data.got).all() and not explorer.errors

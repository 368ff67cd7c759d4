"""The explorer of precision and nudge: its batch of nudges gives the package's own estimates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab.equilibrium.gradients import Settings, estimate
from eqprop_lab.instruments.rounded_products import FLOAT32, rounded_products
from eqprop_lab.notebook.explorers.precision_and_nudge import (
    BETAS,
    CENTERED,
    DIGITS,
    FREE_STEPS,
    NUDGED_STEPS,
    ONE_SIDED,
    RESPONSE,
    SHOWN,
    PrecisionAndNudge,
    curve,
    exact,
    gradients,
    network,
    off,
)
from eqprop_lab.notebook.explorers.small_networks import digits
from eqprop_lab.notebook.style import PALETTE, new_figure


@pytest.fixture(scope="module")
def explorer() -> PrecisionAndNudge:
    return PrecisionAndNudge()


@pytest.mark.parametrize("way", [CENTERED, ONE_SIDED, RESPONSE])
def test_a_batch_of_nudges_is_the_estimate_of_the_package(way: str) -> None:
    x, y = digits(DIGITS)
    for beta, found in zip((1.0, 0.1), gradients(None, way, (1.0, 0.1)), strict=True):
        settings = Settings(beta, FREE_STEPS, NUDGED_STEPS)
        if way == RESPONSE:
            settings = Settings(1.0, FREE_STEPS, NUDGED_STEPS)
        wanted = estimate(network(double=True), x, y, way, settings)[0].gradients
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", [CENTERED, ONE_SIDED])
def test_rounded_ones_are_as_far_off_as_the_packages_own(way: str) -> None:
    x, y = digits(DIGITS)
    with rounded_products(8):
        settings = Settings(0.1, FREE_STEPS, NUDGED_STEPS)
        wanted = estimate(network(), x.float(), y, way, settings)[0].gradients
    (found,) = gradients(8, way, (0.1,))
    assert 0.3 < off(found) / off(wanted) < 3


def test_curves_have_the_slopes_of_theory() -> None:
    logs = np.log10(BETAS)
    sharp = {way: np.polyfit(logs[3:6], np.log10(curve(None, way)[3:6]), 1)[0] for way in (
        CENTERED, ONE_SIDED
    )}  # fmt: skip
    assert sharp[CENTERED] == pytest.approx(2, abs=0.15)
    assert sharp[ONE_SIDED] == pytest.approx(1, abs=0.15)
    rough = np.polyfit(logs[:3], np.log10(curve(10, CENTERED)[:3]), 1)[0]
    assert rough == pytest.approx(-1, abs=0.35)
    assert np.ptp(curve(10, RESPONSE)) == 0 and curve(10, RESPONSE)[0] < 1e-3


def test_more_bits_are_better_and_all_of_them_change_nothing() -> None:
    errors = [curve(bits, CENTERED)[0] for bits in (5, 8, 11, 14)]
    assert errors == sorted(errors, reverse=True)
    (whole,) = gradients(FLOAT32, CENTERED, (0.1,))
    x, y = digits(DIGITS)
    settings = Settings(0.1, FREE_STEPS, NUDGED_STEPS)
    wanted = estimate(network(), x.float(), y, CENTERED, settings)[0].gradients
    torch.testing.assert_close(whole[SHOWN], wanted[SHOWN], rtol=1e-3, atol=1e-6)


def test_the_sentence_says_the_error_at_the_chosen_beta(explorer: PrecisionAndNudge) -> None:
    explorer.set(bits=9, beta=0.05, way=CENTERED)
    (found,) = gradients(9, CENTERED, (0.05,))
    assert f"9 bits and in float64: {off(found):.1e} at beta 0.05" in explorer.alt
    best = int(curve(9, CENTERED).argmin())
    assert f"{curve(9, CENTERED)[best]:.1e} at beta {BETAS[best]:.2g}" in explorer.alt
    entries = found[SHOWN].flatten().double().numpy()
    alike = np.corrcoef(exact()[SHOWN].flatten().numpy(), entries)[0, 1]
    assert f"correlation with the exact one {alike:.3f}" in explorer.alt
    explorer.set(way=RESPONSE)
    assert "without a nudge" in explorer.alt and "smallest error" not in explorer.alt


def test_the_picture_has_both_curves_the_chosen_beta_and_the_entries() -> None:
    explorer = PrecisionAndNudge(bits=7, beta=0.02)
    figure = new_figure(*explorer.size)
    for show in explorer.build(figure):
        show(explorer.data)
    left, right = figure.axes
    lines = {line.get_color(): line for line in left.lines}
    np.testing.assert_array_equal(lines[PALETTE[0]].get_ydata(), curve(7, CENTERED))
    np.testing.assert_allclose(lines[PALETTE[2]].get_ydata(), curve(None, CENTERED))
    assert lines[PALETTE[1]].get_xdata() == [0.02]
    dots = right.lines[-1]
    np.testing.assert_array_equal(dots.get_xdata(), exact()[SHOWN].flatten().numpy())
    assert f"{explorer.data.error:.1e}" in left.get_title("left")


@pytest.mark.parametrize("change", [{"bits": 5}, {"beta": 0.3}, {"way": ONE_SIDED}])
def test_every_control_changes_picture_and_sentence(
    explorer: PrecisionAndNudge, change: dict[str, Any]
) -> None:
    explorer.reset()
    png, alt = explorer.png, explorer.alt
    explorer.set(**change)
    assert explorer.png != png and explorer.alt != alt and explorer.errors == []

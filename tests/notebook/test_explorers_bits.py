"""Few bits of a settled state: what is drawn is what rounding does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqprop_lab.notebook.explorers.bits_of_a_state import (
    BITS,
    KINDS,
    BitsOfAState,
    curves,
    rounded_to,
)


@pytest.fixture(scope="module")
def explorer() -> BitsOfAState:
    return BitsOfAState()


def test_rounding_has_so_many_values() -> None:
    value = torch.linspace(-1.0, 1.0, 1000)
    for bits in (2, 3, 8):
        assert len(rounded_to(value, bits).unique()) == 2**bits - 1
        assert float((rounded_to(value, bits) - value).abs().max()) <= 0.501 / (2 ** (bits - 1) - 1)


def test_every_bit_halves_the_distance() -> None:
    for kind in KINDS:
        slope = np.polyfit(BITS[3:], np.log2(curves()[kind][3:]), 1)[0]
        assert slope == pytest.approx(-1, abs=0.15)


def test_a_rounded_state_stands_still_and_rounded_weights_settle(explorer: BitsOfAState) -> None:
    few = explorer.compute(bits=4, kind="state", image=0)
    assert few.residuals[-1] == 0 and few.distance > 0.01
    weights = explorer.compute(bits=4, kind="weights", image=0)
    assert weights.residuals[-1] < 1e-5 and weights.distance > 0.01
    assert 0.2 < weights.residuals[5] / weights.plain[5] < 5


def test_what_is_shown(explorer: BitsOfAState) -> None:
    explorer.set(bits=4, kind="state", image=1)
    assert explorer.errors == [] and "residual is exactly 0" in explorer.alt
    explorer.set(kind="weights", bits=12)
    assert explorer.errors == [] and "The class is the same" in explorer.alt

"""The explorer of scaling out: what it draws is the model, and it says that it is one."""

from __future__ import annotations

import numpy as np
import pytest

from eqprop_lab.instruments.scaling import Link, StepTime, message_bytes, speed_up
from eqprop_lab.notebook.controls import Slider
from eqprop_lab.notebook.explorers.scale_out import RANKS, ScaleOut
from eqprop_lab.notebook.style import new_figure

STEPS = {"EqProp": StepTime(1e-3, 2e-5), "backprop": StepTime(2e-4, 2e-6)}


@pytest.fixture(scope="module")
def explorer() -> ScaleOut:
    return ScaleOut(STEPS, parameters=10_000, outputs=10)


def test_the_curves_are_those_of_the_model(explorer: ScaleOut) -> None:
    explorer.set(ranks=12, bandwidth=100.0, latency=100.0, batch=256, parameters=1e5)
    size = message_bytes(100_000, 256, 10)
    link = Link(1e-4, 100e9 / 8)
    for rule, step in STEPS.items():
        grown = StepTime(step.fixed, step.sample * 10)
        np.testing.assert_allclose(
            explorer.data.gain[rule], speed_up(grown, link, 256, size, RANKS), rtol=1e-9
        )
        assert explorer.data.here[rule] == pytest.approx(
            float(speed_up(grown, link, 256, size, 12))
        )
    # more work for the same message
    assert explorer.data.here["EqProp"] > explorer.data.here["backprop"]
    assert explorer.data.message["EqProp"] < explorer.data.message["backprop"]


def test_the_handle_and_the_axis_of_processes_move_alike(explorer: ScaleOut) -> None:
    (slider,) = (one for one in explorer.make_controls() if one.name == "ranks")
    assert isinstance(slider, Slider) and slider.log
    figure = new_figure(*explorer.size)
    explorer.draw(figure, explorer.data)
    assert figure.axes[0].get_xscale() == "log"
    stops = [slider.rounded(10 ** (k * slider.page_step)) for k in range(9)]
    assert stops == [2**k for k in range(9)] and slider.high == stops[-1] == RANKS[-1]


def test_the_sentence_says_that_it_is_a_model(explorer: ScaleOut) -> None:
    explorer.set(ranks=1)
    text = explorer.describe(explorer.data, **explorer.values)
    assert text.startswith("Modelled, not measured: 1 processes") and "1 times as quick, 0%" in text
    assert not explorer.errors


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must hold 1 to 7 rules, got 0"):
        ScaleOut({}, 10, 10)
    with pytest.raises(ValueError, match="parameters must be an integer >= 1"):
        ScaleOut(STEPS, 0, 10)

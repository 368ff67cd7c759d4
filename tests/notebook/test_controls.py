from __future__ import annotations

import math
from typing import Any

import pytest

from eqprop_lab.notebook import Choice, Slider, Toggle
from eqprop_lab.notebook.panel import Controls

BETA = Slider("beta", 0.001, 1.0, 0.03, 0.1, "nudge strength", log=True)
STEPS = Slider("steps", 1, 30, 10, 1, "relaxation steps")


def test_the_start_of_a_log_slider_is_on_a_step() -> None:
    slider = BETA.widget()
    steps = (math.log10(0.03) - slider.min) / slider.step
    assert steps == pytest.approx(round(steps)) and slider.step == pytest.approx(0.1, rel=0.05)
    assert Slider("a", 0.01, 1.0, 0.01, 0.25, "x", log=True).page_step == 0.25


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Slider("a", 2, 1, 1, 1, "x"), "low < high"),
        (lambda: Slider("a", 0, 1, 0.5, 0, "x"), "step > 0"),
        (lambda: Slider("a", 0, 1, 0.5, 0.1, "x", log=True), "low > 0 on a log slider"),
        (
            lambda: Slider("a", 0.1, 1.0, 0.45, 0.1, "x"),
            "value = 0.45 is not low 0.1 plus whole steps of 0.1",
        ),
        (lambda: Slider("a", 0, 1, 2, 1, "x"), "a = 2 is out of range"),
        (lambda: Slider("a", 0, float("inf"), 2, 1, "x"), "high = inf is not a finite number"),
        (lambda: Slider("a b", 0, 1, 1, 1, "x"), "not a Python name"),
        (lambda: Slider("a", 0, 1, 1, 1, " "), "has no label"),
        (lambda: Choice("a", (1, 2), 3, "x"), "a = 3 is not accepted"),
        (lambda: Toggle("a", 1, "x"), "True or False"),  # type: ignore[arg-type]
        (lambda: Controls([STEPS, STEPS], lambda: None, {}), "two controls have the same name"),
    ],
)
def test_impossible_controls_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np
import pytest

from eqprop_lab.notebook import Choice, Slider, Toggle
from eqprop_lab.notebook.controls import Control
from eqprop_lab.notebook.panel import Controls

BETA = Slider("beta", 0.001, 1.0, 0.03, 0.1, "nudge strength", log=True)
STEPS = Slider("steps", 1, 30, 10, 1, "relaxation steps")
RHO = Slider("rho", 0.1, 0.95, 0.9, 0.05, "norm = spectral", "1/s")
KIND = Choice("kind", ("tanh", "ball"), "tanh", "activation")
GRID = Toggle("grid", True, "show grid")
ALL: list[Control] = [BETA, STEPS, RHO, KIND, GRID]


def _controls(**start: Any) -> tuple[Controls, list[int]]:
    calls: list[int] = []
    return Controls(ALL, lambda: calls.append(1), start), calls


def test_every_control_has_a_label_and_sliders_a_unit_and_a_read_out() -> None:
    widgets = _controls()[0].widgets
    assert [type(w).__name__ for w in widgets.values()] == [
        "FloatLogSlider",
        "IntSlider",
        "FloatSlider",
        "Dropdown",
        "Checkbox",
    ]
    assert (
        widgets["rho"].description == "norm = spectral [1/s]"
        and widgets["steps"].description == "relaxation steps"
    )
    assert all(widgets[name].readout for name in ("beta", "steps", "rho"))
    assert widgets["rho"].readout_format == ".2f"
    assert (widgets["rho"].min, widgets["rho"].max, widgets["rho"].step) == (0.1, 0.95, 0.05)


def test_values_keep_their_type_and_the_start_can_be_overridden() -> None:
    controls, calls = _controls(steps=np.int64(12), beta=1)
    assert controls.values == {"beta": 1.0, "steps": 12, "rho": 0.9, "kind": "tanh", "grid": True}
    assert isinstance(controls.values["steps"], int) and isinstance(controls.values["beta"], float)
    assert controls.widgets["steps"].value == 12 and calls == []


def test_moving_a_widget_calls_back_and_assigning_does_not() -> None:
    controls, calls = _controls()
    controls.assign({"steps": 20})
    assert controls.widgets["steps"].value == 20 and calls == []
    controls.widgets["steps"].value = 21
    controls.widgets["kind"].value = "ball"
    assert (controls.values["steps"], controls.values["kind"], calls) == (21, "ball", [1, 1])


def test_the_rounding_a_page_sends_back_is_no_move() -> None:
    controls, calls = _controls()
    controls.widgets["beta"].value = 0.03 * (1 + 1e-14)
    assert controls.values["beta"] == 0.03 and calls == []


@pytest.mark.parametrize(("slider", "held"), [(RHO, 0.23), (BETA, 0.5)])
def test_the_nearest_step_a_page_sends_back_is_no_move_but_the_next_step_is(
    slider: Slider, held: float
) -> None:
    controls, calls = _controls()
    controls.assign({slider.name: held})
    widget = controls.widgets[slider.name]
    low, place = (math.log10(slider.low), math.log10(held)) if slider.log else (slider.low, held)
    nearest = low + round((place - low) / slider.page_step) * slider.page_step
    for position, moved in ((nearest, False), (nearest + slider.page_step, True)):
        widget.value = sent = 10**position if slider.log else position
        assert (controls.values[slider.name], len(calls)) == (
            (slider.rounded(sent), 1) if moved else (held, 0)
        )


def test_the_end_of_a_log_slider_is_inside_its_range() -> None:
    controls, _ = _controls()
    controls.widgets["beta"].value = 10 ** controls.widgets["beta"].min
    assert controls.values["beta"] >= 0.001


def test_reset_returns_to_the_start() -> None:
    controls, calls = _controls(steps=12)
    controls.assign({"steps": 20, "grid": False})
    controls.reset()
    assert (
        controls.values["steps"] == controls.widgets["steps"].value == 12
        and controls.values["grid"] is True
    )
    assert calls == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"betta": 0.1}, "unknown control 'betta'; there are: beta, steps, rho, kind, grid"),
        ({"beta": 2}, "beta = 2 is out of range; a number from 0.001 to 1.0"),
        ({"beta": float("nan")}, "beta = nan is out of range"),
        ({"beta": "0.1"}, "beta = '0.1' is not accepted"),
        ({"steps": 2.5}, "steps = 2.5 is not accepted; an integer from 1 to 30"),
        ({"steps": True}, "steps = True is not accepted"),
        ({"kind": "relu"}, "kind = 'relu' is not accepted; one of"),
        ({"grid": 1}, "grid = 1 is not accepted; True or False"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], words: str) -> None:
    controls, _ = _controls()
    with pytest.raises(ValueError) as error:
        controls.check(values)
    assert words in str(error.value)


def test_the_parameters_cell_is_python_and_its_comments_hide_nothing_from_papermill() -> None:
    controls, _ = _controls(kind="ball", beta=0.3)
    text = controls.as_parameters()
    assert text.splitlines()[2] == "rho: float = 0.9  # norm : spectral [1/s]"
    scope: dict[str, Any] = {}
    exec(compile(ast.parse(text), "parameters", "exec"), scope)
    assert {name: scope[name] for name in controls.values} == controls.values
    assert all(line.count("=") == 1 for line in text.splitlines())


def test_the_settings_in_words() -> None:
    assert _controls()[0].describe() == (
        "nudge strength 0.03, relaxation steps 10, norm = spectral 0.9 1/s, activation tanh, "
        "show grid True"
    )


def test_controls_can_be_locked() -> None:
    controls, _ = _controls()
    controls.disable(True)
    assert all(widget.disabled for widget in controls.widgets.values())
    controls.disable(False)
    assert not any(widget.disabled for widget in controls.widgets.values())

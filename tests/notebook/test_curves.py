from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from eqprop_lab.notebook.curves import CURVES_SIZE, curves_sentence, draw_curves
from eqprop_lab.notebook.style import new_figure

HISTORY: dict[str, list[Any]] = {
    "epoch": [1, 2],
    "train_accuracy": [0.5, 0.75],
    "val_accuracy": [0.4, 0.7],
    "residual": [1e-3, 1e-5],
    "norm": [0.8, float("nan")],
}


def _panels(figure: Figure) -> dict[str, Any]:
    return {axes.get_title("left"): axes for axes in figure.axes}


def test_every_quantity_has_its_curve() -> None:
    figure = new_figure(*CURVES_SIZE)
    draw_curves(figure, HISTORY, 5, "Settings: rate 1.")
    panels = _panels(figure)
    assert [len(panels[title].lines) for title in panels] == [2, 1, 1]
    training = panels["Accuracy"].lines[0]
    assert list(training.get_xdata()) == [1, 2] and list(training.get_ydata()) == [0.5, 0.75]
    assert panels["Residual of the free phase"].get_yscale() == "log"
    assert figure.get_supxlabel() == "Settings: rate 1."


@pytest.mark.parametrize("residual", [[2e-3, 4e-3], [1e-3], [3e-8, 0.5], [2e-3, float("inf")]])
def test_the_residual_axis_spans_whole_decades(residual: list[float]) -> None:
    figure = new_figure(*CURVES_SIZE)
    draw_curves(figure, HISTORY | {"residual": residual}, 5, "")
    axes = _panels(figure)["Residual of the free phase"]
    low, high = axes.get_ylim()
    assert low <= residual[0] and high >= 10 * low
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2


@pytest.mark.parametrize(
    "history", [{}, {"epoch": [1], "residual": [None], "train_accuracy": [0.5]}]
)
def test_missing_quantities_leave_an_empty_panel(history: dict[str, list[Any]]) -> None:
    figure = new_figure(*CURVES_SIZE)
    draw_curves(figure, history, 5, "")
    residual = _panels(figure)["Residual of the free phase"]
    assert residual.get_yscale() == "linear"
    assert [line for line in residual.lines if any(y == y for y in line.get_ydata())] == []


def test_a_redraw_replaces_the_curves() -> None:
    figure = new_figure(*CURVES_SIZE)
    for _ in range(2):
        draw_curves(figure, HISTORY, 5, "")
    assert len(figure.axes) == 3 and len(_panels(figure)["Accuracy"].lines) == 2


def test_the_axis_grows_with_the_run() -> None:
    figure, ends = new_figure(*CURVES_SIZE), []
    for done in (0, 2, 40, 300):
        draw_curves(figure, {"epoch": list(range(done)), "train_accuracy": [0.5] * done}, 400, "")
        ends.append(_panels(figure)["Accuracy"].get_xlim()[1])
    assert ends == [10.5, 10.5, 64.5, 400.5]


def test_the_sentence_names_the_last_values() -> None:
    assert curves_sentence({}, 5).startswith("Three empty panels")
    assert curves_sentence(HISTORY, 5) == (
        "Curves after 2 of 5 epochs: training accuracy 0.75, validation accuracy 0.7, "
        "residual 1e-05."
    )
    assert curves_sentence({"epoch": [1]}, 5) == "Curves after 1 of 5 epochs: nothing reported."

"""The explorer of costs: the table as it is stored, and points that are measured on request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from eqprop_lab.instruments.kernel_costs import Size
from eqprop_lab.notebook.background import AlreadyRunning
from eqprop_lab.notebook.explorers.kernel_costs import SPACES, TIMES, KernelCosts
from eqprop_lab.notebook.style import new_figure
from tests.waiting import PATIENCE, until

NAMES = (*TIMES, *SPACES)


def row(hidden: int, steps: int, scale: float = 1.0) -> dict[str, Any]:
    """Straight lines in the steps, each quantity with a slope of its own."""
    costs = {name: scale * (number + 1) * hidden * steps for number, name in enumerate(NAMES)}
    return {"hidden": hidden, "steps": steps} | costs


ROWS = [row(hidden, steps) for hidden in (8, 16) for steps in (10, 30, 100)]


class Ruler:
    """Measures when it is let, and can be stopped meanwhile."""

    def __init__(self) -> None:
        self.asked: list[tuple[Size, int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, size: Size, repeats: int, pause: Callable[[], object]) -> dict[str, Any]:
        self.asked.append((size, repeats))
        self.begun.set()
        while not self.go.wait(0.01):
            pause()
        return row(size.hidden, size.steps, 3.0)


def test_the_point_is_read_off_the_table() -> None:
    costs = KernelCosts(ROWS, hidden_dim=16, free_steps=30)
    assert {name: costs.data.read[name] for name in NAMES} == {n: row(16, 30)[n] for n in NAMES}
    costs.set(free_steps=50)
    assert costs.data.read["bptt_mib"] == pytest.approx(row(16, 50)["bptt_mib"])
    assert "16 hidden units and 50 free steps" in costs.alt and "0.50 times" in costs.alt
    assert costs.data.measured is None and "Measured" not in costs.alt


def points(line: Any) -> list[tuple[float, float]]:
    return [tuple(point) for point in line.get_xydata()]


def rings(axes: Any) -> list[tuple[float, float]]:
    return [point for line in axes.lines if line.get_markersize() > 9 for point in points(line)]


def test_the_picture_has_the_rows_and_rings_where_it_was_measured() -> None:
    costs = KernelCosts(ROWS, measure=lambda size, *_: row(size.hidden, size.steps, 3.0))
    costs.set(hidden_dim=8, free_steps=20)
    costs.start()
    assert costs.wait(PATIENCE)
    figure = new_figure(*costs.size)
    shows = costs.build(figure)
    for show in shows:
        show(costs.data)
    for axes, names in zip(figure.axes, (TIMES, SPACES), strict=True):
        low, high = axes.get_ylim()
        for name, (label, _, _) in names.items():
            (curve,) = [each for each in axes.lines if each.get_label() == label]
            assert points(curve) == [(steps, row(8, steps)[name]) for steps in (10, 30, 100)]
            assert all(low <= value <= high for _, value in points(curve))
        assert rings(axes) == [(20, row(8, 20, 3.0)[name]) for name in names]
    costs.set(free_steps=10)
    for show in shows:
        show(costs.data)
    assert rings(figure.axes[0]) == rings(figure.axes[1]) == []


def test_a_measured_point_stays_and_belongs_to_its_values() -> None:
    ruler = Ruler()
    ruler.go.set()
    costs = KernelCosts(ROWS, measure=ruler)
    costs.set(hidden_dim=8, free_steps=40)
    costs.start()
    assert costs.wait(PATIENCE)
    assert [(size.hidden, size.steps, repeats) for size, repeats in ruler.asked] == [(8, 40, 3)]
    assert costs.data.measured == row(8, 40, 3.0) and "Measured here" in costs.alt
    costs.reset()
    assert "Measured here" not in costs.alt
    costs.set(hidden_dim=8, free_steps=40)
    assert "Measured here" in costs.alt and len(ruler.asked) == 1


def test_a_measurement_is_of_the_point_it_began_at() -> None:
    """Whatever the reader looks at meanwhile."""
    ruler = Ruler()
    costs = KernelCosts(ROWS, measure=ruler, hidden_dim=8, free_steps=40)
    costs.start()
    assert ruler.begun.wait(PATIENCE)
    costs.set(free_steps=60)
    with pytest.raises(AlreadyRunning):
        costs.start()
    ruler.go.set()
    assert costs.wait(PATIENCE)
    assert set(costs.measured) == {(8, 40)} and costs.data.measured is None


def test_the_buttons_follow_and_stop_ends_it() -> None:
    ruler = Ruler()
    costs = KernelCosts(ROWS, measure=ruler)

    def buttons() -> tuple[bool, bool]:
        return costs._begin.disabled, costs._end.disabled

    assert buttons() == (False, True)
    costs._begin.click()
    assert ruler.begun.wait(PATIENCE)
    until(lambda: buttons() == (True, False))
    assert "Measuring" in costs._line.value
    costs._end.click()
    assert costs.wait(PATIENCE)
    assert costs.measured == {} and "Stopped" in costs._line.value
    assert buttons() == (False, True)
    costs.close()


def test_an_error_is_shown_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda caught: None)

    def broken(*_: Any) -> Any:
        raise OSError("no clock in /home/someone/secret/clock.py")

    costs = KernelCosts(ROWS, measure=broken)
    costs.start()
    with pytest.raises(OSError, match="no clock"):
        costs.wait(PATIENCE)
    assert [str(error)[:8] for error in costs.errors] == ["no clock"]
    assert 'role="alert"' in costs._alert.value and "secret" not in costs._alert.value


def test_it_measures_for_real() -> None:
    costs = KernelCosts([row(4, 2), row(4, 6)])
    costs.start()
    assert costs.wait(PATIENCE)
    assert costs.data.measured is not None
    assert costs.data.measured["kernel_ms"] > costs.data.measured["products_ms"] > 0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "list of rows"),
        ("rows", "list of rows"),
        ([{"hidden": 8}], "steps of a row"),
        ([row(8, 10) | {"bptt_mib": float("nan")}, row(8, 20)], "bptt_mib of a row"),
        ([row(8, 10)], "two or more"),
        ([row(8, 10), row(8, 30), row(16, 10)], "the same steps for every hidden size"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_refused(rows: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        KernelCosts(rows)

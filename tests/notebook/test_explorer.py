from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from eqprop_lab.notebook import Choice, Explorer, Slider
from eqprop_lab.notebook.style import MAX_PNG_BYTES
from tests.waiting import PATIENCE, until


class Wave(Explorer):
    title = "A wave"
    controls = [
        Slider("frequency", 0.5, 5.0, 1.0, 0.5, "frequency", "1/s"),
        Slider("count", 1, 4, 2, 1, "curves"),
        Choice("kind", ("sin", "cos"), "sin", "function"),
    ]

    def __init__(self, **values: Any) -> None:
        self.computed = 0
        super().__init__(**values)

    def compute(self, frequency: float, count: int, kind: str) -> Any:
        self.computed += 1
        if count == 4:
            raise ArithmeticError("four curves of <b> in /home/someone/secret/file.py")
        x = np.linspace(0, 6, 50)
        return x, [getattr(np, kind)(frequency * x + i) for i in range(count)]

    def draw(self, figure: Figure, data: Any) -> None:
        axes = figure.subplots()
        for curve in data[1]:
            axes.plot(data[0], curve)

    def describe(self, data: Any, **values: Any) -> str:
        return f"{len(data[1])} {values['kind']} curves of frequency {values['frequency']:.2f}."


def _alert(explorer: Explorer) -> str:
    return str(explorer._alert.value)


@pytest.fixture
def uncaught(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.ExceptHookArgs]]:
    """Exceptions that reach the hook of threads."""
    caught: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", caught.append)
    yield caught


def test_the_first_picture_is_there_at_once() -> None:
    wave = Wave(frequency=2.0)
    assert wave.alt == "2 sin curves of frequency 2.00." and wave.values["frequency"] == 2.0
    assert Image.open(io.BytesIO(wave.png)).size == (980, 448)
    assert f'alt="{wave.alt}"' in wave._picture.value and _alert(wave) == ""
    assert wave.errors == [] and len(wave.data[1]) == 2


def test_set_moves_widgets_and_changes_picture_and_sentence() -> None:
    wave = Wave()
    before = wave.png
    wave.set(frequency=3.0, kind="cos")
    assert wave.png != before and wave.alt == "2 cos curves of frequency 3.00."
    assert wave._controls.widgets["frequency"].value == 3.0 and wave.computed == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [({"freq": 1}, "unknown control 'freq'"), ({"frequency": 9}, "frequency = 9 is out of range")],
)
def test_set_refuses_and_keeps_everything(values: dict[str, Any], words: str) -> None:
    wave = Wave()
    with pytest.raises(ValueError, match=words):
        wave.set(count=3, **values)
    assert wave.values["count"] == 2 and wave.computed == 1 and wave.errors == []


def test_reset_returns_to_the_start_values() -> None:
    wave = Wave(count=3)
    first = wave.png
    wave.set(count=1)
    wave.reset()
    assert wave.values["count"] == 3 and wave.png == first


def test_values_are_a_copy() -> None:
    wave = Wave()
    wave.values["count"] = 1
    assert wave.values["count"] == 2


def test_an_error_is_shown_kept_and_raised_and_the_last_picture_stays() -> None:
    wave = Wave()
    before = wave.png
    with pytest.raises(ArithmeticError):
        wave.set(count=4)
    assert [type(error) for error in wave.errors] == [ArithmeticError] and wave.png == before
    assert 'role="alert"' in _alert(
        wave
    ) and "ArithmeticError: four curves of &lt;b&gt; in file.py" in _alert(wave)
    assert "/home" not in _alert(wave)
    wave.set(count=3)
    assert _alert(wave) == "" and len(wave.errors) == 1


def test_an_error_of_the_first_picture_is_raised() -> None:
    with pytest.raises(ArithmeticError):
        Wave(count=4)


def test_a_moved_slider_redraws_and_moves_share_redraws() -> None:
    wave = Wave()
    slider = wave._controls.widgets["frequency"]
    # a redraw is under way: without it the moves could be drawn one by one on a slow machine
    with wave._lock:
        for value in (1.5, 2.0, 2.5, 3.0):
            slider.value = value
    until(lambda: wave.alt == "2 sin curves of frequency 3.00.")
    assert wave.computed <= 3


@pytest.mark.parametrize("events", [1, 2, 40, 400])
def test_however_many_events_one_redraw_is_at_work_and_one_waits(events: int) -> None:
    wave, begun, go = Wave(), threading.Event(), threading.Event()
    compute = wave.compute

    def slow(**values: Any) -> Any:
        begun.set()
        assert go.wait(PATIENCE)
        return compute(**values)

    wave.compute = slow  # type: ignore[method-assign, assignment]
    slider = wave._controls.widgets["frequency"]
    slider.value = 1.5
    assert begun.wait(PATIENCE)
    for event in range(events):
        slider.value = (2.0, 2.5, 3.0, 3.5)[event % 4]
        assert sum(thread.name == "redraw of Wave" for thread in threading.enumerate()) == 1
    last = slider.value
    go.set()
    until(lambda: wave._redraws._thread is None)
    assert wave.alt == f"2 sin curves of frequency {last:.2f}." and wave.computed == 3


@pytest.mark.parametrize("there_and_back", [(1.5, 1.0), (3.0, 2.0, 1.0), (1.0,)])
def test_values_that_are_shown_are_not_drawn_again(there_and_back: tuple[float, ...]) -> None:
    wave = Wave()
    slider = wave._controls.widgets["frequency"]
    with wave._lock:  # a redraw is under way
        for value in there_and_back:
            slider.value = value
    until(lambda: wave._redraws._thread is None)
    assert wave.computed == 1


def test_a_failed_redraw_neither_ends_the_next_nor_repeats_itself(
    uncaught: list[threading.ExceptHookArgs],
) -> None:
    wave = Wave()
    slider = wave._controls.widgets["count"]
    with wave._lock:
        slider.value = 4
        until(lambda: not wave._redraws._waiting)
        slider.value = 3
        slider.value = 4
    until(lambda: wave._redraws._thread is None)
    assert (
        [type(error) for error in wave.errors]
        == [ArithmeticError]
        == [args.exc_type for args in uncaught]
    )
    slider.value = 1
    until(lambda: wave.alt.startswith("1 sin"))
    assert _alert(wave) == ""


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_redraw_is_shown_and_kept(kind: type[BaseException]) -> None:
    wave = Wave()
    wave.compute = lambda **values: (_ for _ in ()).throw(kind("3"))  # type: ignore[method-assign]
    with pytest.raises(kind):
        wave.set(count=1)
    assert kind.__name__ in _alert(wave) and type(wave.errors[0]) is kind


def test_an_error_after_a_slider_moved_reaches_the_hook_of_threads(
    uncaught: list[threading.ExceptHookArgs],
) -> None:
    wave = Wave()
    wave._controls.widgets["count"].value = 4
    until(lambda: bool(uncaught))
    assert uncaught[0].exc_type is ArithmeticError and uncaught[0].exc_value is wave.errors[0]
    assert 'role="alert"' in _alert(wave)
    wave._controls.widgets["count"].value = 3
    until(lambda: _alert(wave) == "")


def test_the_reset_button_redraws() -> None:
    wave = Wave()
    wave.set(count=1)
    reset, copy = wave.widget.children[-4].children
    assert "eqprop-reset" in reset._dom_classes and "eqprop-copy" in copy._dom_classes
    reset.click()
    until(lambda: wave.alt.startswith("2 sin"))


def test_copy_as_parameters_shows_the_present_values() -> None:
    wave = Wave()
    wave.set(count=3)
    wave.widget.children[-4].children[1].click()
    assert wave._parameters.layout.display == "flex"
    assert (
        wave._parameters.value.splitlines()[1]
        == "count: int = 3  # curves"
        == wave.parameters().splitlines()[1]
    )
    wave.set(count=1)
    assert "count: int = 1" in wave._parameters.value


def test_the_widget_has_the_classes_browser_tests_look_for() -> None:
    assert {"eqprop-explorer", "eqprop-live"} <= set(Wave().widget._dom_classes)


def test_many_threads_draw_without_mixing_pictures() -> None:
    """A cell that plots with pyplot in between must not disturb them either."""
    expected = {frequency: Wave(frequency=frequency).png for frequency in (1.0, 2.0, 3.0)}
    wave, wrong = Wave(), []

    def move(frequency: float) -> None:
        with wave._lock:
            wave.set(frequency=frequency)
            if wave.png != expected[frequency]:
                wrong.append(frequency)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(move, frequency) for frequency in (1.0, 2.0, 3.0) * 4]
        figure, axes = plt.subplots()
        axes.plot([0, 1])
        figure.canvas.draw()
    for future in futures:
        future.result()
    assert wrong == [] and plt.get_fignums() == [figure.number]


def test_a_static_page_gets_a_small_picture(shown: list[Any]) -> None:
    class Busy(Wave):
        def draw(self, figure: Figure, data: Any) -> None:
            figure.subplots().imshow(np.random.default_rng(0).normal(size=(200, 400)))

    busy = Busy()
    assert len(busy.png) > MAX_PNG_BYTES
    busy._ipython_display_()
    assert len(shown[1][0]["image/png"]) * 3 / 4 <= MAX_PNG_BYTES


def test_an_unfinished_explorer_is_refused() -> None:
    class Untitled(Wave):
        title = ""

    class Mute(Wave):
        def describe(self, data: Any, **values: Any) -> str:
            return "short"

    class Blank(Explorer):
        title = "Blank"

    class Undescribed(Blank):
        def draw(self, figure: Figure, data: Any) -> None:
            assert data == {}

    for kind, error, words in (
        (Untitled, ValueError, "Untitled has no title"),
        (Mute, ValueError, "5 characters"),
        (Blank, TypeError, "Blank does not say what to draw"),
        (Undescribed, TypeError, "Undescribed has no alternative text"),
    ):
        with pytest.raises(error, match=words):
            kind()

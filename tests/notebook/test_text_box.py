"""The text box: it writes in a thread, stops, and shows what is wrong with a prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from eqprop_lab.notebook import AlreadyRunning, Slider, TextBox
from tests.waiting import PATIENCE

COUNT = Slider("count", 1, 9, 3, 1, "Pieces")


def repeats(prompt: str, stream: Callable[[str], object], count: int = 3) -> str:
    if "&" in prompt:
        raise ValueError("prompt: unknown character '&'")
    for number in range(count):
        stream(f"<{number}>")
    return prompt


def test_the_pieces_follow_the_prompt_and_the_controls_reach_the_writer() -> None:
    box = TextBox(repeats, "a ", [COUNT])
    assert box.text == "a " and box.status == "idle"
    box.start()
    assert box.wait(PATIENCE)
    assert box.text == "a <0><1><2>" and box.status == "finished"
    box.start("b ", count=1)
    assert box.wait(PATIENCE)
    assert box.text == "b <0>" and box.values == {"count": 1} and box.errors == []
    assert "&lt;0&gt;" in box._page.value and "<0>" not in box._page.value


def test_what_is_wrong_with_the_prompt_is_an_alert_and_goes_with_the_next_run() -> None:
    box = TextBox(repeats, "a & b")
    box.start()
    assert box.wait(PATIENCE)
    assert [str(error) for error in box.errors] == ["prompt: unknown character '&'"]
    assert 'role="alert"' in box._alert.value and "unknown character" in box._alert.value
    box.start("a")
    assert box.wait(PATIENCE)
    assert box.errors == [] and box._alert.value == ""


def test_another_error_is_shown_kept_and_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", caught.append)

    def breaks(prompt: str, stream: Callable[[str], object]) -> None:
        raise RuntimeError("no model")

    box = TextBox(breaks, "a")
    box.start()
    with pytest.raises(RuntimeError, match="no model"):
        box.wait(PATIENCE)
    assert box.status == "failed" and "no model" in box._alert.value and len(caught) == 1


def test_stop_ends_between_two_pieces_and_a_second_start_is_refused() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(prompt: str, stream: Callable[[str], object]) -> None:
        stream("x")
        begun.set()
        go_on.wait(PATIENCE)
        while True:
            stream("y")

    box = TextBox(slow, "a")
    box.start()
    assert begun.wait(PATIENCE)
    with pytest.raises(AlreadyRunning):
        box.start("other")
    assert box.text == "ax"
    assert box._buttons["write"].disabled and not box._buttons["stop"].disabled
    box.stop()
    go_on.set()
    assert box.wait(PATIENCE)
    assert box.status == "stopped" and box.text == "axy" and not box._buttons["write"].disabled


def test_a_page_without_widgets_gets_the_text(
    shown: list[tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    box = TextBox(repeats, "a ")
    box.start()
    assert box.wait(PATIENCE)
    box._ipython_display_()
    outputs = [data for data, _ in shown]
    assert outputs[1]["text/plain"] == "a <0><1><2>" and "eqprop-static" in outputs[1]["text/html"]
    box.close()
    assert box.text == "a <0><1><2>"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (("no function", "a"), TypeError, "write is a str"),
        ((repeats, 3), TypeError, "prompt must be a text, got int"),
        ((repeats, "a", [COUNT, COUNT]), ValueError, "two controls have the same name"),
    ],
)
def test_bad_arguments_are_named(
    given: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        TextBox(*given)


def test_a_wrong_value_is_refused_before_anything_is_written() -> None:
    box = TextBox(repeats, "a", [COUNT])
    with pytest.raises(ValueError, match="count = 10 is out of range"):
        box.start(count=10)
    assert box.status == "idle" and box.text == "a"

"""A cell that is run again frees the explorer it showed before; what is shown elsewhere or held by
the reader lives.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances

from eqprop_lab.notebook import freeing, live as live_picture, output
from tests.waiting import until

SETUP = """import threading
from eqprop_lab.notebook import Explorer, Slider, TrainingCockpit
from eqprop_lab.training import StopTraining

class Wave(Explorer):
    title = "A wave"
    controls = [Slider("count", 1, 4, 2, 1, "curves")]

    def draw(self, figure, data):
        figure.subplots().plot([0, data["count"]])

    def describe(self, data, **values):
        return f"A line up to {values['count']}, drawn."

class Endless:
    def fit(self, loader, epochs, val_loader, callbacks):
        try:
            while True:
                threading.Event().wait(0.005)
                callbacks[0].on_batch_end(self, 1, None)
        except StopTraining:
            return

def cockpit():
    made = TrainingCockpit(lambda values: (Endless(), [], None))
    made.start()
    return made
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs the source of a cell; a shell of its own, whose pictures go nowhere."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    monkeypatch.setattr(output, "emit", lambda *_, **__: None)

    def cell(source: str, cell_id: str | None = None) -> Any:
        result = shell.run_cell(source, store_history=True, cell_id=cell_id)
        result.raise_error()
        return result.result

    cell(SETUP)
    yield cell
    InteractiveShell.clear_instance()


def alive(refs: list[weakref.ref[Any]]) -> int:
    gc.collect()
    return sum(ref() is not None for ref in refs)


@pytest.mark.parametrize(
    ("source", "cell_id", "shown"),
    [
        ("Wave()", None, 1),
        ("wave = Wave()\nwave", "a-cell", 1),
        ("display(Wave())", "a-cell", 1),
        ("cockpit()", "a-cell", 1),
        ("display(Wave(), Wave())", "a-cell", 2),
    ],
)
def test_only_what_the_last_run_shows_lives(
    run: Callable[..., Any], source: str, cell_id: str, shown: int
) -> None:
    run("from IPython.display import display")
    refs: list[weakref.ref[Any]] = []
    before, counts, note = set(_instances), [], freeing.keep_while_shown
    with pytest.MonkeyPatch.context() as patch:

        def noted(live: freeing.Closable) -> None:
            refs.append(weakref.ref(live))
            note(live)

        patch.setattr(live_picture, "keep_while_shown", noted)
        for _ in range(4):
            run(source, cell_id)
            counts.append(len(set(_instances) - before))
    assert counts[0] > 0 and set(counts) == {counts[0]}, "widgets and their comms are closed"
    until(lambda: alive(refs) == shown)
    assert [ref() is not None for ref in refs[:-shown]] == [False] * (3 * shown)
    run("wave = None")
    if cell_id:
        run("0", cell_id)
        until(lambda: alive(refs) == 0)
        assert set(_instances) <= before


def test_what_another_cell_shows_lives(run: Callable[..., Any]) -> None:
    run("wave = Wave()", "made")
    wave = run("wave", "first")
    run("wave", "second")
    name = wave.widget.model_id
    assert run("wave", "first") is wave
    run("0", "first")
    assert wave.widget.comm is not None and name in _instances
    run("0", "second")
    assert name not in _instances


def test_a_variable_of_the_readers_keeps_what_was_freed(run: Callable[..., Any]) -> None:
    old = run("old = wave = Wave()\nwave", "cell")
    run("wave = Wave()\nwave", "cell")
    assert run("old") is old
    old.set(count=3)
    assert old.alt == "A line up to 3, drawn."


def test_the_results_of_other_cells_stay_in_out(run: Callable[..., Any]) -> None:
    run("21 * 2", "number")
    run("Wave()", "cell")
    run("Wave()", "cell")
    assert run("42 in Out.values() and sum(isinstance(value, Wave) for value in Out.values())") == 1

"""The training cockpit of notebook 04 in a reader's hands: Start, a second Start, Stop, Reset."""

from __future__ import annotations

import pytest

from tests.browser.lab import RUN_MS, OpenNotebook
from tests.browser.live import LivePart

pytestmark = [
    pytest.mark.browser,
    pytest.mark.kernel,
    pytest.mark.parametrize("notebook", ["04_looped_mlp"], indirect=True),
]
STATUS = "[role=status]"


def the_cockpit(notebook: OpenNotebook) -> LivePart:
    cockpits = [part for part in notebook.live() if part.is_cockpit]
    assert len(cockpits) == 1
    return cockpits[0]


def reset(cockpit: LivePart) -> None:
    cockpit.click("reset")
    cockpit.wait_for_text(STATUS, "Idle.")
    # Not yet "Settings of the next run": the controls go back after the curves.
    cockpit.wait_for_alt("no epoch is done yet. Settings: ")


def start_long_run(cockpit: LivePart) -> None:
    """As many epochs as the slider gives: a short run might end before the reader's next click."""
    epochs = cockpit.move_to_end("epochs")
    cockpit.wait_for_alt(f"epochs {epochs:.0f}")
    cockpit.click("start")


def test_stop_ends_the_training_and_reset_forgets_it(notebook: OpenNotebook) -> None:
    cockpit = the_cockpit(notebook)
    reset(cockpit)
    fresh = cockpit.look()

    start_long_run(cockpit)
    cockpit.wait_for_alt("Curves after", RUN_MS)
    cockpit.click("stop")
    cockpit.wait_for_text(STATUS, "Stopped.")
    stopped = cockpit.look()
    assert stopped.src != fresh.src

    reset(cockpit)
    cockpit.wait_for_alt(fresh.alt)
    assert cockpit.look().src != stopped.src


def test_a_second_start_is_refused_with_a_message(notebook: OpenNotebook) -> None:
    cockpit = the_cockpit(notebook)
    reset(cockpit)
    start_long_run(cockpit)
    cockpit.wait_for_text(STATUS, "Training for")
    cockpit.click("start")
    cockpit.wait_for_text(STATUS, "Already running")
    cockpit.click("stop")
    cockpit.wait_for_text(STATUS, "Stopped.")
    reset(cockpit)
    assert notebook.alerts() == []

"""Every notebook of the series in a real JupyterLab: opens, what its explorers need runs, and every
slider moves its picture. (The first one runs as a whole in test_reading.)
"""

from __future__ import annotations

import pytest

from tests.browser.lab import OpenNotebook
from tests.browser.series import SERIES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.kernel,
    pytest.mark.parametrize("notebook", SERIES, indirect=True),
]


def test_opens_without_a_dialog(notebook: OpenNotebook) -> None:
    assert notebook.dialogs_when_opened == []


def test_run_all_ends_idle_without_an_error(notebook: OpenNotebook) -> None:
    assert notebook.run is not None
    assert notebook.run.errors == []
    assert set(notebook.run.replies) == {"ok"}
    assert notebook.run.status == "idle"
    assert notebook.dialogs() == []
    assert notebook.alerts() == []


def test_every_slider_changes_picture_and_sentence(notebook: OpenNotebook) -> None:
    parts = notebook.live()
    assert sum(part.sliders + part.lists for part in parts) > 0
    for part in parts:
        if part.sliders == 0 and part.lists:
            before = part.look()
            part.wait_for_other_look(before, part.choose(0))
        for slider in range(part.sliders):
            before = part.look()
            label = part.press(slider)
            part.wait_for_other_look(before, label)
            assert len(part.look().alt) >= 20, label
    assert notebook.alerts() == []

"""The button of notebook 08 that measures a point: rings and a sentence, and Stop in between."""

from __future__ import annotations

import pytest

from tests.browser.lab import RUN_MS, OpenNotebook
from tests.browser.live import LivePart

pytestmark = [
    pytest.mark.browser,
    pytest.mark.kernel,
    pytest.mark.parametrize("notebook", ["08_kernel"], indirect=True),
]
STATUS = "[role=status]"


def the_explorer(notebook: OpenNotebook) -> LivePart:
    (part,) = notebook.live()
    return part


def test_a_point_is_measured_where_it_is_shown(notebook: OpenNotebook) -> None:
    costs = the_explorer(notebook)
    costs.press(0, "Home")
    costs.wait_for_alt("and 10 free steps")
    before = costs.look()
    assert "Measured here" not in before.alt
    costs.click("measure")
    costs.wait_for_text(STATUS, "Measuring")
    costs.wait_for_alt("Measured here", RUN_MS)
    assert costs.look().src != before.src
    costs.wait_for_text(STATUS, "Measured.")


def test_stop_ends_a_long_measurement(notebook: OpenNotebook) -> None:
    costs = the_explorer(notebook)
    costs.press(0, "End")
    costs.wait_for_alt("and 300 free steps")
    costs.click("measure")
    costs.wait_for_text(STATUS, "Measuring")
    costs.click("stop")
    costs.wait_for_text(STATUS, "Stopped.")
    assert "Measured here" not in costs.look().alt
    assert notebook.alerts() == []

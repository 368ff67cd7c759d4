"""What fails is seen: an explorer that raises, a training that raises, a cell that raises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import Desk
from tests.browser.lab import OpenNotebook
from tests.browser.server import JupyterServer
from tests.browser.tiny import COCKPIT, EXPLORER, RAISING, write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.kernel]


@pytest.fixture(scope="module")
def faulty(desk: Desk, server: JupyterServer) -> Iterator[OpenNotebook]:
    write_notebook(server.notebooks / "faulty.ipynb", EXPLORER, COCKPIT, RAISING)
    yield desk.executed("faulty")
    desk.clear()


def test_a_cell_that_raises_is_noticed(faulty: OpenNotebook) -> None:
    assert faulty.run is not None
    assert faulty.run.errors == ["RuntimeError: this cell raises"]
    assert faulty.run.replies == ["ok", "ok", "error"]


def test_the_error_of_an_explorer_is_an_alert_until_the_next_good_value(
    faulty: OpenNotebook,
) -> None:
    explorer = faulty.live()[0]
    good = explorer.look()
    explorer.press(0, "ArrowLeft")
    assert "ZeroDivisionError: division by zero" in explorer.alert()
    assert len(faulty.alerts()) == 1
    assert explorer.look() == good

    explorer.press(0, "ArrowRight")
    explorer.root.locator("[role=alert]").wait_for(state="detached")
    explorer.press(0, "ArrowRight")
    explorer.wait_for_other_look(good)
    assert "reciprocal of 2" in explorer.look().alt


def test_the_error_of_a_training_is_an_alert(faulty: OpenNotebook) -> None:
    cockpit = faulty.live()[1]
    assert cockpit.is_cockpit
    cockpit.click("start")
    assert "OSError: the data set is not there" in cockpit.alert()
    cockpit.click("reset")
    cockpit.wait_for_text("[role=status]", "Idle.")
    assert cockpit.root.locator("[role=alert]").count() == 0

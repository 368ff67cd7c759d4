"""The text box in a reader's hands: type a beginning, press Write, read; Stop; a bad beginning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Desk
from tests.browser.server import JupyterServer
from tests.browser.tiny import write_notebook

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

BOX = """import time

from eqprop_lab.notebook import Slider, TextBox

def write(prompt, stream, count):
    if "&" in prompt:
        raise ValueError("prompt: unknown character '&'")
    for number in range(count):
        stream(f" {number}")
        time.sleep(0.02)

box = TextBox(write, "one", [Slider("count", 1, 100_000, 3, 1, "Pieces")], title="Numbers")
box"""
ENDLESS = "box._controls.assign({'count': 100_000})"


@pytest.fixture(scope="module")
def box(desk: Desk, server: JupyterServer) -> Iterator[Locator]:
    write_notebook(server.notebooks / "box.ipynb", BOX, ENDLESS)
    notebook = desk.executed("box")
    assert notebook.run is not None and notebook.run.errors == []
    yield notebook.page.locator(".eqprop-text")
    desk.clear()


def test_it_goes_on_from_what_is_typed_until_stop(box: Locator) -> None:
    assert box.locator(".eqprop-written").inner_text() == "one"
    box.locator("input[type=text]").first.fill("two")
    box.locator(".eqprop-write").click()
    box.locator(".eqprop-written", has_text="two 0 1 2 3").wait_for()
    assert box.locator(".eqprop-write").is_disabled()
    box.locator(".eqprop-stop").click()
    box.locator("[role=status]", has_text="Stopped:").wait_for()
    assert box.locator(".eqprop-write").is_enabled()


def test_a_bad_beginning_is_an_alert(box: Locator) -> None:
    box.locator("input[type=text]").first.fill("a & b")
    box.locator(".eqprop-write").click()
    box.locator("[role=alert]", has_text="unknown character '&'").wait_for()
    assert box.locator(".eqprop-written").inner_text() == "a & b"

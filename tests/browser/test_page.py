"""What the page adds to the widgets: spoken names and values, the clipboard, controls that wrap at
700 px.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import Desk
from tests.browser.lab import OpenNotebook
from tests.browser.server import JupyterServer
from tests.browser.tiny import write_notebook
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.kernel]
COMPASS = """from eqprop_lab.notebook.explorers.gradient_compass import GradientCompass

GradientCompass(beta=0.1, steps=5)"""
COCKPIT = """from eqprop_lab.notebook import Slider, TrainingCockpit

rate = Slider("lr", 1e-4, 1e-1, 3e-3, 0.1, "learning rate", unit="1/step", log=True)
TrainingCockpit(lambda values: None, [rate], epochs=3)"""


@pytest.fixture(scope="module")
def opened(desk: Desk, server: JupyterServer) -> Iterator[OpenNotebook]:
    write_notebook(server.notebooks / "page.ipynb", COMPASS, COCKPIT)
    yield desk.executed("page")
    desk.clear()


@pytest.mark.parametrize(
    ("part", "slider", "name", "before", "after"),
    [
        (0, 0, "Nudging strength beta", "0.100", "0.126"),
        (0, 1, "Nudged steps", "5", "6"),
        (0, 2, "Asymmetry of W_rec", "0.00", "0.05"),
        (1, 0, "learning rate [1/step]", "0.00300 1/step", "0.00376 1/step"),
    ],
)
def test_a_slider_has_a_name_and_speaks_the_value_that_is_seen(
    opened: OpenNotebook, part: int, slider: int, name: str, before: str, after: str
) -> None:
    live = opened.live()[part]
    handle = live.root.locator(f'.noUi-handle[aria-label="{name}"]')
    assert handle.get_attribute("role") == "slider" and handle.get_attribute("tabindex") == "0"
    assert handle.get_attribute("aria-valuetext") == before
    look = live.look()
    live.press(slider, "ArrowRight")
    live.root.locator(f'.noUi-handle[aria-valuetext="{after}"]').wait_for()
    live.wait_for_other_look(look)
    live.press(slider, "ArrowLeft")
    live.root.locator(f'.noUi-handle[aria-label="{name}"][aria-valuetext="{before}"]').wait_for()


@pytest.mark.parametrize("part", [0, 1])
def test_the_values_are_on_the_clipboard_and_the_page_says_so(
    opened: OpenNotebook, part: int
) -> None:
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    live = opened.live()[part]
    line = ("skew: float = 0.0  # Asymmetry of W_rec", COPIED_RATE)[part]
    box = live.root.locator(".eqprop-parameters textarea")
    # The kernel writes the text anew after a slider has moved, a moment after the slider itself.
    until(lambda: line in box.input_value().splitlines(), line)
    live.click("copy")
    live.wait_for_text(".eqprop-copied", "Copied.")
    box.wait_for(state="visible")
    copied = opened.page.evaluate("() => navigator.clipboard.readText()")
    assert copied == box.input_value() and line in copied.splitlines()


COPIED_RATE = "lr: float = 0.003  # learning rate [1/step]"


def test_where_the_clipboard_is_refused_the_text_is_there_to_select(opened: OpenNotebook) -> None:
    opened.page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject();"
        " document.execCommand = () => false; }"
    )
    live = opened.live()[0]
    live.click("copy")
    live.wait_for_text(".eqprop-copied", "Not copied")


@pytest.mark.parametrize("width", [700, 500, 1400])
def test_nothing_is_cut_off_where_the_page_is_narrow(opened: OpenNotebook, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 1000})
    opened.page.wait_for_timeout(300)
    for live in opened.live():
        cut = live.root.evaluate(
            "root => [...root.querySelectorAll("
            "'.widget-slider, .noUi-target, .widget-readout, .widget-button, img')]"
            ".filter(e => e.offsetParent &&"
            " e.getBoundingClientRect().right > root.getBoundingClientRect().right + 1)"
            ".map(e => e.className)"
        )
        assert cut == []

"""A live picture: its buttons, its parameters cell, and what a page without widgets gets of it."""

from __future__ import annotations

from typing import Any

from eqprop_lab.notebook import Slider
from eqprop_lab.notebook.live import LivePicture
from eqprop_lab.notebook.style import encode_png, new_figure
from tests.notebook.test_picture import Tags

Outputs = list[tuple[dict[str, Any], dict[str, Any]]]


class Still(LivePicture):
    def __init__(self) -> None:
        super().__init__((2.004, 1.0), [Slider("a", 1, 3, 1, 1, "number")], {})
        self.widget = self._box("still", "Still", [self._button("Go on", "Draw", self.redraw)])
        self.redraw()

    def redraw(self) -> None:
        self._show(encode_png(new_figure(2, 1), 100), "An empty white rectangle, wider than high.")


def test_a_page_without_widgets_gets_picture_and_sentence(shown: Outputs) -> None:
    still = Still()
    still._ipython_display_()
    (view, _), (page, metadata) = shown
    assert list(view) == ["application/vnd.jupyter.widget-view+json"]
    assert view["application/vnd.jupyter.widget-view+json"]["model_id"] == still.widget.model_id
    assert list(page) == ["text/html", "image/png", "text/plain"]
    parsed = Tags(page["text/html"])
    assert ("div", {"class": "eqprop-static"}) == parsed.tags[0]
    assert parsed.text == page["text/plain"] == still.alt
    image = dict(parsed.tags)["img"]
    assert image["alt"] == still.alt and (image["src"] or "").startswith("data:image/png;base64,")
    assert metadata == {"image/png": {"alt": still.alt, "width": 200}}


def test_the_parameters_cell_opens_and_closes_and_follows_the_controls() -> None:
    still = Still()
    copy = still.widget.children[2].children[1]
    box = still._parameters
    assert box.layout.display == "none"
    still.set(a=2)
    copy.click()
    assert (box.layout.display, box.value) == ("flex", "a: int = 2  # number")
    assert box.value == still.parameters() and still.values == {"a": 2}
    copy.click()
    assert box.layout.display == "none"


def test_buttons_carry_the_class_of_their_first_word() -> None:
    button = Still().widget.children[2].children[0]
    assert (button.description, button.tooltip) == ("Go on", "Draw")
    assert "eqprop-go" in button._dom_classes

from __future__ import annotations

import base64
from html.parser import HTMLParser
from typing import Any

import ipywidgets as widgets
import pytest

from eqprop_lab.notebook.picture import (
    LivePicture,
    alert_html,
    image_html,
    safe_message,
    title_html,
)
from eqprop_lab.notebook.style import encode_png, new_figure

Outputs = list[tuple[dict[str, Any], dict[str, Any]]]


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_image_carries_its_sentence_whatever_it_contains() -> None:
    alt = 'x < 1 & "quoted" </figure>'
    parsed = _Tags(image_html(b"\x89PNG", alt, 700))
    image = dict(parsed.tags)["img"]
    assert (
        image["alt"] == alt
        and image["src"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    )
    assert parsed.text == alt


def test_an_alert_is_escaped_and_exists_only_with_a_message() -> None:
    parsed = _Tags(alert_html("beta < 0 <b>"))
    assert (
        parsed.tags[0][1]["role"] == "alert"
        and parsed.text == "beta < 0 <b>"
        and len(parsed.tags) == 1
    )
    assert alert_html("") == ""


def test_a_title_is_escaped() -> None:
    assert (
        "<strong>a &lt; b</strong>" in title_html("a < b")
        and "a < b" in _Tags(title_html("a < b")).text
    )


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no file /home/someone/project/data/x.json", "no file x.json"),
        ("'/home/some one/my data/x.json' is missing", "'x.json' is missing"),
        (r"no file C:\Users\someone\x.json", "no file x.json"),
        ("a/b and 1/beta and /dev stay", "a/b and 1/beta and /dev stay"),
        ("see https://doi.org/10.1109/x", "see https://doi.org/10.1109/x"),
        ("", "no message"),
    ],
)
def test_messages_name_files_without_the_machines_folders(message: str, shown: str) -> None:
    assert safe_message(ValueError(message)) == f"ValueError: {shown}"


class _Still(LivePicture):
    def __init__(self) -> None:
        self.png, self.alt = (
            encode_png(new_figure(2, 1), 100),
            "An empty white rectangle, wider than high.",
        )
        self.widget, self.picture_width = widgets.VBox(), 200.4


def test_the_bundle_has_view_picture_and_sentence() -> None:
    still = _Still()
    data, metadata = still._repr_mimebundle_()
    assert list(data) == ["application/vnd.jupyter.widget-view+json", "image/png", "text/plain"]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == still.widget.model_id
    assert base64.b64decode(data["image/png"]) == still.png and data["text/plain"] == still.alt
    assert metadata == {"image/png": {"alt": still.alt, "width": 200}}


def test_a_page_without_widgets_gets_picture_and_sentence(shown: Outputs) -> None:
    still = _Still()
    still._ipython_display_()
    (view, _), (page, metadata) = shown
    assert list(view) == ["application/vnd.jupyter.widget-view+json"]
    assert (
        list(page) == ["text/html", "image/png", "text/plain"] and page["text/plain"] == still.alt
    )
    parsed = _Tags(page["text/html"])
    assert ("div", {"class": "eqprop-static"}) == parsed.tags[0] and parsed.text == still.alt
    image = dict(parsed.tags)["img"]
    assert image["alt"] == still.alt and (image["src"] or "").startswith("data:image/png;base64,")
    assert metadata == {"image/png": {"alt": still.alt, "width": 200}}

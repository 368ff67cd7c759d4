from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest

from eqprop_lab.notebook.picture import alert_html, image_html, safe_message, title_html


class Tags(HTMLParser):
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
    parsed = Tags(image_html(b"\x89PNG", alt, 700))
    image = dict(parsed.tags)["img"]
    assert (
        image["alt"] == alt
        and image["src"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    )
    assert parsed.text == alt


def test_an_alert_is_escaped_and_exists_only_with_a_message() -> None:
    parsed = Tags(alert_html("beta < 0 <b>"))
    assert (
        parsed.tags[0][1]["role"] == "alert"
        and parsed.text == "beta < 0 <b>"
        and len(parsed.tags) == 1
    )
    assert alert_html("") == ""


def test_a_title_is_escaped() -> None:
    assert (
        "<strong>a &lt; b</strong>" in title_html("a < b")
        and "a < b" in Tags(title_html("a < b")).text
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

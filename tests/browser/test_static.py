"""A notebook as a web page without JavaScript: every explorer is a picture with its sentence.

nbconvert's "classic" template writes the stored alternative text into the picture. Its default, "lab", leaves it out:
there the sentence stands below the picture as text.
"""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from eqprop_lab.regression.clean import committed_copy
from tests.browser.series import FOLDER, SERIES
from tests.browser.tiny import COCKPIT, EXPLORER, write_notebook

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class PlainPage(HTMLParser):
    """A page without scripts: {picture's data: its alternative text}, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: dict[str, str] = {}
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            found = dict(attrs)
            self.pictures["".join((found.get("src") or "").split())] = found.get("alt") or ""

    def handle_data(self, data: str) -> None:
        self.text += data


def without_scripts(notebook: NotebookNode, template: str = "lab") -> str:
    """nbconvert's HTML, every script taken out."""
    html, _ = HTMLExporter(template_name=template).from_notebook_node(notebook)
    return re.sub(r"<script\b.*?</script\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)


def explorer_pictures(notebook: NotebookNode) -> dict[str, str]:
    """{alternative text: PNG in base64} of the outputs of all explorer cells, at least one a cell."""
    pictures: dict[str, str] = {}
    for cell in notebook.cells:
        if "explorer" in cell.metadata.get("tags", []):
            bundles = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            assert bundles, f"no picture is stored for the explorer {cell.source!r}"
            pictures |= {b.metadata["image/png"]["alt"]: "".join(b.data["image/png"].split()) for b in bundles}
    return pictures


def assert_shows_explorers(notebook: NotebookNode) -> None:
    lab, classic = (PlainPage(without_scripts(notebook, template)) for template in ("lab", "classic"))
    for alt, png in explorer_pictures(notebook).items():
        source = f"data:image/png;base64,{png}"
        assert len(alt) >= 20
        assert source in lab.pictures and alt in lab.text
        assert classic.pictures[source] == alt and alt in classic.text
    assert "Error displaying widget" not in lab.text + classic.text


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[NotebookNode, NotebookNode]:
    """A notebook with an explorer and a cockpit, as executed and as the runner would commit it."""
    folder = tmp_path_factory.mktemp("static")
    source = write_notebook(folder / "source.ipynb", EXPLORER, COCKPIT)
    command = [sys.executable, "-m", "nbconvert", "--to=notebook", "--execute", "--output=executed", str(source)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(folder / "executed.ipynb", 4)
    return executed, committed_copy(nbformat.read(source, 4), executed, folder)


@pytest.mark.kernel
def test_a_fresh_explorer_and_cockpit_leave_picture_and_sentence(tiny: tuple[NotebookNode, NotebookNode]) -> None:
    executed, committed = tiny
    assert len(explorer_pictures(committed)) == 2
    assert_shows_explorers(committed)
    # Where the widget's view is still stored, nbconvert prefers it to the picture; the sentence must stay.
    text = PlainPage(without_scripts(executed)).text
    assert all(alt in text for alt in explorer_pictures(executed))


@pytest.mark.parametrize("name", SERIES)
def test_the_series_shows_every_explorer_without_scripts(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    assert explorer_pictures(notebook)
    assert_shows_explorers(notebook)


@pytest.mark.browser
@pytest.mark.parametrize("name", SERIES)
def test_chromium_without_javascript_shows_every_explorer(name: str, browser: Browser, tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    file = tmp_path / f"{name}.html"
    file.write_text(without_scripts(notebook), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False, offline=True)
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        for alt in explorer_pictures(notebook):
            sentence = page.locator("p.eqprop-static", has_text=alt)
            sentence.wait_for(state="visible", timeout=10_000)
            picture = page.locator(".jp-Cell", has=sentence).locator("img")
            assert picture.is_visible()
            # A picture that does not decode has no width of its own.
            assert picture.evaluate("img => img.naturalWidth") > 200
    finally:
        context.close()

"""A notebook as a web page, made by the command a reader types, opened without a network: nothing
seen is lost.

`jupyter nbconvert --to html` prefers HTML to PNG and drops the stored alternative text of a PNG, so
every picture is stored as both: as `<img alt>` for pages, as PNG for code hosts and documents.
"""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from eqprop_lab.regression.clean import committed_copy
from tests.browser.pixels import white_blocks
from tests.browser.series import FOLDER, SERIES
from tests.browser.tiny import COCKPIT, EXPLORER, FIGURE, write_notebook
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class PlainPage(HTMLParser):
    """A page without scripts: (picture's data, its alternative text) in order, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[tuple[str, str]] = []
        self.text = ""
        self.feed(
            re.sub(r"<(script|style)\b.*?</\1\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)
        )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            found = dict(attrs)
            self.pictures.append(
                ("".join((found.get("src") or "").split()), found.get("alt") or "")
            )

    def handle_data(self, data: str) -> None:
        self.text += data


def converted(notebooks: Sequence[Path], folder: Path, *options: str) -> list[Path]:
    """The pages that `jupyter nbconvert --to html` makes of notebooks, started once for all."""
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to",
        "html",
        f"--output-dir={folder}",
        *options,
        *map(str, notebooks),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "Alternative text is missing" not in done.stderr
    return [folder / f"{notebook.stem}.html" for notebook in notebooks]


def stored_pictures(notebook: NotebookNode) -> list[tuple[str, str]]:
    """(the page's picture as data, alternative text of the PNG) of every picture a notebook stores,
    in order.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    pages = [PlainPage("".join(output.data.get("text/html", "<img>"))) for output in shown]
    return [
        (page.pictures[0][0], o.metadata["image/png"]["alt"])
        for page, o in zip(pages, shown, strict=True)
    ]


def sentences(notebook: NotebookNode) -> list[str]:
    """Alternative texts of the explorers and cockpits, which a page shows below the picture as
    well.
    """
    cells = [cell for cell in notebook.cells if "explorer" in cell.metadata.get("tags", [])]
    found = [stored_pictures(NotebookNode(cells=[cell])) for cell in cells]
    assert all(len(pictures) == 1 for pictures in found)
    return [alt for pictures in found for _, alt in pictures]


def assert_nothing_is_lost(page: Path, notebook: NotebookNode) -> None:
    plain = PlainPage(page.read_text(encoding="utf-8"))
    expected = stored_pictures(notebook)
    assert expected and all(len(alt) >= 20 for _, alt in expected)
    assert plain.pictures == expected and all(
        src.startswith("data:image/png;base64,") for src, _ in expected
    )
    text = " ".join(plain.text.split())
    assert all(" ".join(sentence.split()) in text for sentence in sentences(notebook))
    assert "Error displaying widget" not in text


@dataclass(frozen=True)
class Tiny:
    """A notebook with a figure, an explorer and a cockpit: as executed, and as the runner commits
    it.
    """

    executed: Path
    committed: Path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("static")
    source = write_notebook(folder / "source.ipynb", EXPLORER, COCKPIT)
    notebook = nbformat.read(source, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(FIGURE, metadata={"tags": ["figure"]}))
    nbformat.write(notebook, source)
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to=notebook",
        "--execute",
        "--output=executed",
        str(source),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(folder / "executed.ipynb", 4)
    nbformat.write(
        committed_copy(nbformat.read(source, 4), executed, folder), folder / "committed.ipynb"
    )
    return Tiny(folder / "executed.ipynb", folder / "committed.ipynb")


@pytest.mark.kernel
@pytest.mark.parametrize("template", ["lab", "classic"])
@pytest.mark.parametrize("state", ["executed", "committed"])
def test_a_fresh_notebook_keeps_pictures_and_sentences(
    tiny: Tiny, state: str, template: str, tmp_path: Path
) -> None:
    path: Path = getattr(tiny, state)
    notebook = nbformat.read(path, 4)
    assert len(stored_pictures(notebook)) == 3 and len(sentences(notebook)) == 2
    # A view of a widget that is not stored with its state shows nothing: the picture must not hang
    # on it.
    views = [
        o
        for cell in notebook.cells
        for o in cell.get("outputs", [])
        if "widget-view" in str(o.get("data"))
    ]
    assert len(views) == (2 if state == "executed" else 0)
    (page,) = converted([path], tmp_path, f"--template={template}")
    assert_nothing_is_lost(page, notebook)


@pytest.mark.kernel
def test_a_host_that_takes_the_png_finds_it_with_its_text(tiny: Tiny) -> None:
    cells = nbformat.read(tiny.committed, 4).cells
    bundles = [
        o.data
        for cell in cells
        for o in cell.get("outputs", [])
        if "image/png" in o.get("data", {})
    ]
    assert [list(bundle) for bundle in bundles] == [["image/png", "text/html", "text/plain"]] * 3
    for bundle in bundles:
        picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
        assert f'width="{picture.width * 5 // 4}"' in bundle["text/html"] and picture.width >= 320


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of every notebook of the series, by name."""
    sources = [FOLDER / f"{name}.ipynb" for name in SERIES]
    return dict(zip(SERIES, converted(sources, tmp_path_factory.mktemp("pages")), strict=True))


@pytest.fixture(scope="module")
def dark_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same for a dark background."""
    sources, folder = [FOLDER / f"{name}.ipynb" for name in SERIES], tmp_path_factory.mktemp("dark")
    made = converted(sources, folder, "--HTMLExporter.theme=dark")
    return dict(zip(SERIES, made, strict=True))


@pytest.fixture(scope="module", params=SERIES)
def page_of(request: pytest.FixtureRequest, pages: dict[str, Path]) -> tuple[NotebookNode, Path]:
    """(a notebook of the series, its page)."""
    return nbformat.read(FOLDER / f"{request.param}.ipynb", 4), pages[request.param]


def test_a_page_of_the_series_has_every_picture_with_its_text(
    page_of: tuple[NotebookNode, Path],
) -> None:
    notebook, page = page_of
    assert sentences(notebook)
    assert_nothing_is_lost(page, notebook)


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_offline_every_picture_is_seen(
    page_of: tuple[NotebookNode, Path], browser: Browser, scripts: bool
) -> None:
    notebook, path = page_of
    with opened(browser, path, scripts) as page:
        pictures = page.locator("img")
        assert pictures.evaluate_all("all => all.map(img => img.alt)") == [
            alt for _, alt in stored_pictures(notebook)
        ]
        # A picture that does not decode has no width of its own.
        assert pictures.evaluate_all(
            "all => all.every(img => img.complete && img.naturalWidth > 200)"
        )
        assert all(picture.is_visible() for picture in pictures.all())
        text = " ".join(page.locator("body").inner_text().split())
        assert all(" ".join(sentence.split()) in text for sentence in sentences(notebook))
        # Formulas are typeset by a script from the network: without it their source is read.
        formulas = re.findall(
            r"\$\$.+?\$\$", "\n".join(cell.source for cell in notebook.cells), re.DOTALL
        )
        assert all("".join(formula.split()) in "".join(text.split()) for formula in formulas[:3])


class opened:
    """A page without a network, as a context."""

    def __init__(self, browser: Browser, path: Path, scripts: bool) -> None:
        self._context = browser.new_context(
            java_script_enabled=scripts, offline=True, viewport={"width": 1200, "height": 900}
        )
        self._path = path

    def __enter__(self) -> Page:
        page = self._context.new_page()
        page.goto(self._path.as_uri(), wait_until="load")
        return page

    def __exit__(self, *_: object) -> None:
        self._context.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", SERIES)
def test_a_dark_page_has_no_white_blocks(
    name: str, dark_pages: dict[str, Path], browser: Browser, tmp_path: Path
) -> None:
    with opened(browser, dark_pages[name], scripts=False) as page:
        shot = tmp_path / "page.png"
        page.screenshot(path=shot, full_page=True)
        assert white_blocks(shot.read_bytes()) == []

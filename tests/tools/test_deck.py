"""Decks of slides: what is on them, how many there are, whom they ask."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_notebook, new_output

from eqprop_lab.course.masters import Master
from eqprop_lab.regression.plan import find_notebooks
from tests.regression.tiny import code, prose
from tools.site.deck import KINDS, MOST, deck
from tools.site.slides import exported

ROOT = Path(__file__).resolve().parents[2]
SERIES = {path.stem[:2]: path for path in find_notebooks([], ROOT)}


def starts(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.metadata.slideshow.slide_type in KINDS]


@pytest.mark.parametrize("number", SERIES)
def test_a_notebook_makes_a_deck(number: str) -> None:
    nb = deck(Master.read(SERIES[number]).nb)
    first, second, *_, last = starts(nb)
    assert 5 <= len(starts(nb)) <= MOST
    assert first.source.startswith(f"# {number} ·") and second.source.startswith("## Goals")
    assert "\n- " in last.source
    pictures = [
        o for c in nb.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) >= 2 and all('alt="' in p.data["text/html"] for p in pictures)


def test_tags_go_first() -> None:
    hidden = code("1", "skip")
    cells = [
        prose("# T"),
        prose("a", "slide"),
        code("2"),
        hidden,
        code("3"),
        prose("b", "subslide"),
    ]
    found = [
        (c.source, c.metadata.slideshow.slide_type) for c in deck(new_notebook(cells=cells)).cells
    ]
    assert found == [("a", "slide"), ("2", "-"), ("b", "subslide")]


def test_a_section_shows_its_first_formula_below_the_words_before_it() -> None:
    one = "## One\n\nSee [02](02_x.ipynb#a):\n\n$$a$$\n\n$$b$$"
    text = f"{one}\n\n<details>\n\n$$c$$\n\n</details>\n\n## Two\n\n$$d$$"
    cells = [
        prose("# T\n\nClaim."),
        prose(text),
        prose("More.\n\n$$e$$"),
        prose("$$f$$", "exercise"),
    ]
    found = [cell.source for cell in deck(new_notebook(cells=cells)).cells]
    assert found == ["# T\n\nClaim.", "## One\n\nSee [02](02_x.html):\n\n$$a$$", "## Two\n\n$$d$$"]


def test_two_pictures_of_a_cell_are_two_slides_and_nothing_printed_is() -> None:
    cell = code("1", "figure")
    a, b = (new_output("display_data", {"image/png": name}) for name in "ab")
    captions = [new_output("display_data", {"text/markdown": name}) for name in "AB"]
    cell.outputs = [new_output("stream", text="x"), a, captions[0], b, captions[1]]
    made = deck(new_notebook(cells=[prose("# T\n\nC."), prose("## S"), cell])).cells[1:]
    assert [cell.source for cell in made[::2]] == ["## S", "## S"]
    assert [cell.outputs for cell in made[1::2]] == [[a, captions[0]], [b, captions[1]]]


def test_too_many_slides_are_refused() -> None:
    cells = [prose("a", "slide") for _ in range(MOST + 1)]
    with pytest.raises(ValueError, match="13 slides, at most 12"):
        deck(new_notebook(cells=cells))


def test_a_page_names_no_other_host_and_keeps_alt_texts() -> None:
    cell = code("1", "figure")
    shown = '<img class="eqprop-picture" alt="what is seen" src="data:image/png;base64,">'
    cell.outputs = [new_output("display_data", {"text/html": shown})]
    cells = [prose("# T\n\nClaim $x$."), prose("- a", "goals"), prose("## S"), cell]
    page = exported(deck(new_notebook(cells=[*cells, prose("## Sum\n\n- b", "summary")])), "t")
    asked = re.findall(r"""(?:src|href|from|import)\s*=?\s*['"](https?:[^'"]+)""", page)
    assert asked == []
    assert 'alt="what is seen"' in page and page.count("<section") >= 4
    assert "reveal/dist/reveal.js" in page and "mathjax/es5/" in page

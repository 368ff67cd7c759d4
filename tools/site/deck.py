"""A notebook as a deck of at most twelve slides.

Cells tagged `slide` or `subslide` make it, `skip` leaves one out. Where none is tagged, a deck is
title, goals, pictures and a few formulas below the headings of their sections, and the summary.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from eqprop_lab.regression.parameters import tags

MOST, FORMULAS, RESERVED, WORDS = 12, 3, 2, 70
KINDS = ("slide", "subslide")
PICTURES = {"figure", "explorer"}
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb(?:#[^)]*)?\)")
DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)


def deck(nb: NotebookNode) -> NotebookNode:
    """The slides of a notebook, marked as nbconvert wants it. Raises ValueError for too many."""
    chosen = list(_tagged(nb) if any(set(KINDS) & set(tags(c)) for c in nb.cells) else _found(nb))
    if len(slides := [c for c in chosen if c.metadata.slideshow.slide_type in KINDS]) > MOST:
        raise ValueError(f"{len(slides)} slides, at most {MOST}: tag cells `skip`")
    return new_notebook(cells=chosen, metadata=nb.metadata)


def _tagged(nb: NotebookNode) -> Iterator[NotebookNode]:
    """Cells with a tag, and those up to the next one that show something."""
    begun = False
    for cell in nb.cells:
        kind = next((kind for kind in KINDS if kind in tags(cell)), "")
        begun = (begun or bool(kind)) and "skip" not in tags(cell)
        if begun:
            yield _marked(cell, kind or "-")


def _found(nb: NotebookNode) -> Iterator[NotebookNode]:
    """Title, goals, as many pictures as fit, formulas where room is left, summary."""
    title = "\n\n".join(str(nb.cells[0].source).split("\n\n")[:2])
    yield _marked(new_markdown_cell(title), "slide")
    for cell in nb.cells:
        if "goals" in tags(cell):
            yield _marked(new_markdown_cell(f"## Goals\n\n{cell.source}"), "slide")
    yield from _shown(nb, MOST - 3)
    for cell in nb.cells:
        if "summary" in tags(cell):
            yield _marked(new_markdown_cell(_points(cell.source)), "slide")


def _shown(nb: NotebookNode, most: int) -> Iterator[NotebookNode]:
    """Pictures and formulas below the heading of their section, figures first where there are too
    many."""
    formulas = _formulas(nb)
    cells = [cell for cell in nb.cells if PICTURES & set(tags(cell))]
    shown = [(cell.id, part) for cell in cells for part in _pictures(cell)]
    first = sorted(shown, key=lambda pair: "figure" not in tags(pair[1]))
    kept = first[: most - len(formulas[:RESERVED])]
    told = dict(formulas[: most - len(kept)])
    heading = ""
    for cell in nb.cells:
        for below, _ in _sections(cell, heading):
            heading = below
            if heading in told:
                text = f"## {heading}\n\n{told.pop(heading)}"
                yield _marked(new_markdown_cell(text), "slide")
        for place, part in kept:
            if place == cell.id:
                yield _marked(new_markdown_cell(f"## {heading}"), "slide")
                yield _marked(part, "-")


def _formulas(nb: NotebookNode) -> list[tuple[str, str]]:
    """The first sections with a formula, and the first formula of each."""
    found: dict[str, str] = {}
    heading = ""
    for cell in nb.cells:
        for below, formula in _sections(cell, heading):
            heading = below
            if formula:
                found.setdefault(heading, formula)
    return list(found.items())[:FORMULAS]


def _sections(cell: NotebookNode, heading: str) -> Iterator[tuple[str, str]]:
    """Headings in a text and below each its first formula, "" for none; `heading` goes on."""
    if cell.cell_type != "markdown":
        return
    begin, *parts = re.split(HEADING, DETAILS.sub("", cell.source))
    for found, below in zip([heading, *parts[::2]], [begin, *parts[1::2]], strict=True):
        yield found, "" if tags(cell) or not found else _formula(below)


def _formula(text: str) -> str:
    """The first paragraph that is a formula, with the one before it where that is short prose."""
    parts = [part for part in text.strip().split("\n\n") if part]
    for before, part in zip(["", *parts], parts, strict=False):
        if part.startswith("$$"):
            prose = before[:1] not in ("#", "|", "-", "!", "<", ">")
            return (
                f"{before}\n\n{part}" if before and prose and len(before.split()) <= WORDS else part
            )
    return ""


def _pictures(cell: NotebookNode) -> Iterator[NotebookNode]:
    """A cell for each picture, with its caption and nothing that was printed; the alt text has the
    details."""
    shown = [output for output in cell.get("outputs", []) if output.output_type != "stream"]
    places = [i for i, output in enumerate(shown) if "image/png" in output.get("data", {})]
    for begin, end in zip([0, *places[1:]], [*places[1:], len(shown)], strict=True):
        part = copy.deepcopy(cell)
        part.id = f"{cell.id[:58]}-{begin}"
        part.outputs = copy.deepcopy(shown[begin:end])
        for output in part.outputs:
            if text := output.get("data", {}).get("text/markdown"):
                output.data["text/markdown"] = DETAILS.sub("", "".join(text))
        if part.outputs:
            yield part


def _points(summary: str) -> str:
    """The heading and the points of a summary, without what follows them."""
    head, *parts = summary.split("\n\n")
    points = next((part for part in parts if part.startswith("- ")), "\n\n".join(parts))
    return f"{head}\n\n{points}"


def _marked(cell: NotebookNode, kind: str) -> NotebookNode:
    cell = copy.deepcopy(cell)
    if cell.cell_type == "markdown":
        cell.source = to_pages(cell.source)
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


def to_pages(text: str) -> str:
    """Links to notebooks lead to their pages."""
    return LINK.sub(r"](\1.html)", text)

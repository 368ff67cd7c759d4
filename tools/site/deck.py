"""A notebook as a deck of at most twelve slides.

Cells tagged `slide` or `subslide` make it, `skip` leaves one out. Where none is tagged, a deck is
title, goals, the pictures below the headings of their sections, and the summary.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from eqprop_lab.regression.parameters import tags

MOST = 12
KINDS = ("slide", "subslide")
PICTURES = {"figure", "explorer"}
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
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
    """Title, goals, as many pictures as fit, summary."""
    title = "\n\n".join(str(nb.cells[0].source).split("\n\n")[:2])
    yield _marked(new_markdown_cell(title), "slide")
    for cell in nb.cells:
        if "goals" in tags(cell):
            yield _marked(new_markdown_cell(f"## Goals\n\n{cell.source}"), "slide")
    yield from _pictures(nb, MOST - 3)
    for cell in nb.cells:
        if "summary" in tags(cell):
            yield _marked(new_markdown_cell(_points(cell.source)), "slide")


def _pictures(nb: NotebookNode, most: int) -> Iterator[NotebookNode]:
    """Pictures below the heading of their section; figures first where there are too many."""
    shown = [c for c in nb.cells if PICTURES & set(tags(c)) and c.get("outputs")]
    shown.sort(key=lambda cell: "figure" not in tags(cell))
    kept = {cell.id for cell in shown[:most]}
    heading = ""
    for cell in nb.cells:
        if cell.cell_type == "markdown" and (found := HEADING.findall(cell.source)):
            heading = found[-1]
        if cell.id in kept:
            yield _marked(new_markdown_cell(f"## {heading}"), "slide")
            yield _marked(_without_details(cell), "-")


def _without_details(cell: NotebookNode) -> NotebookNode:
    """A picture with its caption; the description is its alt text already."""
    cell = copy.deepcopy(cell)
    for output in cell.outputs:
        if "text/markdown" in output.get("data", {}):
            output.data["text/markdown"] = DETAILS.sub("", "".join(output.data["text/markdown"]))
    return cell


def _points(summary: str) -> str:
    """The heading and the points of a summary, without what follows them."""
    head, *parts = summary.split("\n\n")
    points = next((part for part in parts if part.startswith("- ")), "\n\n".join(parts))
    return f"{head}\n\n{points}"


def _marked(cell: NotebookNode, kind: str) -> NotebookNode:
    cell = copy.deepcopy(cell)
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell

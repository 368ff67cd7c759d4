"""The tools in a real kernel, and what a page without JavaScript makes of their outputs."""

from __future__ import annotations

import base64
import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from eqprop_lab.notebook.metrics import METRICS_MIME, PROVENANCE_MIME
from tests.waiting import PATIENCE

VIEW = "application/vnd.jupyter.widget-view+json"

CELLS = (
    "from eqprop_lab.notebook import Explorer, Slider, new_figure, provenance, record, setup, show"
    "\nsetup(0);",
    """class Line(Explorer):
    title = "A line"
    controls = [Slider("slope", -2.0, 2.0, 1.0, 0.1, "slope")]

    def draw(self, figure, data):
        figure.subplots().plot([0, 1], [0, data["slope"]])

    def describe(self, data, slope):
        return f"One straight line of slope {slope:.1f}."

line = Line()
line""",
    "line.set(slope=2.0)\nprint(line.alt)",
    """figure = new_figure(4, 2)
figure.subplots().plot([0, 1])
show(figure, "nb01_line", "One line that rises from zero to one.", "A rising line.")""",
    "record(accuracy=0.5)\nprovenance()",
    "record(accuracy=0.6)",
)


@pytest.fixture(scope="module")
def notebook() -> Any:
    """Executed once; the last cell records a duplicate."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    book.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return NotebookClient(book, timeout=PATIENCE, allow_errors=True).execute()


@pytest.mark.kernel
def test_an_explorer_is_a_widget_a_picture_and_a_sentence(notebook: Any) -> None:
    widget, picture = notebook.cells[1].outputs
    assert set(widget.data) == {VIEW} and set(picture.data) == {
        "text/html",
        "image/png",
        "text/plain",
    }
    assert picture.metadata["image/png"] == {"alt": "One straight line of slope 1.0.", "width": 700}
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    assert (
        picture.data["text/plain"] == "One straight line of slope 1.0."
        and "eqprop-static" in picture.data["text/html"]
    )
    assert notebook.cells[2].outputs[0].text == "One straight line of slope 2.0.\n"


@pytest.mark.kernel
def test_metrics_and_provenance_reach_the_notebook(notebook: Any) -> None:
    outputs = notebook.cells[4].outputs
    assert outputs[0].data == {METRICS_MIME: {"metrics": {"accuracy": 0.5}}}
    assert (
        outputs[1].text.startswith("Computed with python")
        and outputs[2].data[PROVENANCE_MIME]["seed"] == 0
    )
    (error,) = notebook.cells[5].outputs
    assert (error.output_type, error.ename) == (
        "error",
        "ValueError",
    ) and "already recorded" in error.evalue
    assert [cell.outputs for cell in notebook.cells[:1]] == [[]]


@pytest.mark.kernel
def test_without_javascript_every_picture_has_its_sentence(notebook: Any) -> None:
    page = nbformat.from_dict(notebook)
    page.metadata.pop("widgets", None)
    page.cells = [*page.cells[:2], page.cells[3]]
    # a page without JavaScript shows no output that is nothing but a widget
    for cell in page.cells:
        cell.outputs = [output for output in cell.outputs if set(output.data) != {VIEW}]
    html, _ = HTMLExporter(template_name="classic").from_notebook_node(page)
    # The style sheet and scripts of the template hold no <img>; every picture here is an output.
    alts = re.findall(r'<img[^>]*\balt="([^"]*)"', html)
    assert alts == ["One straight line of slope 1.0.", "One line that rises from zero to one."]
    text = re.sub(r"<img[^>]*>", "", html)
    for words in (*alts, "A rising line."):
        assert words in text

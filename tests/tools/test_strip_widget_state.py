"""The pre-commit hook removes widget state, and nothing else."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from eqprop_lab.regression.outputs import WIDGET_VIEW_MIME
from tools.strip_widget_state import VIEW, main


def notebook(*data: dict[str, object]) -> nbformat.NotebookNode:
    """A notebook of one code cell that displayed these bundles."""
    outputs = [v4.new_output("display_data", data=bundle) for bundle in data]
    return v4.new_notebook(
        cells=[v4.new_markdown_cell("# t"), v4.new_code_cell("x", outputs=outputs)]
    )


def test_state_and_views_go_and_pictures_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = notebook({VIEW: {"model_id": "a"}, "image/png": "aGk="}, {VIEW: {"model_id": "b"}})
    saved.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    path = tmp_path / "n.ipynb"
    nbformat.write(saved, path)
    assert VIEW == WIDGET_VIEW_MIME
    assert main([str(path)]) == 1
    assert "widget state removed" in capsys.readouterr().out
    kept = nbformat.read(path, as_version=4)
    assert "widgets" not in kept.metadata
    assert [dict(o.data) for o in kept.cells[1].outputs] == [{"image/png": "aGk="}]
    assert [c.id for c in kept.cells] == [c.id for c in saved.cells]
    assert list(tmp_path.iterdir()) == [path]


def test_a_notebook_without_widgets_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(nbformat.writes(notebook({"text/plain": "1"})) + "\n\n", encoding="utf-8")
    before = path.read_bytes()
    assert main([str(path)]) == 0
    assert path.read_bytes() == before

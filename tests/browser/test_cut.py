"""What is left of a notebook is what its explorers need."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.browser.cut import cut_to_explorers


def test_the_cells_an_explorer_needs_stay_in_their_order(tmp_path: Path) -> None:
    cells = [
        new_code_cell("import math as m", metadata={"tags": ["setup"]}),
        new_markdown_cell("# Title"),
        new_code_cell("half = m.pi / 2"),
        new_code_cell("unused = half"),
        new_code_cell("def twice(x):\n    return 2 * x + half"),
        new_code_cell("twice(1)", metadata={"tags": ["explorer"]}),
        new_code_cell("half = 0"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    cut_to_explorers(tmp_path / "a.ipynb")
    left = [cell.source for cell in nbformat.read(tmp_path / "a.ipynb", as_version=4).cells]
    assert left == [cells[place].source for place in (0, 1, 2, 4, 5)]

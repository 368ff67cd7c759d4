"""What is left of a notebook is what its explorers need."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.browser.cut import cut_to_explorers, needed


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


def test_a_name_that_a_cell_makes_itself_asks_for_no_other_cell() -> None:
    cells = [
        "for k in range(3):\n    figure = k",
        "net = [k for k in range(3)]",
        "net = [figure for figure in net]",
        "def f(k):\n    figure = k\n    return lambda: figure + k",
        "figure = f(net)\nfor k in range(2):\n    print(figure, k)",
    ]
    assert needed(cells, {4}) == {1, 2, 3, 4}


def test_what_is_taken_before_it_is_made_asks_for_the_last_cell_that_made_it() -> None:
    cells = ["n = 1", "n = 2", "n += 1", "class C:\n    width = n", "C()"]
    assert needed(cells, {4}) == {1, 2, 3, 4}

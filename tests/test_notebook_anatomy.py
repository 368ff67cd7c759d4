"""Every notebook of the series keeps to the anatomy: cells, tags, budgets, stored outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqprop_lab.regression.plan import find_notebooks
from tools.anatomy.anatomy import lint_notebook

ROOT = Path(__file__).resolve().parents[1]
SERIES = find_notebooks([], ROOT)


@pytest.mark.parametrize("path", SERIES, ids=[path.stem for path in SERIES])
def test_notebook_keeps_to_the_anatomy(path: Path) -> None:
    assert lint_notebook(path, SERIES) == []

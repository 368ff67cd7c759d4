"""The whole series once through the runner, two kernels at a time: every notebook is green."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqprop_lab.regression import NotebookResult, find_notebooks, run_notebooks
from eqprop_lab.regression.execute import kernel_count
from tests.regression.tiny import options
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SERIES = [path.stem for path in find_notebooks([], ROOT)]
# s. Only ends a notebook that hangs: how long a smoke run takes is for a quiet machine to say, not
# for a test.
LIMIT = 2 * PATIENCE

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookResult]:
    """One run of the series in the smoke profile."""
    output = tmp_path_factory.mktemp("series")
    chosen = options(ROOT, output=output, jobs=kernel_count(None), time_limit=LIMIT)
    return {
        result.key: result for result in run_notebooks(find_notebooks([], ROOT), chosen).results
    }


@pytest.mark.parametrize("name", SERIES)
def test_notebook_is_green(results: dict[str, NotebookResult], name: str) -> None:
    assert results[name].status == "passed", "\n".join(results[name].problems)

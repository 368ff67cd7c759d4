"""The usual tools work on the notebooks without the runner: papermill in two folders, nbval."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from eqprop_lab.regression import find_notebooks
from eqprop_lab.regression.outputs import hidden_errors, metrics_of
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.kernel


def quickest(count: int) -> list[Path]:
    """The notebooks whose title cell promises the shortest run ("40 s run")."""

    def seconds(path: Path) -> float:
        found = re.search(r"([\d.]+) s run", nbformat.read(path, as_version=4).cells[0].source)
        return float(found.group(1)) if found else float("inf")

    return sorted(find_notebooks([], ROOT), key=seconds)[:count]


QUICK = quickest(2)
needs_notebooks = pytest.mark.skipif(not QUICK, reason="there are no notebooks yet")


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@needs_notebooks
@pytest.mark.parametrize("start", [".", "notebooks"])
def test_papermill_runs_a_notebook_with_a_seed(tmp_path: Path, start: str) -> None:
    path, out = QUICK[0].relative_to(ROOT / start), tmp_path / "out.ipynb"
    said = run(
        ["papermill", str(path), str(out), "-p", "seed", "3", "--no-progress-bar"], ROOT / start
    )
    assert "unknown parameter" not in said
    executed = nbformat.read(out, as_version=4)
    assert hidden_errors(executed) == []
    assert metrics_of(executed)[0]
    injected = [
        cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])
    ]
    assert "seed = 3" in injected[0].source


@needs_notebooks
@pytest.mark.parametrize("path", QUICK, ids=[path.stem for path in QUICK])
def test_nbval_passes(path: Path) -> None:
    said = run(
        ["pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", str(path.relative_to(ROOT))], ROOT
    )
    assert re.search(r"\d+ passed", said)

"""The usual tools work on the notebooks without the runner: papermill in their folder, and nbval.

The README's commands do the same from the project's folder, with the first notebook
(tests/test_readme.py).
"""

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


def promised(path: Path) -> float:
    """The seconds that the title cell promises ("40 s run")."""
    found = re.search(r"([\d.]+) s run", nbformat.read(path, as_version=4).cells[0].source)
    return float(found.group(1)) if found else float("inf")


# Not the first: the README's commands run that one.
QUICKEST = min(find_notebooks([], ROOT)[1:], key=promised)


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


def check_seeded(out: Path) -> None:
    """What papermill has written with `-p seed 3` is a whole run with that seed."""
    executed = nbformat.read(out, as_version=4)
    assert hidden_errors(executed) == []
    assert metrics_of(executed)[0]
    injected = [
        cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])
    ]
    assert "seed = 3" in injected[0].source


def test_papermill_runs_a_notebook_with_a_seed(tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    command = ["papermill", QUICKEST.name, str(out), "-p", "seed", "3", "--no-progress-bar"]
    assert "unknown parameter" not in run(command, QUICKEST.parent)
    check_seeded(out)


def test_nbval_passes() -> None:
    path = str(QUICKEST.relative_to(ROOT))
    said = run(["pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", path], ROOT)
    assert re.search(r"\d+ passed", said)

"""The floors of the house: no file imports in a circle, and no import runs up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.import_graph import circles, draw, forbidden

GRAPH = draw(Path(__file__).parents[1] / "eqprop_lab")


def test_the_graph_is_that_of_the_package() -> None:
    assert {"lazy.py", "equilibrium/relaxation.py"} <= GRAPH["__init__.py"]
    assert len(GRAPH) > 100


def test_no_import_runs_up() -> None:
    assert forbidden(GRAPH) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles(GRAPH) == []


def test_the_runner_loads_no_torch() -> None:
    code = "import sys, eqprop_lab.regression.runner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

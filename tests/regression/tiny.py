"""Tiny notebooks and projects for the tests of the runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from eqprop_lab.regression import Options
from eqprop_lab.regression.outputs import METRICS_MIME

PARAMETERS = """seed: int = 0  # seed of everything random
profile: str = "smoke"  # size of the experiment
rate: float = 0.5  # learning rate"""
KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
}


def recording(**metrics: str) -> str:
    """Source of a cell that records metrics (values: expressions) without the package."""
    pairs = ", ".join(f"{name!r}: {value}" for name, value in metrics.items())
    data = f"{{{METRICS_MIME!r}: {{'metrics': {{{pairs}}}}}}}"
    return f"from IPython.display import display\ndisplay({data}, raw=True)"


def code(source: str, *tags: str) -> NotebookNode:
    """A code cell with tags."""
    cell = new_code_cell(source)
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def prose(source: str, *tags: str) -> NotebookNode:
    """A markdown cell with tags."""
    cell = new_markdown_cell(source)
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def notebook(*sources: str, parameters: str = PARAMETERS) -> NotebookNode:
    """A notebook with a parameters cell and one code cell per source."""
    cells = [prose("# Tiny"), code(parameters, "parameters"), *[code(source) for source in sources]]
    return new_notebook(cells=cells, metadata=KERNEL)


def project(folder: Path, **notebooks: NotebookNode) -> Path:
    """A project folder with notebooks/ (n00_ok becomes 00_ok.ipynb) and a baseline for the metric
    a.
    """
    (folder / "notebooks").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "tiny"\n')
    entry = {"a": {"value": 1.0, "kind": "abs", "tol": 0.1, "source": "theory"}}
    for key, nb in notebooks.items():
        nbformat.write(nb, folder / "notebooks" / f"{key[1:]}.ipynb")
    write_baseline(folder, {key[1:]: entry for key in notebooks})
    return folder


def write_baseline(folder: Path, content: dict[str, Any]) -> None:
    """Replace the baseline of a project."""
    path = folder / "tests" / "regression" / "baseline.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def options(root: Path, **changes: Any) -> Options:
    """Options of a quiet run with one kernel."""
    values: dict[str, Any] = {
        "root": root,
        "output": root / "runs",
        "baseline": root / "tests" / "regression" / "baseline.json",
        "jobs": 1,
        "progress_bar": False,
    }
    return Options(**(values | changes))


def notebooks_of(root: Path) -> list[Path]:
    """The notebooks of a project, in order."""
    return sorted((root / "notebooks").glob("*.ipynb"))

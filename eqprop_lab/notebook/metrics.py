"""What a notebook leaves for the regression: metrics, provenance, stored results of long runs."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython import get_ipython

from eqprop_lab.files import nearest
from eqprop_lab.notebook.output import emit
from eqprop_lab.notebook.session import Session, current_session, has_session

METRICS_MIME = "application/vnd.eqprop.metrics+json"
PROVENANCE_MIME = "application/vnd.eqprop.provenance+json"
EDITION = ".eqprop-course"
"""Marks an edition of the series for a course; stored results lie in it as in the project."""
RESULTS_DIR = "EQPROP_RESULTS_DIR"
"""Environment variable: folder of the stored results; default `data/results` of the project."""

STORED_KEYS = ("device", "versions", "date", "seeds", "estimator")

_recorded: dict[str, tuple[Session | None, str, int]] = {}


def record(**metrics: Any) -> None:
    """Hand numbers to the regression; the reader sees nothing.

    One name is recorded once per run of a notebook; running the same cell again replaces its
    numbers.
    Raises:
        TypeError: not one number. ValueError: not finite, a duplicate, a name not in lower_case,
        nothing.
    """
    if not metrics:
        raise ValueError("record() was called without a metric; write record(accuracy=...)")
    session = current_session() if has_session() else None
    cell, count = _running_cell()
    values: dict[str, float] = {}
    for name, value in metrics.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(
                f"metric {name!r}: a name has lower-case letters, digits and underscores"
            )
        values[name] = _one_number(name, value)
        if name in _recorded:
            earlier, source, execution = _recorded[name]
            if earlier is session and not (cell and source == cell and execution != count):
                raise ValueError(
                    f"metric {name!r} is already recorded in this run; every metric has one value"
                )
    _recorded.update({name: (session, cell, count) for name in values})
    emit({METRICS_MIME: {"metrics": values}})


def provenance() -> None:
    """Print versions, seed and profile in one line; device and seconds go to the report only.

    The line is the same on every machine with the same versions. RuntimeError when `setup` has not
    run.
    """
    session = current_session()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "eqprop_lab": _own_version(),
    }
    # "2.13.0+cpu" names the wheel of this machine; the report keeps it.
    shown = ", ".join(f"{name} {version.partition('+')[0]}" for name, version in versions.items())
    print(f"Computed with {shown}; seed {session.seed}, profile {session.profile}.")
    emit(
        {
            PROVENANCE_MIME: {
                "versions": versions,
                "seed": session.seed,
                "profile": session.profile,
                "device": session.device,
                "seconds": round(session.seconds, 3),
            }
        },
    )


def stored(name: str) -> dict[str, Any]:
    """Read `data/results/<name>.json`, say in one line where its numbers come from, and return it.

    Raises:
        ValueError: bad name, broken JSON, or one of device, versions, date, seeds, estimator is
        missing. FileNotFoundError: no such result; the message lists the ones there are.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_\-]*", str(name)):
        raise ValueError(
            f"name = {name!r}: a stored result is called by its file name without folder and ending"
        )
    folder = _results_folder()
    path = folder / f"{name}.json"
    if not path.is_file():
        there = ", ".join(stored_names()) or "none"
        raise FileNotFoundError(
            f"stored result {name!r} is missing in data/results; there: {there}"
        )
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"data/results/{name}.json is not valid JSON: {error}") from error
    missing = [
        key
        for key in STORED_KEYS
        if not isinstance(result, dict) or result.get(key) in (None, "", [], {})
    ]
    if missing:
        raise ValueError(f"data/results/{name}.json says nothing about: {', '.join(missing)}")
    versions, seeds = result["versions"], result["seeds"]
    if isinstance(versions, dict):
        versions = ", ".join(f"{package} {version}" for package, version in versions.items())
    if isinstance(seeds, list):
        seeds = ", ".join(map(str, seeds))
    print(
        f"Stored result {name!r}: {result['device']}, {versions}, {result['date']}, seeds {seeds}, "
        f"estimator {result['estimator']}."
    )
    return result


def stored_names(beginning: str = "") -> list[str]:
    """The names of the stored results that begin so, in order: what `stored` can read.

    Raises FileNotFoundError outside of the project.
    """
    paths = _results_folder().glob("*.json")
    return sorted(path.stem for path in paths if path.stem.startswith(beginning))


def _results_folder() -> Path:
    """From the environment, else from the project the working directory lies in."""
    if os.environ.get(RESULTS_DIR):
        return Path(os.environ[RESULTS_DIR])
    project = nearest(_is_project)
    if project is None:
        raise FileNotFoundError(
            "no eqprop_lab project around the working directory: start the notebook inside the "
            f"project, or set {RESULTS_DIR} to the folder of the stored results"
        )
    return project / "data" / "results"


def _is_project(folder: Path) -> bool:
    if (folder / EDITION).is_file():
        return True
    file = folder / "pyproject.toml"
    if not file.is_file():
        return False
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    return str(project.get("name", "")).replace("-", "_") == "eqprop_lab"


def _one_number(name: str, value: Any) -> float:
    numeric = isinstance(value, (np.generic, torch.Tensor, np.ndarray))
    item = value.item() if numeric and value.ndim == 0 else value
    if isinstance(item, bool) or not isinstance(item, (int, float)):
        raise TypeError(
            f"metric {name} = {value!r} is a {type(value).__name__}; one int or float is needed"
        )
    if not math.isfinite(item):
        raise ValueError(f"metric {name} = {item!r} is not finite; a metric is a finite number")
    return item


def _running_cell() -> tuple[str, int]:
    """Source and execution count of the cell that runs; ("", 0) outside IPython."""
    shell = get_ipython()
    if shell is None:
        return "", 0
    return str(shell.user_ns["In"][-1]), int(shell.execution_count)


def _own_version() -> str:
    """Of the installed distribution; a bare source tree has none."""
    try:
        return metadata.version("eqprop_lab")
    except metadata.PackageNotFoundError:
        return "from source"

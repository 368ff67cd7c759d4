"""Where benchmarks keep what they measured: `tests/benchmarks/results/NAME.json`, with versions,
device and date.
"""

from __future__ import annotations

import json
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eqprop_lab.files import replace_text

RESULTS = Path(__file__).resolve().parent / "results"


def write_result(
    name: str, result: dict[str, Any], folder: Path | None = None, device: str = "CPU, 1 thread"
) -> Path:
    """Write one result atomically and return its path."""
    versions = {"python": platform.python_version()} | {
        p: version(p) for p in ("torch", "numpy", "eqprop_lab")
    }
    versions = {package: text.partition("+")[0] for package, text in versions.items()}
    path = (RESULTS if folder is None else folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"device": device, "versions": versions, "date": date.today().isoformat()}
    replace_text(path, json.dumps(head | result, indent=1) + "\n")
    print(f"written: {path.name}")
    return path

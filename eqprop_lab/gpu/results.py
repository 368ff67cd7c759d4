"""Reports of `gpu-check` as one stored result of a device, `gpu_<device>.json`, for notebooks.

    python -m eqprop_lab gpu-check --publish REPORT.json ... --out data/results

The last report of a check counts. What a stored result has to say (device, versions, date, seeds,
estimator) is said for all of them: every check draws from seed 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eqprop_lab.files import replace_text
from eqprop_lab.training.loggers import finite
from eqprop_lab.validation import shown


def publish(reports: Iterable[Path], folder: Path) -> Path:
    """Write the result and return its path. Raises ValueError naming the report that is none."""
    found = [(path, _read(path)) for path in reports]
    result = merged([report for _, report in found])
    path = folder / f"{result_name(result['device'])}.json"
    return replace_text(path, json.dumps(finite(result), indent=1, allow_nan=False) + "\n")


def result_name(device: str) -> str:
    """ "gpu_nvidia_h100_80gb_hbm3" for "NVIDIA H100 80GB HBM3"."""
    return "_".join(["gpu", *re.findall(r"[a-z0-9]+", device.lower())])


def merged(reports: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One result of the reports of one device, the oldest first.

    Raises ValueError for none, for several devices, for a check that has failed in the end.
    """
    devices = sorted({report["device"] for report in reports})
    if len(devices) != 1:
        raise ValueError(f"reports must be those of one device, got {', '.join(devices) or 'none'}")
    checks: dict[str, Any] = {}
    for report in sorted(reports, key=lambda report: str(report["date"])):
        day = str(report["date"])[:10]
        checks |= {
            name: dict(figures) | {"date": day} for name, figures in report["checks"].items()
        }
    failed = [name for name, figures in checks.items() if not figures["ok"]]
    if failed:
        raise ValueError(f"reports must hold checks that pass, and {', '.join(failed)} failed")
    last = max(reports, key=lambda report: str(report["date"]))
    versions = {key: last["versions"][key] for key in ("eqprop_lab", "python", "torch", "numpy")}
    more = {key: last["versions"].get(key) for key in ("cupy", "cuda")}
    return {
        "device": devices[0],
        "versions": versions | {key: value for key, value in more.items() if value is not None},
        "date": str(last["date"])[:10],
        "seeds": [0],
        "estimator": "centered",
        "checks": checks,
    }


def _read(path: Path) -> Mapping[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        assert report["device"] and report["date"] and report["versions"]
        assert all("ok" in figures for figures in report["checks"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{shown(str(path))} must be a report of gpu-check: {error!r}") from error
    return dict(report)

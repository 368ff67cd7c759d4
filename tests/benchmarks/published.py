"""Published results: trainings stored one by one, so that a long job can be cut anywhere and goes
on where it was.

A result is one JSON file: what its runs share (device, versions, recipe, ...) and a list of runs
per network, one run a seed. A run that is there is not made again; a file whose runs were made
otherwise is left alone. Seconds are CPU seconds of the process, validation included.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from eqprop_lab import EqPropTrainer, __version__
from eqprop_lab.datasets import DataSet
from eqprop_lab.files import replace_text
from eqprop_lab.training import History

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"
CURVES = ("train_accuracy", "val_accuracy")
# of networks that settle, where the trainer measures it
SETTLING = ("residual", "val_residual", "norm")
SHARED = (
    "device",
    "versions",
    "estimator",
    "dataset",
    "samples",
    "sizes",
    "parameters",
    "recipe",
    "networks",
)  # what all runs of a file have in common

Row = dict[str, Any]


class StaleResult(RuntimeError):
    """A stored result whose runs were made otherwise; the message says what differs."""


@dataclass(frozen=True)
class Training:
    """How one network is trained: seed -> its record. settings: what it does otherwise than the
    shared recipe.
    """

    run: Callable[[int], Row]
    settings: dict[str, Any] = field(default_factory=dict)


def processor() -> str:
    """What a run on the CPU is made on: "CPU, 1 thread"."""
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def shared(
    data: DataSet,
    estimator: str,
    networks: Mapping[str, str],
    sizes: Sequence[int | str],
    parameters: int,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """The part of a result that its runs share. networks: class by the key under which its runs
    stand.
    """
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return {
        "device": processor(),
        "versions": {name: version.partition("+")[0] for name, version in versions.items()}
        | {"eqprop_lab": __version__},
        "estimator": estimator,
        "dataset": data.name,
        "samples": {
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        },
        "sizes": list(sizes),
        "parameters": parameters,
        "recipe": dict(recipe),
        "networks": dict(networks),
    }


def measured(trainer: EqPropTrainer, fit: Callable[[], History], data: DataSet) -> Row:
    """Curves over the epochs, CPU seconds of `fit`, and the accuracy on the test images, looked at
    once.
    """
    start = time.process_time()
    history = fit()
    seconds = time.process_time() - start
    names = (
        CURVES
        if trainer.gradient == "autograd"
        else [name for name in (*CURVES, *SETTLING) if name in history]
    )
    test = trainer.evaluate(data.test.batches(1000))
    curves = {name: [float(f"{value:.5g}") for value in history[name]] for name in names}
    return {"test_accuracy": test["accuracy"], "cpu_seconds": round(seconds, 1), **curves}


def read(path: Path) -> dict[str, Any] | None:
    """A stored result, None where there is none yet. Raises ValueError for a file that is no JSON
    object.
    """
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(result, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got a {type(result).__name__}")
    return result


def publish(
    path: Path,
    head: Mapping[str, Any],
    trainings: Mapping[str, Training],
    seeds: Sequence[int],
    fresh: bool = False,
) -> dict[str, Any]:
    """Make the runs that are missing in `path`, storing each at once; return the whole result.

    Several processes may fill one file. fresh: discard what is stored before. Raises StaleResult
    when the file holds runs made otherwise, before any training.
    """
    head = json.loads(json.dumps(head))
    if fresh:
        path.unlink(missing_ok=True)
    result = _fitting(path, head)
    for seed in seeds:
        for name, training in trainings.items():
            settings = json.loads(json.dumps(training.settings))
            if any(
                row["seed"] == seed and settings.items() <= row.items()
                for row in result.get(name, [])
            ):
                print(f"seed {seed} {name:8} is stored already", flush=True)
                continue
            row = {"seed": seed} | settings | training.run(seed)
            result = _add(path, head, name, row)
            print(
                f"seed {seed} {name:8} validation {row['val_accuracy'][-1]:.4f} "
                f"test {row['test_accuracy']:.4f} {_time(row)}",
                flush=True,
            )
    return result


def _time(row: Row) -> str:
    """CPU seconds, or seconds of a device that is none."""
    return f"{row['cpu_seconds']:.0f} s CPU" if "cpu_seconds" in row else f"{row['seconds']:.0f} s"


def _fitting(path: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    """The stored result, {} where there is none. Raises StaleResult when its runs do not share
    `head`.
    """
    result = read(path) or {}
    for key in SHARED:
        if result and result.get(key) != head[key]:
            there, here = result.get(key), head[key]
            if isinstance(there, dict) and isinstance(here, dict):
                differ = {k for k in there.keys() | here.keys() if there.get(k) != here.get(k)}
                there, here = ({k: d[k] for k in sorted(differ) if k in d} for d in (there, here))
            raise StaleResult(
                f"{path.name} holds runs with {key} {there}, these have {here}: "
                "--fresh discards them"
            )
    return result


def _add(path: Path, head: Mapping[str, Any], name: str, row: Row) -> dict[str, Any]:
    """The result with one more run, as it is stored now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"eqprop_lab_{digest}.lock"):
        before = _fitting(path, head)
        runs = {key: before[key] for key in head["networks"] if key in before}
        rows = [*(other for other in runs.get(name, []) if other["seed"] != row["seed"]), row]
        runs[name] = sorted(rows, key=lambda one: int(one["seed"]))
        seeds = sorted({one["seed"] for rows in runs.values() for one in rows})
        start = {
            "device": head["device"],
            "versions": head["versions"],
            "date": datetime.date.today().isoformat(),
        }
        ordered = {key: runs[key] for key in head["networks"] if key in runs}
        result = {
            **start,
            "seeds": seeds,
            **{k: v for k, v in head.items() if k not in start},
            **ordered,
        }
        replace_text(path, json.dumps(result, indent=1) + "\n")
    return result

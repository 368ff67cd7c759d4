"""The run of a config is found again: the latest of its own, never one of another config."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.experiments.resuming import runs_named, take_up
from eqprop_lab.experiments.runs import RunError, RunStore

CONFIG: dict[str, Any] = {
    "model": {"name": "LoopedMLP", "params": {"sizes": (3, 4)}},
    "training": {"epochs": 2, "lr": 1e-5},
    "experiment": {"name": "first"},
}


def changed(section: str, **values: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    config[section] |= values
    return config


def test_the_latest_run_of_a_config_is_taken_up(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert take_up(store, CONFIG) is None
    store.create({"model": "of someone else"})
    store.create(changed("experiment", name="second"))
    assert take_up(store, CONFIG) is None and len(store.runs()) == 2
    runs = [store.create(CONFIG), store.create(changed("training", device="cuda:1"))]
    other = store.create(changed("training", epochs=9))
    found = take_up(store, changed("training", device="cpu"))
    assert found is not None and found.id in {run.id for run in runs}
    assert len(runs_named(store, "first")) == 3
    assert (again := take_up(store, other.config)) is not None and again.id == other.id


def test_a_run_of_another_config_is_not_taken_up(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run = store.create(CONFIG)
    with pytest.raises(
        RunError, match=f"run {run.id} of 'first' has another config: training.lr is"
    ):
        take_up(store, changed("training", lr=1e-4))
    with pytest.raises(RunError, match="training.extra is '-' there, 1 here.*begin a new run"):
        take_up(store, changed("training", extra=1))

"""Sweeps on a Dask cluster: the same values as in one process, workers killed or not, bad trials
pruned as Optuna prunes them, and what is refused.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.waiting import PATIENCE, until

optuna = pytest.importorskip("optuna")
dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
from eqprop_lab.experiments.scale_out import (  # noqa: E402
    _look_for_workers,
    _tell,
    make,
    medians,
    packed,
)
from eqprop_lab.experiments.sweeps import sweep  # noqa: E402
from eqprop_lab.experiments.trials import Queue, Report, open_storage, open_study  # noqa: E402
from eqprop_lab.training import BatchError  # noqa: E402

GRID = {"a": [1, 2, 3], "b": [0.5, 1.5]}
QUIET: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers that are threads of this process."""
    with (
        distributed.LocalCluster(processes=False, protocol="inproc", **QUIET) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


def value_of(params: dict[str, Any], report: Report) -> float:
    return math.sin(params["a"]) + params["b"] / 3


def states(found: Any) -> list[str]:
    return sorted(row["state"] for row in found.rows)


def test_a_grid_and_a_search_have_the_values_of_one_process(client: Any, tmp_path: Path) -> None:
    how: dict[str, Any] = {"storage": tmp_path / "s.db"}
    alone = sweep(value_of, GRID, None, study="alone", **how)
    found = sweep(value_of, GRID, None, executor=client, **how)
    keep = ("number", "state", "value", "params")
    assert [[r[k] for k in keep] for r in found.rows] == [[r[k] for k in keep] for r in alone.rows]
    space = {"a": {"low": 0.0, "high": 3.0}, "b": [1.0]}
    search = sweep(value_of, space, 7, study="search", executor=client, **how)
    assert states(search) == ["COMPLETE"] * 7 and len({r["value"] for r in search.rows}) == 7
    assert all(r["value"] == value_of(r["params"], lambda *_: None) for r in search.rows)


def test_what_raises_ends_the_sweep_and_gives_the_others_back(client: Any, tmp_path: Path) -> None:
    def train(params: dict[str, Any], report: Report) -> float:
        (tmp_path / f"{params['a']} {time.monotonic_ns()}").touch()
        if params["a"] == 7:
            raise BatchError("epoch 1, batch 1: not finite")
        if params["a"] == 2:
            raise ZeroDivisionError("here")
        if not (tmp_path / "go").exists():
            until(lambda: (tmp_path / "go").exists())
        return float(params["a"])

    space, how = {"a": [7, 1, 2]}, {"storage": tmp_path / "s.db", "executor": client}
    with pytest.raises(ZeroDivisionError, match="here"):
        sweep(train, space, None, retries=1, **how)
    assert len(list(tmp_path.glob("2 *"))) == 2
    (tmp_path / "go").touch()
    found = sweep(train, space, None, retries=1, **how)
    assert {r["params"]["a"] for r in found.complete} == {1}
    assert states(found) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")  # Optuna's own, for a curve of nan
def test_a_trial_is_pruned_as_optuna_prunes_it(tmp_path: Path) -> None:
    """The same curves, seen by Optuna's pruner and by a worker."""
    curves = np.random.default_rng(0).normal(size=(30, 3)).round(1)
    curves[11] = np.nan
    told, seen = [], []
    for direction in ("maximize", "minimize"):
        pruner = optuna.pruners.MedianPruner()
        study = optuna.create_study(direction=direction, pruner=pruner)
        for curve in curves:
            bars = medians(study)
            trial = study.ask()

            def train(params: dict[str, Any], report: Report, curve: Any = curve) -> float:
                for step, value in enumerate(curve):
                    report(step, value)
                return 1.0

            outcome, reports = make(packed(train), {}, bars, direction.upper())
            seen.append((outcome.state, list(reports)))
            state = "COMPLETE"
            for step, value in enumerate(curve):
                trial.report(value, step)
                if trial.should_prune():
                    state = "PRUNED"
                    break
            told.append((state, list(range(step + 1))))
            study.tell(trial, 1.0 if state == "COMPLETE" else None, optuna.trial.TrialState[state])
    assert seen == told and {"PRUNED", "COMPLETE"} == {state for state, _ in seen}


def test_a_bad_trial_is_pruned_on_a_worker(client: Any, tmp_path: Path) -> None:
    def train(params: dict[str, Any], report: Report) -> float:
        for step in range(3):
            report(step, float(params["a"]))
        return float(params["a"])

    space = {"a": [9, 8, 7, 6, 5, 4, 3, 2, 1]}
    found = sweep(train, space, None, storage=tmp_path / "s.db", executor=client)
    ended = {r["params"]["a"]: r["state"] for r in found.rows}
    assert ended[9] == "COMPLETE" and ended[1] == "PRUNED"


def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    """It dies inside a trial, which is made again; no worker ever opens the file of the study."""

    def train(params: dict[str, Any], report: Report) -> float:
        opened = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        assert not any(name.startswith(str(tmp_path / "s.db")) for name in opened)
        try:
            (tmp_path / "claimed").touch(exist_ok=False)  # by one worker, once
        except FileExistsError:
            return math.sin(params["a"]) + params["b"] / 3
        (tmp_path / "victim.new").write_text(str(os.getpid()))
        (tmp_path / "victim.new").rename(tmp_path / "victim")
        time.sleep(PATIENCE)
        raise AssertionError("not killed")

    def kill() -> None:
        until((tmp_path / "victim").exists, "the first trial")
        os.kill(int((tmp_path / "victim").read_text()), signal.SIGKILL)

    with (
        # on a busy machine a worker needs longer to come back than the 15 s it is given
        dask.config.set({"distributed.deploy.lost-worker-timeout": f"{PATIENCE}s"}),
        distributed.LocalCluster(processes=True, **QUIET) as cluster,
        distributed.Client(cluster) as away,
        ThreadPoolExecutor(1) as pool,
    ):
        killed = pool.submit(kill)
        found = sweep(train, GRID, None, storage=tmp_path / "s.db", executor=away)
        killed.result()
    assert states(found) == ["COMPLETE"] * 6
    assert all(r["value"] == value_of(r["params"], lambda *_: None) for r in found.rows)


def test_what_trials_cannot_be_sent_to_is_refused(client: Any, tmp_path: Path) -> None:
    how: dict[str, Any] = {"storage": tmp_path / "s.db"}
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match="executor must be a dist"):
        sweep(value_of, GRID, None, executor=pool, **how)  # type: ignore[arg-type]
    closed = distributed.Client(client.cluster)
    closed.close()
    with pytest.raises(ValueError, match="executor must be connected, .* Client that is closed"):
        sweep(value_of, GRID, None, executor=closed, **how)
    lock = threading.Lock()
    with pytest.raises(TypeError, match="train must be a function that can be sent to a worker"):
        sweep(lambda params, report: float(lock.locked()), GRID, None, executor=client, **how)
    assert not (tmp_path / "s.db").exists()
    sweep(value_of, GRID, None, executor=client, **how)
    with pytest.raises(ValueError, match="made with another space"):
        sweep(value_of, {"a": [1]}, None, executor=client, **how)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        sweep(value_of, GRID, None, executor=client, storage=tmp_path / "file" / "s.db")


def test_a_cluster_without_workers_is_said_once(client: Any) -> None:
    idle: Any = SimpleNamespace(nthreads=dict)
    looks = [0]
    with pytest.warns(UserWarning, match="executor has no worker: trials wait") as said:
        for _ in range(4):
            looks.append(_look_for_workers(idle, looks[-1]))
    assert looks == [0, 1, 2, 3, 4] and len(said) == 1 and _look_for_workers(client, 2) == 0


def test_a_trial_whose_workers_died_is_made_again(tmp_path: Path) -> None:
    """As the scheduler says it of one that four workers died of; retries are counted."""
    how: dict[str, Any] = {"storage": tmp_path / "s.db"}
    with open_storage(tmp_path / "s.db", 1, 60, 1) as (store, lock):
        plan = {"space": {"a": [1]}, "trials": None, "direction": "maximize", "about": {}}
        queue = Queue(open_study(store, "sweep", plan, 0), lock, {"a": [1]}, None)
        for again in (True, False):
            task = queue.take()
            assert task is not None and task.params == {"a": 1}
            _tell(queue, task, Lost())  # type: ignore[arg-type]
            assert queue.over() is not again
    assert states(sweep(value_of, {"a": [1]}, None, **how)) == ["FAIL", "FAIL"]


class Lost:
    """A future that the scheduler has given up."""

    def result(self) -> Any:
        raise distributed.KilledWorker("make", SimpleNamespace(address="tcp://a"), 4)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'eqprop_lab\[scale\]'"):
        sweep(value_of, GRID, None, executor=object(), storage=tmp_path / "s.db")  # type: ignore[arg-type]


def test_an_interrupted_trial_is_given_back(tmp_path: Path) -> None:
    def train(params: dict[str, Any], report: Report) -> float:
        if params["a"] == 2 and not (tmp_path / "go").exists():
            raise KeyboardInterrupt
        return float(params["a"])

    space, path = {"a": [1, 2, 3]}, tmp_path / "s.db"
    with pytest.raises(KeyboardInterrupt):
        sweep(train, space, None, storage=path)
    (tmp_path / "go").touch()
    found = sweep(train, space, None, storage=path)
    assert [r["value"] for r in found.complete] == [3.0, 2.0, 1.0]

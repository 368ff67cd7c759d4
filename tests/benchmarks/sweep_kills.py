"""Ten `kill -9` of a sweep's worker, in each mode: what is lost.

    python -m tests.benchmarks.sweep_kills

A fixed grid of small trainings is made by two shells on
one SQLite file, and by two workers of a Dask cluster. Ten of its trials lose their worker half-way.
Then nothing may be left running, every point is done, and each value is the very one that an
uninterrupted sweep has. Prints both counts and writes them to results/sweep_kills.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import distributed
import optuna

import eqprop_lab as ep
from eqprop_lab.experiments.sweeps import Sweep
from eqprop_lab.experiments.trials import Report
from tests.benchmarks.store import RESULTS, write_result

KILLS = 10
GRID: dict[str, list[Any]] = {"lr": [0.003, 0.01, 0.03, 0.1], "hidden_dim": [8, 12, 16, 24]}
ROOT = Path(__file__).resolve().parents[2]
ALIVE = {"heartbeat": 1, "grace": 3}


def trained(params: dict[str, Any], half_way: Any) -> float:
    """Loss of a LoopedMLP on digits it has not seen, after two passes over 200."""
    data = ep.build_dataset("digits")
    model = ep.LoopedMLP(64, params["hidden_dim"], 10, seed=0)
    trainer = ep.EqPropTrainer(model, lr=params["lr"], tol=1e-5, progress=False)
    batches = [(data.train.x[i : i + 40], data.train.y[i : i + 40]) for i in range(0, 200, 40)]
    trainer.fit(batches, 1)
    half_way()
    trainer.fit(batches, 1)
    return float(trainer.evaluate(data.validation.batches(180))["loss"])


def victim(folder: Path, params: dict[str, Any]) -> None:
    """Wait for the end where this trial is one of the first ten, and this its first attempt."""
    name = f"{params['lr']} {params['hidden_dim']}"
    if len(list(folder.glob("dying *"))) >= KILLS or (folder / f"dying {name}").exists():
        return
    (folder / f"writing {name}").write_text(str(os.getpid()))
    (folder / f"writing {name}").rename(folder / f"dying {name}")
    time.sleep(600)
    raise AssertionError("nobody killed this process")


def train_in(folder: Path) -> Any:
    """The training of a sweep whose workers die."""

    def train(params: dict[str, Any], report: Report) -> float:
        return trained(params, lambda: victim(folder, params))

    return train


def reaper(folder: Path, killed: list[str], over: threading.Event) -> None:
    """Kill who waits for it."""
    while not over.is_set():
        for file in folder.glob("dying *"):
            if file.name not in killed:
                killed.append(file.name)
                os.kill(int(file.read_text()), signal.SIGKILL)
        time.sleep(0.05)


def shared(folder: Path) -> Sweep:
    """Make what is left of the sweep in a folder, beside other processes."""
    return ep.sweep(train_in(folder), GRID, None, storage=folder / "s.db", **ALIVE)  # type: ignore[arg-type]


def shells(folder: Path) -> Sweep:
    """Two processes on one file; one that died is started again."""
    command = [sys.executable, "-m", "tests.benchmarks.sweep_kills", "--join", str(folder)]
    living = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    while living:
        time.sleep(0.1)
        dead = [p for p in living if p.poll() is not None]
        living = [p for p in living if p.poll() is None]
        living += [subprocess.Popen(command, cwd=ROOT) for p in dead if p.returncode != 0]
    return shared(folder)


def cluster(folder: Path) -> Sweep:
    """Two workers of a Dask cluster; its nannies start a new one for each that died."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"}),
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as found,
        distributed.Client(found) as client,
    ):
        train = train_in(folder)
        return ep.sweep(
            train, GRID, None, storage=folder / "s.db", executor=client, retries=2, **ALIVE
        )


MODES = {"two shells": shells, "dask": cluster}


def by_point(found: Sweep) -> dict[Any, float]:
    return {tuple(row["params"].values()): row["value"] for row in found.complete}


def both(output: Path) -> None:
    """Both modes, beside the sweep that nobody interrupts."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        alone = ep.sweep(
            lambda p, report: trained(p, lambda: None), GRID, None, storage=Path(folder, "s.db")
        )
    for name, mode in MODES.items():
        with tempfile.TemporaryDirectory() as folder:
            killed: list[str] = []
            over = threading.Event()
            thread = threading.Thread(target=reaper, args=(Path(folder), killed, over))
            thread.start()
            try:
                found = mode(Path(folder))
            finally:
                over.set()
                thread.join()
        states = Counter(row["state"] for row in found.rows)
        results[name] = {
            "kills": len(killed),
            "states": dict(states),
            "points done": len(by_point(found)),
            "values equal": by_point(found) == by_point(alone),
        }
        print(name, results[name], flush=True)
    about = {"grid": GRID, "points": len(alone.rows), "machine": platform.machine()}
    about |= {"optuna": optuna.__version__, "distributed": distributed.__version__}
    write_result("sweep_kills", about | results, output, "CPU, two processes")
    good = {"kills": KILLS, "points done": len(alone.rows), "values equal": True}
    for name, result in results.items():
        assert all(result[key] == value for key, value in good.items()), (name, result)
        assert not {"RUNNING", "WAITING"} & result["states"].keys(), (name, result)


def main(arguments: Sequence[str] | None = None) -> None:
    """All kills; or one of the processes that are killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder, default results/ here"
    )
    parser.add_argument(
        "--join", type=Path, metavar="FOLDER", help="work on the sweep that lies there"
    )
    given = parser.parse_args(arguments)
    if given.join is None:
        both(given.output)
    else:
        shared(given.join)


if __name__ == "__main__":
    main()

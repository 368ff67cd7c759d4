"""Predictive coding by EqProp beside the same network by backpropagation, on one recipe.

    python -m tests.benchmarks.predictive_coding digits --output OUT
    python -m tests.benchmarks.predictive_coding mnist_dense mnist_conv --output OUT --processes 10
    python -m tests.benchmarks.predictive_coding cifar predictive --archives FOLDER --output OUT
    python -m tests.benchmarks.predictive_coding store --rows OUT

1. tuning:    both networks at every rate, one seed of its own, a third of the epochs; the best
              validation accuracy wins
2. training:  that rate, the seeds; the test images are looked at once, after training

Every training is a file OUT/TASK_NETWORK_RATE_SEED.json and is not made again; a job that would
start after --minutes does not. One thread each; seconds are CPU seconds of training, validation
included. `cifar` trains one network on a GPU, as many epochs as fit (see `cifar_playground`).
`store` writes data/results/predictive_coding.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from eqprop_lab.datasets import DataSet, Split, build_dataset
from eqprop_lab.devices import named
from eqprop_lab.experiments.config import (
    ExperimentConfig,
    fit_experiment,
    make_trainer,
    parse_config,
)
from eqprop_lab.experiments.runs import versions
from eqprop_lab.files import replace_text
from eqprop_lab.gpu.cifar import JPEG
from eqprop_lab.training.loggers import finite
from eqprop_lab.training.progress import show
from eqprop_lab.utils import count_parameters
from tests.benchmarks import cifar_playground, mnist_learning_rules
from tests.benchmarks.published import RESULTS, Row, processor

NAME = "predictive_coding"
TUNING_SEED = 1000
SMALL = 600  # images of a trial
PREDICTIVE = {"gradient": "centered", "beta": 0.1, "nudged_steps": 1}
NETWORKS = {
    "predictive": ("Predictive", PREDICTIVE),
    "backprop": ("Feedforward", {"gradient": "autograd"}),
}


@dataclass(frozen=True)
class Task:
    """What is trained: kind of network, its arguments, the recipe both share, rates and seeds."""

    kind: str
    params: dict[str, Any]
    training: dict[str, Any]
    rates: tuple[float, ...]
    seeds: int
    data: dict[str, Any]


ADAMW = {"optimizer": "adamw", "schedule": "one_cycle", "weight_decay": 0.05}
TASKS = {
    "digits": Task(
        "MLP",
        {"hidden_dims": [64, 64]},
        ADAMW | {"epochs": 30, "batch_size": 32},
        (3e-3, 1e-2, 3e-2),
        5,
        {"dataset": "digits"},
    ),
    "mnist_dense": Task(
        "MLP",
        {"hidden_dims": [256, 256]},
        ADAMW | {"epochs": 12, "batch_size": 100},
        (1e-3, 3e-3, 1e-2),
        5,
        {"dataset": "mnist"},
    ),
    "mnist_conv": Task(
        "Conv",
        {"hidden_channels": [32, 64], "kernel_size": 5, "activation": "relu"},
        ADAMW | {"epochs": 12, "batch_size": 100},
        (1e-3, 3e-3, 6e-3),
        3,
        {"dataset": "mnist", "augmentation": {"shift": 1}},
    ),
    "cifar": Task(
        "Conv",
        {
            "hidden_channels": [64, 64, 64, 128, 128, 128, 256, 256, 256],
            "kernel_size": 3,
            "strides": [1, 1, 1, 2, 1, 1, 2, 1, 1],
            "activation": "relu",
            "residual": True,
        },
        ADAMW | {"batch_size": 256, "clip_norm": 1.0},
        (1e-3,),
        1,
        {"dataset": "cifar10", "augmentation": {"crop": 4, "flip": True}},
    ),
}


@dataclass(frozen=True)
class Job:
    """One training."""

    task: str
    network: str
    rate: float
    seed: int
    epochs: int

    @property
    def file(self) -> str:
        return f"{self.task}_{self.network}_{self.rate:g}_{self.seed}.json"


class Training(Protocol):
    """What is stored of any job."""

    @property
    def task(self) -> str: ...
    @property
    def network(self) -> str: ...
    @property
    def rate(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def file(self) -> str: ...


def config_of(job: Job, **others: Any) -> ExperimentConfig:
    """The experiment of a job. others: of its training section."""
    task, (family, gradient) = TASKS[job.task], NETWORKS[job.network]
    training = task.training | {"epochs": job.epochs, "learning_rate": job.rate} | gradient | others
    return parse_config(
        {
            "model": {"name": f"{family}{task.kind}", "params": task.params},
            "training": training,
            "data": task.data,
            "experiment": {"name": f"{NAME}_{job.task}_{job.network}", "seed": job.seed},
        }
    )


def read(task: str, small: bool) -> DataSet:
    """The digits, or the published MNIST files of $EQPROP_DATA_DIR, 5,000 held out."""
    if task == "digits":
        return build_dataset("digits")
    folder = Path(os.environ.get("EQPROP_DATA_DIR", "data"))
    parts = mnist_learning_rules.read(folder, SMALL if small else 60_000)
    train, held, test = (
        Split(x.unflatten(1, (1, 28, 28)), y)
        for x, y in (parts[name] for name in ("train", "validation", "test"))
    )
    return DataSet("mnist", train, held, test, tuple(map(str, range(10))))


def record(
    job: Training,
    config: ExperimentConfig,
    data: DataSet,
    look: bool,
    callbacks: Sequence[Any] = (),
) -> Row:
    """One training, and the test images if they may be looked at."""
    trainer = make_trainer(config)
    start, begun = time.process_time(), time.perf_counter()
    history = fit_experiment(config, trainer, data, callbacks)
    seconds = {"cpu_seconds": time.process_time() - start, "seconds": time.perf_counter() - begun}
    row: Row = {"task": job.task, "network": job.network, "rate": job.rate, "seed": job.seed}
    row |= {name: round(value, 2) for name, value in seconds.items()}
    row |= {"parameters": count_parameters(trainer.model)}
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    row |= {name: [float(f"{value:.5g}") for value in history[name]] for name in names}
    if look:
        test = trainer.evaluate(data.test.to(trainer.device).batches(1000))
        row |= {"test_accuracy": test["accuracy"], "test_loss": test["loss"]}
    row |= {"device": processor() if trainer.device.type == "cpu" else named(trainer.device)}
    return row | {
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "config": config.as_dict(),
    }


def write(folder: Path, job: Training, row: Row) -> None:
    """Store a row, and say what came out."""
    replace_text(folder / job.file, json.dumps(finite(row), indent=1, allow_nan=False) + "\n")
    test = f" test {row['test_accuracy']:.4f}" if "test_accuracy" in row else ""
    validation, seconds = row["val_accuracy"][-1], row["cpu_seconds"]
    print(f"{job.file}: validation {validation:.4f}{test} {seconds:.0f} s CPU", flush=True)


def train(job: Job, folder: Path, deadline: float, small: bool) -> None:
    """One training into its file, unless it is there or it is too late."""
    if (folder / job.file).exists() or time.time() > deadline:
        return
    torch.set_num_threads(1)
    config, data = config_of(job), read(job.task, small)
    write(folder, job, record(job, config, data, look=job.seed != TUNING_SEED))


def tunings(task: str, small: bool) -> list[Job]:
    """Both networks at every rate."""
    epochs = 1 if small else max(1, TASKS[task].training["epochs"] // 3)
    rates = TASKS[task].rates
    return [Job(task, network, r, TUNING_SEED, epochs) for network in NETWORKS for r in rates]


def best_rate(files: Sequence[Path]) -> float | None:
    """The rate of the row with the best validation accuracy; None while one is missing."""
    if not all(file.exists() for file in files):
        return None
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    best = max(rows, key=lambda row: (row["val_accuracy"][-1], -row["val_loss"][-1]))
    return float(best["rate"])


def trainings(task: str, folder: Path, seeds: Sequence[int] | None, small: bool) -> list[Job]:
    """Every seed at the rate that validation chose for the network; none while one is missing."""
    jobs = []
    for network in NETWORKS:
        tried = [job for job in tunings(task, small) if job.network == network]
        rate = best_rate([folder / job.file for job in tried])
        if rate is None:
            continue
        wanted = range(TASKS[task].seeds) if seeds is None else seeds
        epochs = 1 if small else TASKS[task].training["epochs"]
        jobs += [Job(task, network, rate, seed, epochs) for seed in wanted]
    return sorted(jobs, key=lambda job: job.seed)


def run(given: argparse.Namespace) -> None:
    """Tuning, then training, of every task that was named; the longest first."""
    deadline = time.time() + 60 * given.minutes
    order = sorted(given.tasks, key=list(TASKS).index, reverse=True)
    given.output.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.processes, mp_context=spawn) as pool:
        for stage in (
            lambda task: tunings(task, given.small),
            lambda task: trainings(task, given.output, given.seeds, given.small),
        ):
            jobs = [job for task in order for job in stage(task)]
            made = [pool.submit(train, job, given.output, deadline, given.small) for job in jobs]
            for future in made:
                future.result()


def cifar(given: argparse.Namespace) -> None:
    """One network on the CIFAR-10 archives, as many epochs as fit."""
    start = time.perf_counter()
    rate = TASKS["cifar"].rates[0] if given.rate is None else given.rate
    job = Job("cifar", given.network, rate, given.seed, given.epochs)
    config = config_of(job, device=given.device, quick_kernels=given.device == "cuda")
    data = cifar_playground.read(given.archives, given.limit)
    config = cifar_playground.fitting(config, data, start + 60 * given.minutes, given.epochs)
    row = record(job, config, data, True, [show])
    given.output.mkdir(parents=True, exist_ok=True)
    write(given.output, job, row | {"pixels": JPEG, "epochs": config.epochs})


def store(given: argparse.Namespace) -> None:
    """The rows of a folder as one result: task by task, both networks, rates tried and runs."""
    rows = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(given.rows.glob("*.json"))]
    result = shared_by(rows) | {
        "estimator": "centered, one sweep (predictive); autograd (backprop)",
        "recipe": PREDICTIVE,
    }
    for task in TASKS:
        there = [row for row in rows if row["task"] == task]
        if there:
            result[task] = entry(there)
    replace_text(given.output / f"{NAME}.json", json.dumps(result, indent=1) + "\n")
    print(f"written: {NAME}.json")


def shared_by(rows: Sequence[Row]) -> Row:
    """Date, device, versions and seeds of a result with these rows."""
    runs = [row for row in rows if row["seed"] != TUNING_SEED]
    return {
        "date": max(row["date"] for row in rows),
        "device": "; ".join(sorted({row["device"] for row in runs})),
        "versions": plain(rows[0]["versions"]),
        "seeds": sorted({row["seed"] for row in runs}),
    }


def plain(versions: dict[str, Any]) -> dict[str, Any]:
    """Versions without the tag of a build."""
    return {k: v.partition("+")[0] if isinstance(v, str) else v for k, v in versions.items()}


def entry(rows: Sequence[Row]) -> dict[str, Any]:
    """What is stored of a task: what its runs share, the tuning, and the runs of either network."""
    runs = [row for row in rows if row["seed"] != TUNING_SEED]
    first = runs[0]
    shared = {key: first[key] for key in ("device", "parameters")}
    shared["versions"] = plain(first["versions"])
    shared |= {key: first[key] for key in ("pixels",) if key in first}
    training = {k: v for k, v in first["config"]["training"].items() if k not in PREDICTIVE}
    training.pop("learning_rate", None)
    recipe = first["config"]["model"]["params"] | training
    found = {**shared, "recipe": {k: v for k, v in recipe.items() if k != "seed"}}
    found["tuning"] = [
        {"network": row["network"], "rate": row["rate"], "val_accuracy": row["val_accuracy"][-1]}
        for row in rows
        if row["seed"] == TUNING_SEED
    ]
    kept = ("seed", "rate", "epochs", "test_accuracy", "test_loss", "cpu_seconds", "seconds",
            "val_accuracy")  # fmt: skip
    for network in NETWORKS:
        own = sorted((row for row in runs if row["network"] == network), key=lambda r: r["seed"])
        found[network] = [{key: row[key] for key in kept if key in row} for row in own]
    return found


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line: `store`, `cifar NETWORK`, or tasks to train on a CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tasks", nargs="+", help="store | cifar NETWORK | digits mnist_dense ...")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--rows", type=Path, help="of `store`: the folder of the rows")
    parser.add_argument("--archives", type=Path, help="of `cifar`: the folder of the images")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the task's own")
    parser.add_argument("--seed", type=int, default=0, help="of `cifar`")
    parser.add_argument("--rate", type=float, help="of `cifar`")
    parser.add_argument("--epochs", type=int, default=60, help="of `cifar`, at most")
    parser.add_argument("--device", default="cuda", help="of `cifar`")
    parser.add_argument("--limit", type=int, help="of `cifar`: only so many images of each part")
    parser.add_argument("--small", action="store_true", help="few images, one epoch: a trial")
    given = parser.parse_args(arguments)
    given.command, *others = given.tasks
    if given.command == "cifar" and len(others) == 1 and others[0] in NETWORKS:
        given.network = others[0]
    elif given.command not in ("store", "cifar") and set(given.tasks) <= set(TASKS) - {"cifar"}:
        given.command = "train"
    elif given.command != "store" or others:
        parser.error(
            f"tasks: store, cifar with one of {', '.join(NETWORKS)}, or {', '.join(TASKS)}"
        )
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or store what was trained."""
    given = parsed(arguments)
    {"store": store, "cifar": cifar, "train": run}[given.command](given)


if __name__ == "__main__":
    main()

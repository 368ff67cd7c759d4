"""Chains of equilibrium blocks, the same layers as one deep equilibrium network, and a plain net.

    python -m tests.benchmarks.blocks digits mnist --output OUT
    python -m tests.benchmarks.blocks costs --output OUT
    python -m tests.benchmarks.blocks store --rows OUT

1. tuning:    every network of every depth at every rate, one seed of its own, a third of the
              epochs; the best validation accuracy wins
2. training:  that rate, the seeds; the test images are looked at once, after training

Depth counts blocks of two layers. The three networks of a depth have the same layers, as many
parameters, one recipe and the same rates to choose from. MNIST: the first 10,000 training images,
the last 5,000 held out. Every training is a file OUT/TASK_NETWORK_DEPTH_RATE_SEED.json and is not
made again; a training that would start after --minutes does not. One thread; seconds are CPU
seconds of training. `costs` measures a step of each network in turn: the least CPU time of many,
and tensor memory at its peak. `store` writes data/results/blocks.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqprop_lab import EqPropTrainer, build_dataset, estimate_memory_usage
from eqprop_lab.datasets import DataSet, Split
from eqprop_lab.experiments.config import ExperimentConfig, parse_config
from eqprop_lab.experiments.runs import versions
from eqprop_lab.files import replace_text
from eqprop_lab.models.registry import model_registry
from tests.benchmarks import predictive_coding
from tests.benchmarks.predictive_coding import (
    ADAMW,
    TUNING_SEED,
    best_rate,
    plain,
    record,
    shared_by,
    write,
)
from tests.benchmarks.published import RESULTS, Row, processor

NAME = "blocks"
DEPTHS = (1, 2, 3, 4, 5, 6)
NETWORKS = {"chain": DEPTHS, "deep": (3, 6), "plain": DEPTHS}  # one deep block is the chain's
LAYERS = 2  # of a block
BETA = 0.05
MNIST_IMAGES = 10_000
SMALL = 600  # images of a trial
PASSES, TAKES = 30, 5  # steps that are timed: the least time of so many, so often in turn


@dataclass(frozen=True)
class Task:
    """What is trained: width of all layers, the recipe all share, rates and seeds."""

    width: int
    training: dict[str, Any]
    rates: tuple[float, ...]
    seeds: int
    input_dim: int


TASKS = {
    "digits": Task(32, ADAMW | {"epochs": 12, "batch_size": 64}, (2e-3, 5e-3, 1e-2), 5, 64),
    "mnist": Task(64, ADAMW | {"epochs": 5, "batch_size": 200}, (2e-3, 5e-3, 1e-2), 3, 784),
}


@dataclass(frozen=True)
class Job:
    """One training."""

    task: str
    kind: str
    depth: int
    rate: float
    seed: int
    epochs: int

    @property
    def network(self) -> str:
        return f"{self.kind}_{self.depth}"

    @property
    def file(self) -> str:
        return f"{self.task}_{self.network}_{self.rate:g}_{self.seed}.json"


def steps(kind: str, depth: int) -> dict[str, int]:
    """Steps of the phases: as many as it takes to settle, more where news have farther to go."""
    layers = LAYERS * depth if kind == "deep" else LAYERS
    return {"free_steps": 4 + layers, "nudged_steps": 2 + layers}


def model_of(kind: str, depth: int, width: int) -> tuple[str, dict[str, Any]]:
    """Registered name and arguments of a network, but for the sizes of the data."""
    widths = [width] * (LAYERS * depth)
    if kind == "chain":
        return "EquilibriumChain", {"hidden_dims": widths, "num_blocks": depth}
    return {"deep": "DeepEqProp", "plain": "FeedforwardMLP"}[kind], {"hidden_dims": widths}


def gradient_of(kind: str, depth: int) -> dict[str, Any]:
    """Where the gradients of a network come from."""
    if kind == "plain":
        return {"gradient": "autograd"}
    return {"gradient": "centered", "beta": BETA} | steps(kind, depth)


def config_of(job: Job) -> ExperimentConfig:
    """The experiment of a job."""
    task = TASKS[job.task]
    name, params = model_of(job.kind, job.depth, task.width)
    recipe = task.training | {"epochs": job.epochs, "learning_rate": job.rate}
    return parse_config(
        {
            "model": {"name": name, "params": params},
            "training": recipe | gradient_of(job.kind, job.depth),
            "data": {"dataset": job.task},
            "experiment": {"name": f"{NAME}_{job.task}_{job.network}", "seed": job.seed},
        }
    )


def read(task: str, small: bool) -> DataSet:
    """The digits, or the published MNIST files of $EQPROP_DATA_DIR, the first training images."""
    data = predictive_coding.read(task, small)
    limit = SMALL if small else MNIST_IMAGES
    train = Split(data.train.x[:limit], data.train.y[:limit])
    return DataSet(data.name, train, data.validation, data.test, data.classes)


def train(job: Job, folder: Path, deadline: float, small: bool) -> None:
    """One training into its file, unless it is there or it is too late."""
    if (folder / job.file).exists() or time.time() > deadline:
        return
    row = record(job, config_of(job), read(job.task, small), look=job.seed != TUNING_SEED)
    write(folder, job, row | {"kind": job.kind, "depth": job.depth})


def pairs() -> list[tuple[str, int]]:
    return [(kind, depth) for kind, depths in NETWORKS.items() for depth in depths]


def tunings(task: str, small: bool) -> list[Job]:
    """Every network at every rate."""
    epochs = 1 if small else max(1, TASKS[task].training["epochs"] // 3)
    rates = TASKS[task].rates
    return [Job(task, *pair, rate, TUNING_SEED, epochs) for pair in pairs() for rate in rates]


def trainings(task: str, folder: Path, small: bool) -> list[Job]:
    """Every seed at the rate that validation chose for the network; none while one is missing."""
    jobs = []
    epochs = 1 if small else TASKS[task].training["epochs"]
    for kind, depth in pairs():
        tried = [j for j in tunings(task, small) if (j.kind, j.depth) == (kind, depth)]
        rate = best_rate([folder / job.file for job in tried])
        if rate is None:
            continue
        seeds = range(TASKS[task].seeds)
        jobs += [Job(task, kind, depth, rate, seed, epochs) for seed in seeds]
    return sorted(jobs, key=lambda job: job.seed)


def run(given: argparse.Namespace) -> None:
    """Tuning, then training, of every task that was named, in this process."""
    torch.set_num_threads(1)
    deadline = time.time() + 60 * given.minutes
    given.output.mkdir(parents=True, exist_ok=True)
    for task in given.tasks:
        for job in tunings(task, given.small):
            train(job, given.output, deadline, given.small)
        for job in trainings(task, given.output, given.small):
            train(job, given.output, deadline, given.small)


def built(kind: str, depth: int, task: Task) -> nn.Module:
    """A network of a task with seed 0."""
    name, params = model_of(kind, depth, task.width)
    return model_registry.create(name, input_dim=task.input_dim, output_dim=10, seed=0, **params)


def costs(given: argparse.Namespace) -> None:
    """Time and memory of one training step of every network, batch and widths of the digits."""
    torch.set_num_threads(1)
    task, data = TASKS["digits"], build_dataset("digits").train
    batch = task.training["batch_size"]
    x, y = data.x[:batch], data.y[:batch]
    rows: list[Row] = []
    trainers = {}
    for kind, depth in pairs():
        how = dict(gradient_of(kind, depth))
        gradient = how.pop("gradient")
        model = built(kind, depth, task)
        memory = estimate_memory_usage(model, (64,), batch, gradient, "adamw", **how)
        trainers[kind, depth] = EqPropTrainer(model, gradient, "adamw", progress=False, **how)
        trainers[kind, depth].train_batch(x, y)
        phases = {key: how[key] for key in how if key != "beta"}
        rows.append({"kind": kind, "depth": depth, **phases, "states_mb": memory["states_mb"]})
    least = dict.fromkeys(trainers, float("inf"))
    for _ in range(1 if given.small else TAKES):
        for pair, trainer in trainers.items():
            for _ in range(2 if given.small else PASSES):
                start = time.process_time()
                trainer.train_batch(x, y)
                least[pair] = min(least[pair], time.process_time() - start)
    for row in rows:
        row["step_ms"] = round(1000 * least[row["kind"], row["depth"]], 4)
    about = {"batch": batch, "width": task.width, "device": processor(), "beta": BETA}
    given.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "versions": plain(versions()), "rows": rows}, indent=1)
    replace_text(given.output / "costs.json", text + "\n")


def store(given: argparse.Namespace) -> None:
    """The rows of a folder as one result: by task and network, rates tried and runs; the costs."""
    files = sorted(p for p in given.rows.glob("*.json") if p.name != "costs.json")
    rows = [json.loads(p.read_text(encoding="utf-8")) for p in files]
    result = shared_by(rows) | {
        "estimator": "centered inside the blocks (chain, deep); autograd (plain)",
        "beta": BETA,
    }
    for task in TASKS:
        there = [row for row in rows if row["task"] == task]
        if there:
            result[task] = entry(task, there)
    if (given.rows / "costs.json").exists():
        result["costs"] = json.loads((given.rows / "costs.json").read_text(encoding="utf-8"))
    replace_text(given.output / f"{NAME}.json", json.dumps(result, indent=1) + "\n")
    print(f"written: {NAME}.json")


def entry(task: str, rows: Sequence[Row]) -> dict[str, Any]:
    """What is stored of a task: its recipe, the tuning, and the runs of every network."""
    runs = sorted(
        (row for row in rows if row["seed"] != TUNING_SEED),
        key=lambda row: (row["kind"], row["depth"], row["seed"]),
    )
    recipe = TASKS[task].training | {"width": TASKS[task].width, "rates": TASKS[task].rates}
    found: dict[str, Any] = {"device": runs[0]["device"], "recipe": recipe}
    if task == "mnist":
        found["training_images"] = MNIST_IMAGES
    found["tuning"] = [
        {key: row[key] for key in ("kind", "depth", "rate")}
        | {"val_accuracy": row["val_accuracy"][-1]}
        for row in rows
        if row["seed"] == TUNING_SEED
    ]
    kept = ("depth", "seed", "rate", "parameters", "test_accuracy", "test_loss", "cpu_seconds")
    for kind in NETWORKS:
        found[kind] = [
            {key: row[key] for key in kept} | {"val_accuracy": row["val_accuracy"][-1]}
            for row in runs
            if row["kind"] == kind
        ]
    return found


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line: `store`, `costs`, or tasks to train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tasks", nargs="+", help="store | costs | digits mnist")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--rows", type=Path, help="of `store`: the folder of the rows")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--small", action="store_true", help="few images, one epoch: a trial")
    given = parser.parse_args(arguments)
    given.command = "train" if set(given.tasks) <= set(TASKS) else given.tasks[0]
    if given.command not in ("train", "store", "costs") or (
        given.command != "train" and len(given.tasks) > 1
    ):
        parser.error(f"tasks: store, costs, or {', '.join(TASKS)}")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, or store what was trained."""
    given = parsed(arguments)
    {"store": store, "costs": costs, "train": run}[given.command](given)


if __name__ == "__main__":
    main()

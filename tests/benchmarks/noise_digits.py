"""Noise x estimator x beta, and numbers of few bits, on the digits: what notebook 22 shows.

    python -m tests.benchmarks.noise_digits --processes 2

One network, one recipe, chosen without noise: SGD, which takes a gradient as long as it is (Adam
scales a noisy one down). Every unit has noise of its own in every step of every phase, also when
the test images are looked at, once, after training. Writes data/results/noise_digits.json, a run at
once; what is stored there is not trained again. Seconds are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.experiments.runs import public_versions
from eqprop_lab.files import replace_text
from eqprop_lab.instruments.noise import Noisy
from tests.benchmarks.published import RESULTS, Row, processor, read

NAME = "noise_digits"
NOISES = (0.0, 0.01, 0.04, 0.1)
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)
ESTIMATORS = ("one_sided", "centered", "holomorphic")
FORMATS: tuple[int | str, ...] = (8, 6, 4, "bfloat16")
RECIPE: dict[str, Any] = {
    "network": "LoopedMLP(64, 64, 10)", "optimizer": "sgd", "lr": 0.1, "momentum": 0.9,
    "epochs": 6, "batch_size": 32, "free_steps": 15, "nudged_steps": 10, "points": 4,
    "each": "step",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training. bits: of states and weights, None for the tensors as they are."""

    noise: float
    estimator: str
    beta: float
    seed: int
    bits: int | str | None = None


def jobs(seeds: Sequence[int]) -> list[Job]:
    """All of them, seed by seed."""
    found = []
    for seed in seeds:
        found += [Job(n, e, b, seed) for n in NOISES for e in ESTIMATORS for b in BETAS]
        found += [Job(0.0, "centered", b, seed, bits) for bits in FORMATS for b in (0.1, 1.0)]
    return found


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=RECIPE["lr"], momentum=RECIPE["momentum"])


def train(job: Job, epochs: int = RECIPE["epochs"]) -> Row:
    """One training and its test accuracy, both on the device."""
    torch.set_num_threads(1)
    data = build_dataset("digits")
    bits: dict[str, Any] = {"state_bits": job.bits, "weight_bits": job.bits}
    device = Noisy(LoopedMLP(64, 64, 10, seed=job.seed), states=job.noise, seed=job.seed, **bits)
    phases = {key: RECIPE[key] for key in ("free_steps", "nudged_steps")}
    trainer = EqPropTrainer(device, job.estimator, sgd, beta=job.beta, progress=False, **phases)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # noise does not settle
        batches = data.train.batches(RECIPE["batch_size"], shuffle=True, seed=job.seed)
        trainer.fit(batches, epochs)
        seconds = round(time.process_time() - start, 2)
        test = trainer.evaluate(data.test.batches(1000))
    return asdict(job) | {"test_accuracy": test["accuracy"], "cpu_seconds": seconds}


def head() -> Row:
    """What all runs share."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": processor(),
        "versions": public_versions(),
        "dataset": "digits",
        "estimator": ", ".join(ESTIMATORS),
        "recipe": RECIPE,
    }


def work(path: Path, seeds: Sequence[int], processes: int, limit: int | None = None) -> None:
    """Train what is missing, at most `limit` of it, and store every run at once."""
    runs: list[Row] = (read(path) or {}).get("runs", [])
    keys = asdict(jobs([0])[0]).keys()
    done = {tuple(row[key] for key in keys) for row in runs}
    wanted = [job for job in jobs(seeds) if tuple(asdict(job).values()) not in done][:limit]
    order = {tuple(asdict(job).values()): i for i, job in enumerate(jobs(range(100)))}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        for future in as_completed([pool.submit(train, job) for job in wanted]):
            runs.append(future.result())
            print(runs[-1], flush=True)
            runs.sort(key=lambda row: order[tuple(row[key] for key in keys)])
            made = head() | {"seeds": sorted({row["seed"] for row in runs}), "runs": runs}
            replace_text(path, json.dumps(made, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--limit", type=int, help="at most so many trainings")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{NAME}.json")
    given = parser.parse_args(arguments)
    work(given.output, given.seeds, given.processes, given.limit)


if __name__ == "__main__":
    main()

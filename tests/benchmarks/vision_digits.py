"""CNNs, and a network that settles, on small grey digits: what notebook 13 shows beside a live run.

    python -m tests.benchmarks.vision_digits --seeds 0 1 2 3 4
    python -m tests.benchmarks.vision_digits --data mnist_pooled --seeds 0 1 2

digits: one recipe for all, the best on validation images of those that were tried when the networks
were designed; no grid was searched here. mnist_pooled: 10,000 training images of MNIST, means of
2x2 pixels, 5,000 validation images; each network's rate is the best of a few on these, at a seed of
its own. The test images are looked at once a seed, after training. Writes data/results/
DATA_vision.json, a run at once; seconds are CPU seconds of one thread, validation included.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import avg_pool2d

from eqprop_lab.datasets import DataSet, Split, build_dataset, register_dataset
from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.experiments.config import (
    ExperimentConfig,
    fit_experiment,
    make_trainer,
    parse_config,
)
from eqprop_lab.experiments.runs import public_versions
from eqprop_lab.files import replace_text
from eqprop_lab.utils import count_parameters
from tests.benchmarks.published import RESULTS, Row, processor, read

POOLED = "mnist_pooled"
POOLED_IMAGES = 10_000
TUNING_SEED = 1000
SGD = {"optimizer": "sgd", "weight_decay": 5e-4, "schedule": "one_cycle", "gradient": "autograd"}
SETTLES = {"gradient": "centered", "beta": 0.03, "free_steps": 4, "nudged_steps": 4}
SETTLES |= {"solver": "over_relaxed", "eval_tol": 1e-4}
SETTLES |= {"optimizer": "adamw", "weight_decay": 0.2, "schedule": "one_cycle", "batch_size": 100}


@dataclass(frozen=True)
class Job:
    """One network: its section `model`, its training, the rates that validation chooses from."""

    model: dict[str, Any]
    training: dict[str, Any]
    rates: tuple[float, ...]
    shift: int = 1

    def config(self, data: str, seed: int, rate: float) -> ExperimentConfig:
        """The experiment, which has the learning rate in its section `training`."""
        content = {
            "model": self.model,
            "training": self.training | {"learning_rate": rate},
            "data": {
                "dataset": data,
                "augmentation": {"shift": self.shift} if self.shift else False,
            },
            "experiment": {"seed": seed},
        }
        return parse_config(content)


def dense(depth: int, growth: int) -> dict[str, Any]:
    """The section `model` of a DenseNet3."""
    return {"name": "DenseNet3", "params": {"depth": depth, "growth_rate": growth}}


DIGITS = SGD | {"batch_size": 64}
POOLED_CNN = {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "one_cycle"}
POOLED_CNN |= {"gradient": "autograd", "batch_size": 128, "epochs": 4}
SETTLING = {"hidden_channels": 32, "gamma": 0.03}
JOBS: dict[str, dict[str, Job]] = {
    "digits": {
        "ResNet-8": Job({"name": "resnet8"}, DIGITS | {"epochs": 15}, (0.2,)),
        "DenseNet3(22, k 8)": Job(dense(22, 8), DIGITS | {"epochs": 15}, (0.2,)),
        "DenseNet3(40, k 12)": Job(dense(40, 12), DIGITS | {"epochs": 10}, (0.2,)),
    },
    POOLED: {
        "ResNet-8": Job({"name": "resnet8"}, POOLED_CNN, (1e-2, 2e-2), shift=0),
        "ConvEqProp 32-64": Job(
            {"name": "ConvEqProp", "params": SETTLING}, SETTLES | {"epochs": 3}, (1e-2,)
        ),
    },
}
NOTES = {
    POOLED: "Shifted images, 3 epochs of SGD at 0.4, the best of three rates on validation, had "
    "given ResNet-8 97.4 % of the test images (five seeds); this recipe is the best of nine on "
    "validation images, each at one seed."
}


def pooled() -> DataSet:
    """MNIST as means of 2x2 pixels, 10,000 training images."""
    whole = build_dataset({"name": "mnist", "limit": POOLED_IMAGES})
    train, validation, test = (
        Split(avg_pool2d(part.x, 2), part.y) for part in (whole.train, whole.validation, whole.test)
    )
    return DataSet(POOLED, train, validation, test, whole.classes)


def train(job: Job, rate: float, seed: int, data: DataSet, tuning: bool = False) -> Row:
    """One training and its scores; tuning: without a look at the test images."""
    config = job.config(data.name, seed, rate)
    start = time.process_time()
    trainer = make_trainer(config)
    history = fit_experiment(config, trainer, data)
    row: Row = {
        "seed": seed,
        "learning_rate": rate,
        "parameters": count_parameters(trainer.model),
        "cpu_seconds": round(time.process_time() - start, 2),
        "val_accuracy": history["val_accuracy"],
    }
    if not tuning:
        row["test_accuracy"] = trainer.evaluate(data.test.batches(1000))["accuracy"]
    return row


def chosen(tuning: Sequence[Row], network: str, rates: Sequence[float]) -> float:
    """The rate with the best validation accuracy at the end; the lowest of equal ones.

    Raises ValueError where one of several was not tried.
    """
    if len(rates) == 1:
        return rates[0]
    found = {r["learning_rate"]: r["val_accuracy"][-1] for r in tuning if r["network"] == network}
    missing = [rate for rate in rates if rate not in found]
    if missing:
        raise ValueError(f"{network} must be tried at the rates {rates}, {missing[0]} is missing")
    return max(sorted(rates), key=lambda rate: found[rate])


def head(data: DataSet, jobs: Mapping[str, Job]) -> Row:
    """What the runs of a file share."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "date": datetime.date.today().isoformat(),
        "device": processor(),
        "versions": public_versions(),
        "estimator": " and ".join(sorted({job.training["gradient"] for job in jobs.values()})),
        "dataset": data.name,
        "samples": {name: len(part) for name, part in parts.items()},
        "note": NOTES.get(data.name, ""),
        "recipes": {name: job.training | {"shift": job.shift} for name, job in jobs.items()},
    }


def work(path: Path, data: DataSet, networks: Sequence[str], seeds: Sequence[int]) -> None:
    """Try rates, train what is missing, a line each, and store every run at once."""
    jobs = JOBS[data.name]
    result = read(path) or {}
    rows: dict[str, list[Row]] = {key: result.get(key, []) for key in ("tuning", "runs")}

    def keep(part: str, network: str, row: Row) -> None:
        rows[part].append({"network": network} | row)
        print(part, network, row["seed"], row["learning_rate"], row["val_accuracy"][-1], flush=True)
        made = head(data, jobs) | {"seeds": sorted({r["seed"] for r in rows["runs"]}), **rows}
        replace_text(path, json.dumps(made, indent=1) + "\n")

    for network in networks:
        job = jobs[network]
        tried = {r["learning_rate"] for r in rows["tuning"] if r["network"] == network}
        for rate in job.rates if len(job.rates) > 1 else ():
            if rate not in tried:
                keep("tuning", network, train(job, rate, TUNING_SEED, data, tuning=True))
        rate = chosen(rows["tuning"], network, job.rates)
        done = {r["seed"] for r in rows["runs"] if r["network"] == network}
        for seed in seeds:
            if seed not in done:
                keep("runs", network, train(job, rate, seed, data))


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs of one set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=list(JOBS), default="digits")
    parser.add_argument("--networks", nargs="+", help="default: all of the set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, help="default: data/results/DATA_vision.json")
    given = parser.parse_args(arguments)
    unknown = set(given.networks or ()) - JOBS[given.data].keys()
    if unknown:
        parser.error(f"--networks must be among {', '.join(JOBS[given.data])}, got {unknown.pop()}")
    torch.set_num_threads(1)
    if given.data == POOLED:
        shift = Augmentation(shift=1)
        register_dataset(POOLED, shape=(1, 14, 14), classes=10, augmentation=shift)(pooled)
    path = given.output or RESULTS / f"{given.data}_vision.json"
    work(path, build_dataset(given.data), given.networks or list(JOBS[given.data]), given.seeds)


if __name__ == "__main__":
    main()

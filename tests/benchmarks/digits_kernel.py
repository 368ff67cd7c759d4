"""The digits by the kernel alone: the recipe of LoopedMLP's published runs, without torch.

    OPENBLAS_NUM_THREADS=1 python -m tests.benchmarks.digits_kernel --seeds 0 1 2 3 4

Images, split, sizes and recipe are those of data/results/digits_looped_mlp.json; the kernel brings
gradients and Adam. What it has not, the script adds: the decay of AdamW, which takes lr d theta off
the weights as they were before the update, and the rates of the one-cycle schedule. The weights
begin elsewhere, since NumPy draws them. The test images are scored once a seed, after training.
Takes two seconds a seed. Writes data/results/digits_kernel.json, which the README's table reads.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from eqprop_lab.files import replace_text
from eqprop_lab.kernel import EqPropKernel

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"
RISE, FIRST, LAST = 0.3, 25.0, 1e4  # of a one-cycle schedule, as torch's
Parts = dict[str, tuple[np.ndarray, np.ndarray]]
Row = dict[str, Any]


def digits() -> Parts:
    """{part: (x, y)}, the frozen split of the 8x8 digits that scikit-learn ships."""
    file = metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",")
    x, y = (rows[:, :-1] / 16).astype(np.float32), rows[:, -1].astype(np.int64)
    split = resources.files("eqprop_lab").joinpath("assets/splits/digits.json").read_text()
    return {part: (x[places], y[places]) for part, places in json.loads(split).items()}


def one_cycle(rate: float, steps: int) -> Iterator[float]:
    """The rate of every step: a cosine from rate/25 up to `rate`, another down to rate/250,000."""
    top = RISE * steps - 1
    for step in range(steps):
        if step <= top:
            begin, end, done = rate / FIRST, rate, step / top
        else:
            begin, end, done = rate, rate / FIRST / LAST, (step - top) / (steps - 1 - top)
        yield end + (begin - end) / 2 * (1 + math.cos(math.pi * done))


def make(recipe: Mapping[str, Any], seed: int | None, **options: Any) -> EqPropKernel:
    """The kernel of a recipe, with Adam."""
    names = ("beta", "free_steps", "nudged_steps", "lr")
    given = {name: recipe[name] for name in names} | options
    return EqPropKernel(64, recipe["hidden_dim"], 10, seed=seed, **given)


def accuracy(kernel: EqPropKernel, recipe: Mapping[str, Any], part: Sequence[np.ndarray]) -> float:
    """Of a part of the data, after the steps of an evaluation."""
    judge = make(recipe, None, free_steps=recipe["max_steps"])
    for name, value in kernel.parameters.items():
        judge.parameters[name] = value
    return float((judge.predict(part[0]) == part[1]).mean())


def decayed_step(
    kernel: EqPropKernel, x: np.ndarray, y: np.ndarray, decay: float
) -> dict[str, float]:
    """A step of the kernel with the decay of AdamW."""
    before = {name: value.copy() for name, value in kernel.parameters.items()}
    found = kernel.train_step(x, y)
    for name, value in kernel.parameters.items():
        value -= kernel.optimizer.lr * decay * before[name]
    return found


def train(recipe: Mapping[str, Any], seed: int, data: Parts) -> Row:
    """The record of one run."""
    start, order = time.process_time(), np.random.default_rng(seed)
    kernel, (x, y), size = make(recipe, seed), data["train"], recipe["batch_size"]
    rates = one_cycle(recipe["lr"], recipe["epochs"] * -(-len(x) // size))
    curves: dict[str, list[float]] = {"train_accuracy": [], "val_accuracy": [], "norm": []}
    for _ in range(recipe["epochs"]):
        right, places = 0.0, order.permutation(len(x))
        for begin in range(0, len(x), size):
            rows = places[begin : begin + size]
            kernel.optimizer.lr = next(rates)
            found = decayed_step(kernel, x[rows], y[rows], recipe["weight_decay"])
            right += len(rows) * found["accuracy"]
        curves["train_accuracy"].append(right / len(x))
        curves["val_accuracy"].append(accuracy(kernel, recipe, data["validation"]))
        curves["norm"].append(kernel.contraction_bound())
    seconds = time.process_time() - start
    tested = accuracy(kernel, recipe, data["test"])
    short = {name: [float(f"{value:.5g}") for value in curve] for name, curve in curves.items()}
    return {"seed": seed, "test_accuracy": tested, "cpu_seconds": round(seconds, 1), **short}


def result(recipe: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The runs of these seeds, with what they have in common."""
    data = digits()
    versions = {name: metadata.version(name) for name in ("numpy", "eqprop_lab")}
    return {
        "device": "CPU, 1 thread",
        "versions": {"python": platform.python_version(), **versions},
        "date": datetime.date.today().isoformat(),
        "seeds": list(seeds),
        "estimator": "centered",
        "dataset": "digits",
        "samples": {part: len(y) for part, (_, y) in data.items()},
        "sizes": [64, recipe["hidden_dim"], 10],
        "parameters": sum(value.size for value in make(recipe, 0).parameters.values()),
        "recipe": dict(recipe),
        "networks": {"eqprop": "EqPropKernel"},
        "eqprop": [train(recipe, seed, data) for seed in seeds],
    }


def stored(name: str) -> dict[str, Any]:
    """A result of data/results."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Train, print a line a seed, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    arguments = parser.parse_args()
    found = result(stored("digits_looped_mlp")["recipe"], arguments.seeds)
    if "torch" in sys.modules:
        raise RuntimeError("torch was loaded: this is no run of the kernel alone")
    for row in found["eqprop"]:
        print(f"seed {row['seed']} test {row['test_accuracy']:.4f} {row['cpu_seconds']} s CPU")
    path = arguments.output / "digits_kernel.json"
    replace_text(path, json.dumps(found, indent=1) + "\n")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()

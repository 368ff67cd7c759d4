"""The search behind the recipes of `looped_mlp`: both networks on one grid, on held-out training
images only.

    python -m tests.benchmarks.tune_looped_mlp digits
    python -m tests.benchmarks.tune_looped_mlp mnist

Learning rate x weight decay, the same values, epochs, batches and seeds for either network: the
same number of trainings, none of which sees a test image. digits: run k of five trains without
every fifth image of training and validation set, begun at k, and is scored on those (1,437 images
in all, where the validation set alone has 180).
mnist: scored on the 5,000 validation images, one seed. Writes
data/results/NAME_looped_mlp_search.json; a training that is stored there is not made again, so the
job can be cut, and a grid can be widened later.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eqprop_lab.datasets import DataSet, build_dataset
from eqprop_lab.datasets.splits import Split
from eqprop_lab.files import replace_text
from tests.benchmarks.looped_mlp import (
    ESTIMATOR,
    GRADIENTS,
    NETWORKS,
    RECIPES,
    make_trainer,
    makers,
)
from tests.benchmarks.published import RESULTS, Row, read, shared

FOLDS = 5
GRIDS: dict[str, dict[str, Sequence[float]]] = {
    "digits": {"lr": (3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2, 9.6e-2), "weight_decay": (0.0, 0.1, 0.3)},
    "mnist": {"lr": (1.5e-3, 3e-3, 6e-3), "weight_decay": (0.0, 0.1)},
}
SEEDS = {"digits": range(FOLDS), "mnist": range(1)}


def fold(data: DataSet, index: int) -> DataSet:
    """`data` with every FOLDS-th image of training and validation set, from `index` on, as its
    validation set.
    """
    x, y = (
        torch.cat([getattr(part, name) for part in (data.train, data.validation)]) for name in "xy"
    )
    held = torch.arange(len(y)) % FOLDS == index
    return replace(data, train=Split(x[~held], y[~held]), validation=Split(x[held], y[held]))


def score(network: str, data: DataSet, recipe: Mapping[str, Any], seed: int) -> Row:
    """Validation accuracy and loss after the last epoch of one training, and its CPU seconds."""
    trainer = make_trainer(makers(data, recipe)[network](seed), GRADIENTS[network], recipe)
    start = time.process_time()
    trainer.fit(data.train.batches(recipe["batch_size"], shuffle=True, seed=seed), recipe["epochs"])
    seconds = time.process_time() - start
    found = trainer.evaluate(data.validation.batches(1000))
    return {
        "val_accuracy": float(f"{found['accuracy']:.5g}"),
        "val_loss": float(f"{found['loss']:.4g}"),
        "cpu_seconds": round(seconds, 1),
    }


def search(
    data: DataSet, name: str, recipe: Mapping[str, Any], path: Path, at_most: int | None = None
) -> dict[str, Any]:
    """The result in `path` with every training of the plan for `name`, the missing ones made and
    stored one by one.

    at_most: make no more trainings than these now. Raises ValueError when `path` holds trainings by
        another recipe.
    """
    common = {key: value for key, value in recipe.items() if key not in GRIDS[name]}
    head = shared(data, ESTIMATOR, NETWORKS, (), 0, common)
    head = {key: head[key] for key in ("device", "versions", "estimator", "dataset", "recipe")}
    head |= {
        "held_out": f"{FOLDS} folds of training and validation set"
        if name == "digits"
        else "validation set"
    }
    result = read(path) or {network: [] for network in NETWORKS}
    if result.get("recipe", common) != json.loads(json.dumps(common)):
        raise ValueError(
            f"{path.name} holds trainings by another recipe: {result['recipe']}; remove it first"
        )
    for made, (network, key) in enumerate(missing(result, name)):
        if made == at_most:
            break
        seed = key["seed"]
        row = key | score(
            network, fold(data, seed) if name == "digits" else data, {**common, **key}, seed
        )
        result[network].append(row)
        seen = sorted({row["seed"] for n in NETWORKS for row in result[n]})
        start = {"date": datetime.date.today().isoformat(), "seeds": seen}
        result = head | start | {n: result[n] for n in NETWORKS}
        replace_text(path, json.dumps(result, indent=1) + "\n")
    return result


def missing(result: Mapping[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(network, settings and seed) of each training that the plan lacks."""
    grid = GRIDS[name]
    points = [
        {"lr": lr, "weight_decay": decay} for lr in grid["lr"] for decay in grid["weight_decay"]
    ]
    for point in points:
        for seed in SEEDS[name]:
            for network in NETWORKS:
                key = point | {"seed": seed}
                if not any(key.items() <= row.items() for row in result[network]):
                    yield network, key


def summary(result: Mapping[str, Any], network: str) -> list[dict[str, float]]:
    """Mean over the seeds of every point of the grid, the best first: by accuracy, then by loss."""
    points: dict[tuple[float, float], list[Row]] = {}
    for row in result[network]:
        points.setdefault((row["lr"], row["weight_decay"]), []).append(row)
    means = [
        {"lr": lr, "weight_decay": decay, "trainings": len(rows)}
        | {
            name: statistics.mean(row[name] for row in rows)
            for name in ("val_accuracy", "val_loss")
        }
        for (lr, decay), rows in points.items()
    ]
    return sorted(means, key=lambda point: (-round(point["val_accuracy"], 9), point["val_loss"]))


def main() -> None:
    """Search, and print the grid of either network, the best first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=sorted(GRIDS))
    parser.add_argument("--at-most", type=int, help="make no more than these trainings now")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = given.output / f"{given.data}_looped_mlp_search.json"
    result = search(build_dataset(given.data), given.data, RECIPES[given.data], path, given.at_most)
    for network in NETWORKS:
        print(network)
        for point in summary(result, network):
            line = (
                "  lr {lr:<7g} decay {weight_decay:<4g} accuracy {val_accuracy:.4f} "
                "loss {val_loss:.4f} of {trainings}"
            )
            print(line.format(**point))


if __name__ == "__main__":
    main()

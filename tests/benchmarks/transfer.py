"""From MNIST to the digits of scikit-learn with one, five and twenty images a class, five seeds.

    python -m tests.benchmarks.transfer
    python -m tests.benchmarks.transfer --ship mnist_8x8_resnet

ResNet-8 of width 8 learns 20,000 images of MNIST, made 8x8 (`shrunk`), by backprop; each seed
trains its own. Then, on the digits of another data set:

    as it is    the network of MNIST, with its own head
    probe       a new head, all else frozen
    fine-tune   a new head, all is trained
    scratch     the same network, fresh
    pixels      a linear readout of the pixels, the floor

Learning rate, updates, and whether the batch norms keep their statistics are chosen on the
validation digits with five shots and other seeds (CHOICE); the test images are looked at once a
row. Writes data/results/digits_transfer.json. MNIST is read from the data folder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from eqprop_lab import EqPropTrainer, ResNetCifar, build_dataset, save_trained
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.splits import Split
from eqprop_lab.experiments.combining import transfer
from eqprop_lab.experiments.runs import public_versions
from eqprop_lab.seeding import seeded
from tests.benchmarks.distillation import shots
from tests.benchmarks.published import RESULTS, Row, processor, read
from tests.benchmarks.rows import Rows

METHODS = ("as it is", "probe", "fine-tune", "scratch", "pixels")
SHOTS = (1, 5, 20)
CHOICE = (100, 101)  # seeds on which the recipes are chosen, with five shots
RATES, UPDATES, KEPT = (3e-3, 1e-2, 3e-2), (60, 200), (False, True)
PRETRAINING: dict[str, Any] = {"images": 20_000, "epochs": 3, "batch_size": 64}
PRETRAINING |= {"optimizer": "sgd", "lr": 0.2, "weight_decay": 5e-4, "schedule": "one_cycle"}
BATCH = 50
SIZE: dict[str, int] = {"depth": 8, "num_classes": 10, "in_channels": 1, "width": 8}


def shrunk(x: Tensor) -> Tensor:
    """MNIST (N, 1, 28, 28) as the digits are: 8x8, each pixel the mean of 3x3.

    The margin of two pixels is cut off: the digits of scikit-learn fill their frame.
    """
    return avg_pool2d(x[:, :, 2:-2, 2:-2], 3)


def mnist() -> DataSet:
    """MNIST in the size of the digits."""
    data = build_dataset({"name": "mnist", "limit": PRETRAINING["images"]})
    names = ("train", "validation", "test")
    parts = {name: getattr(data, name) for name in names}
    small = {name: Split(shrunk(part.x), part.y) for name, part in parts.items()}
    return DataSet("mnist_8x8", **small, classes=data.classes)


def pretrained(seed: int, data: DataSet) -> tuple[nn.Module, Row]:
    """A network of MNIST, and how well it reads it."""
    how = {k: v for k, v in PRETRAINING.items() if k not in ("images", "epochs", "batch_size")}
    trainer = EqPropTrainer(ResNetCifar(**SIZE, seed=seed), "autograd", **how, progress=False)
    start = time.process_time()
    batches = data.train.batches(PRETRAINING["batch_size"], shuffle=True, seed=seed)
    trainer.fit(batches, PRETRAINING["epochs"])
    used = time.process_time() - start
    found: Row = {"cpu_seconds": round(used, 2)}
    for name, part in (("validation", data.validation), ("test", data.test)):
        found[f"{name}_accuracy"] = round(trainer.evaluate(part.batches(1000))["accuracy"], 5)
    return trainer.model.eval(), found


def begun(method: str, base: nn.Module, seed: int, keep: bool) -> nn.Module:
    """The network that a method trains."""
    if method == "scratch":
        return ResNetCifar(**SIZE, seed=1000 + seed)
    if method == "pixels":
        with seeded(seed):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    freeze = "all" if method == "probe" else "none"
    return transfer(base, 10, freeze, seed=seed, keep_statistics=keep)


def learned(method: str, base: nn.Module, few: Split, seed: int, recipe: Row) -> EqPropTrainer:
    """The trainer of a network that has seen the few images of a task."""
    if method == "as it is":
        return EqPropTrainer(base, "autograd", progress=False)
    model = begun(method, base, seed, recipe["keep_statistics"])
    how: dict[str, Any] = {"lr": recipe["rate"], "schedule": "one_cycle", "progress": False}
    trainer = EqPropTrainer(model, "autograd", "adam", **how)
    batches = few.batches(BATCH, shuffle=True, seed=seed)
    trainer.fit(batches, max(1, round(recipe["updates"] / len(batches))))
    return trainer


def choose(method: str, bases: dict[int, nn.Module], digits: DataSet) -> Row:
    """The recipe with the best mean validation accuracy at five shots, the first of equal ones."""
    best: Row = {"validation_accuracy": -1.0}
    if method == "as it is":
        return {}
    for rate, updates, keep in product(RATES, UPDATES, KEPT):
        if keep and method != "fine-tune":
            continue
        recipe = {"rate": rate, "updates": updates, "keep_statistics": keep}
        scores = []
        for seed, base in bases.items():
            trainer = learned(method, base, shots(digits.train, 5, seed), seed, recipe)
            scores.append(trainer.evaluate(digits.validation.batches(180))["accuracy"])
        found = round(fmean(scores), 5)
        if found > best["validation_accuracy"]:
            best = {"validation_accuracy": found} | recipe
    return best


def one_row(method: str, base: nn.Module, few: Split, seed: int, recipe: Row, test: Split) -> Row:
    """Train, and look at the test images once."""
    start = time.process_time()
    trainer = learned(method, base, few, seed, recipe)
    used = time.process_time() - start
    found = trainer.evaluate(test.batches(360))
    return {"test_accuracy": round(found["accuracy"], 5), "cpu_seconds": round(used, 2)}


def ship(file: Path, name: str, seed: int, found: Row) -> Path:
    """Put a network of MNIST among those of the package."""
    info = {
        "dataset": "mnist, 8x8: rows and columns 3 to 26, means of 3x3 pixels",
        "recipe": PRETRAINING,
        "estimator": "autograd",
        "seed": seed,
        "versions": public_versions(),
        "date": found["date"],
        "device": processor(),
        "validation_accuracy": found["validation_accuracy"],
        "test_accuracy": found["test_accuracy"],
    }
    model = ResNetCifar(**SIZE, seed=seed)
    model.load_state_dict(torch.load(file, weights_only=True))
    return save_trained(model.eval(), name, info)


class Study:
    """Networks of MNIST, trained when they are asked for; their weights stay in a folder."""

    def __init__(self, rows: Rows, weights: Path) -> None:
        self.rows, self.weights, self.data = rows, weights, cache(mnist)
        self.digits = build_dataset("digits")

    def file(self, seed: int) -> Path:
        return self.weights / f"seed{seed}.pt"

    def base(self, seed: int) -> nn.Module:
        """The network of a seed, from its file where it is there."""
        if not self.file(seed).is_file():
            trained, found = pretrained(seed, self.data())
            self.weights.mkdir(parents=True, exist_ok=True)
            torch.save(trained.state_dict(), self.file(seed))
            self.rows.make({"method": "pretraining", "seed": seed}, lambda: found)
        model = ResNetCifar(**SIZE, seed=seed)
        model.load_state_dict(torch.load(self.file(seed), weights_only=True))
        return model.eval()

    def run(self, seeds: Sequence[int]) -> None:
        """Make the rows that are missing."""
        base = cache(self.base)
        for method in METHODS:
            key = {"method": method, "seed": "chosen"}
            recipe = self.rows.make(
                key,
                lambda: choose(method, {s: base(s) for s in CHOICE}, self.digits),  # noqa: B023
            )
            for seed, each in product(seeds, (0,) if method == "as it is" else SHOTS):
                few = shots(self.digits.train, max(1, each), seed)
                self.rows.make(
                    {"method": method, "seed": seed, "shots": each},
                    lambda: one_row(method, base(seed), few, seed, recipe, self.digits.test),  # noqa: B023
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, a line each; or ship a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, default=RESULTS / "digits_transfer.json")
    parser.add_argument("--weights", type=Path, default=RESULTS.parents[1] / "runs" / "transfer")
    parser.add_argument("--fresh", action="store_true", help="discard the stored rows first")
    parser.add_argument("--ship", metavar="NAME", help="put the weights of seed 0 in the package")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    grid = {"rates": RATES, "updates": UPDATES, "keep_statistics": KEPT, "seeds": CHOICE}
    shared: Row = {"dataset": "digits", "estimator": "autograd", "pretraining": PRETRAINING}
    shared |= {"network": SIZE, "batch_size": BATCH, "grid": grid}
    rows = Rows(given.output, shared, given.fresh)
    study = Study(rows, given.weights)
    if given.ship is None:
        study.run(given.seeds)
        return
    (found,) = [row for row in rows.rows if row["method"] == "pretraining" and row["seed"] == 0]
    date = (read(given.output) or {})["date"]
    print(f"wrote {ship(study.file(0), given.ship, 0, found | {'date': date}).name}")


if __name__ == "__main__":
    main()

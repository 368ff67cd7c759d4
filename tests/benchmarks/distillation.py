"""What a teacher is worth to a student without labels, on the digits, five seeds.

    python -m tests.benchmarks.distillation

The training images are halved. A teacher learns the labels of one half (LoopedMLP by EqProp, or its
backprop twin, by the published recipe); the student sees the other half. It is a network of 64, 16,
16 and 10 units, by backprop, or a LoopedMLP of as many parameters by EqProp. Its lessons:

    few         100 labels of the second half, ten a class
    echo        the answers of a teacher who has just these 100 labels, on the whole second half
    distilled   the answers of the teacher by EqProp on the second half, no label
    distilled from backprop   those of the teacher by backprop
    all         all labels of the second half

All students make equally many updates. Learning rate, weight decay and temperature are chosen on
the validation images with other seeds (CHOICE), once for all lessons of a teacher; the test images
are looked at once a row. Writes data/results/digits_distillation.json.
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

from eqprop_lab import BackpropMLP, EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.splits import Split
from eqprop_lab.experiments.distillation import distilled
from tests.benchmarks.ensembles import DIGITS, member
from tests.benchmarks.looped_mlp import GRADIENTS
from tests.benchmarks.published import RESULTS, Row
from tests.benchmarks.rows import Rows

STUDENTS = ("backprop", "eqprop")
LESSONS = ("few", "echo", "distilled", "distilled from backprop", "all")
CHOICE = (100, 101)  # seeds on which a student's recipe is chosen
RATES, DECAYS, TEMPERATURES = (3e-3, 1e-2, 3e-2), (0.0, 0.1), (1.0, 3.0)
BATCH, UPDATES, SHOTS, WIDTH = 25, 600, 10, 16


def shots(split: Split, each: int, seed: int) -> Split:
    """`each` random samples of every class."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    order = torch.randperm(len(split), generator=generator, device="cpu")
    rows = [order[split.y[order] == c][:each] for c in range(int(split.y.max()) + 1)]
    chosen = torch.cat(rows)
    return Split(split.x[chosen], split.y[chosen])


def student(rule: str, lesson: Split, seed: int, rate: float, decay: float) -> EqPropTrainer:
    """The trainer of a student who has learned `lesson`."""
    make = LoopedMLP if rule == "eqprop" else BackpropMLP
    model = make(64, WIDTH, 10, seed=seed)
    phases: dict[str, Any] = {"free_steps": 12, "nudged_steps": 10} if rule == "eqprop" else {}
    settings: dict[str, Any] = {"lr": rate, "weight_decay": decay, "schedule": "one_cycle"}
    trainer = EqPropTrainer(model, GRADIENTS[rule], "adamw", **settings, **phases, progress=False)
    batches = lesson.batches(BATCH, shuffle=True, seed=seed)
    trainer.fit(batches, round(UPDATES / len(batches)))
    return trainer


class Class:
    """The halves, the teachers and the lessons of one seed."""

    def __init__(self, seed: int, data: DataSet) -> None:
        self.seed, self.data = seed, data
        taught, self.other = data.train.split(0.5, seed)
        self.few = shots(self.other, SHOTS, seed)
        self.teachers = {
            "distilled": member("eqprop", seed, data, taught),
            "distilled from backprop": member("backprop", seed, data, taught),
            "echo": member("eqprop", seed, data, self.few),
        }

    def lesson(self, name: str, temperature: float = 1.0) -> Split:
        """What a student of LESSONS[name] trains on."""
        if name in self.teachers:
            images = Split(self.other.x, torch.zeros_like(self.other.y))
            return distilled(self.teachers[name], images, 1.0, temperature)
        return self.few if name == "few" else self.other

    def row(self, rule: str, name: str, recipe: Row) -> Row:
        """Train one student and look at the test images once."""
        start = time.process_time()
        lesson = self.lesson(name, recipe["temperature"])
        trainer = student(rule, lesson, self.seed, recipe["rate"], recipe["decay"])
        used = time.process_time() - start
        x, y = self.data.test.x, self.data.test.y
        with torch.no_grad():
            said = trainer.model.eval()(x).argmax(1)
            teacher = self.teachers[name](x).argmax(1) if name in self.teachers else None
        found: Row = {"test_accuracy": _share(said == y), "cpu_seconds": round(used, 2)}
        if teacher is not None:
            found |= {
                "teacher_accuracy": _share(teacher == y),
                "agreement": _share(said == teacher),
            }
        return found


def _share(right: torch.Tensor) -> float:
    return round(float(right.double().mean()), 5)


def choose(rule: str, name: str, classes: Sequence[Class]) -> Row:
    """The recipe with the best mean validation accuracy, the first of equal ones."""
    soft = name in classes[0].teachers
    best: Row = {"validation_accuracy": -1.0}
    for rate, decay, temperature in product(RATES, DECAYS, TEMPERATURES if soft else (1.0,)):
        scores = []
        for one in classes:
            trainer = student(rule, one.lesson(name, temperature), one.seed, rate, decay)
            held = one.data.validation.batches(180)
            scores.append(trainer.evaluate(held)["accuracy"])
        found = {"validation_accuracy": round(fmean(scores), 5), "rate": rate, "decay": decay}
        if found["validation_accuracy"] > best["validation_accuracy"]:
            best = found | {"temperature": temperature}
    return best


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--output", type=Path, default=RESULTS / "digits_distillation.json")
    parser.add_argument("--fresh", action="store_true", help="discard the stored rows first")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = build_dataset("digits")
    grid = {"rates": RATES, "decays": DECAYS, "temperatures": TEMPERATURES, "seeds": CHOICE}
    shared: Row = {"dataset": "digits", "estimator": "centered", "teachers": DIGITS, "grid": grid}
    shared |= {"updates": UPDATES, "batch_size": BATCH, "shots": SHOTS, "width": WIDTH}
    rows = Rows(given.output, shared, given.fresh)
    one = cache(lambda seed: Class(seed, data))
    for rule, name in product(given.students, LESSONS):
        own = name if name in ("few", "all") else "distilled"
        key = {"student": rule, "lesson": own, "seed": "chosen"}
        recipe = rows.make(key, lambda: choose(rule, own, [one(s) for s in CHOICE]))  # noqa: B023
        for seed in given.seeds:
            key = {"student": rule, "lesson": name, "seed": seed}
            rows.make(key, lambda: one(seed).row(rule, name, recipe))  # noqa: B023


if __name__ == "__main__":
    main()

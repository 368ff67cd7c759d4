"""The rows of the MNIST comparison of the learning rules as one result, beside published values.

    python -m tests.benchmarks.store_mnist_rules --rows DIR --epochs 5

Writes data/results/mnist_learning_rules.json and .csv: every training at its rule's chosen rate
with at least that many epochs, scored there, with its curve as far as it went.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from pathlib import Path
from typing import Any

from eqprop_lab.files import replace_text
from eqprop_lab.tables import csv_text
from eqprop_lab.version import __version__
from tests.benchmarks import mnist_learning_rules as job
from tests.benchmarks.mnist_learning_rules import SECONDS, TUNING_EPOCHS, TUNING_SEED, Row
from tests.benchmarks.published import RESULTS

NAME = "mnist_learning_rules"
LOGS = "logs of the authors' repository"
# test accuracy in %, and what was different there
PUBLISHED: list[Row] = [
    {
        "rule": "eqprop",
        "accuracy": 98.0,
        "paper": "arXiv:2209.00530",
        "where": f"{LOGS}: classic EP, beta 0.1",
        "other": "784-256-256-10, sigmoid, 50 epochs, batches of 20, 200 free and 100 nudged steps",
    },
    {
        "rule": "eqprop",
        "accuracy": 98.35,
        "paper": "arXiv:2312.15103",
        "where": "the authors' repository",
        "other": "784-1024-1024-10, centered beta 0.2, 100 epochs, 50 free and 20 nudged steps",
    },
    {
        "rule": "direct_feedback_alignment",
        "accuracy": 98.55,
        "paper": "arXiv:1609.01596",
        "where": "abstract",
        "other": "wider layers, dropout, hundreds of epochs",
    },
]
DEVIATIONS = (
    "Eight epochs at most at a constant rate, no weight decay, no dropout, no augmentation: "
    "published networks train for 50 epochs and more, with two to four times as many units.",
    "Rates were chosen after two epochs. They favour a quick start, and most rules took the "
    "largest of the three, which is too large after that: accuracy wavers from epoch to epoch.",
    "eqprop, mom_eq and sparse_eq run without a bound on the weights. Their states cease to settle "
    "in 25 steps as the weights grow; published EP settles for 50 to 200. eqprop_bounded settles.",
    "Seed 2 of leq_fa and of the rules that take one pass ran on another machine, with "
    "torch 2.13: their CPU seconds are those of that machine. sparse_eq has two seeds.",
)


def training(
    rows: dict[tuple[str, float, int, int], Row], key: tuple[str, float, int]
) -> list[Row]:
    """The rows of one training, by epoch, as far as they are there without a gap."""
    found: list[Row] = []
    while (*key, len(found) + 1) in rows:
        found.append(rows[*key, len(found) + 1])
    return found


def scored(curve: list[Row], epochs: int) -> Row:
    """A training as `compare_models` has it: scores after so many epochs, and the curve."""
    last = curve[epochs - 1]
    score = last["test"] | {"cpu_seconds": last["cpu_seconds"]}
    score["alignment"] = round(statistics.fmean(last["alignment"]), 5)
    points = [
        {"epoch": row["epoch"], "cpu_seconds": row["cpu_seconds"]}
        | {"validation_accuracy": row["validation"]["accuracy"]}
        | {"test_accuracy": row["test"]["accuracy"], "alignment": row["alignment"]}
        for row in curve
    ]
    head = {key: last[key] for key in ("model", "learning_rate", "seed")}
    return head | {"tuning": False, "epochs": score, "trained": {"epochs": epochs}, "curve": points}


def result(folder: Path, epochs: int) -> dict[str, Any]:
    """The whole file. Raises ValueError for a rule that no training of that length is there of."""
    found = job.stored(folder)
    head = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    rows: list[Row] = [
        {key: row[key] for key in ("model", "learning_rate", "seed", "validation")}
        | {"tuning": True}
        for (_, _, seed, epoch), row in sorted(found.items())
        if seed == TUNING_SEED and epoch == TUNING_EPOCHS
    ]
    for rule in SECONDS:
        rate = job.chosen(found, rule, TUNING_EPOCHS)
        curves = [] if rate is None else [training(found, (rule, rate, s)) for s in job.SEEDS]
        enough = [curve for curve in curves if len(curve) >= epochs]
        if not enough:
            raise ValueError(f"rows must hold trainings of {epochs} epochs of {rule}: none does")
        rows += [scored(curve, epochs) for curve in enough]
    plan = {"epochs": epochs, "tuning_epochs": TUNING_EPOCHS, "learning_rates": list(job.RATES)}
    plan |= {"batch_size": job.BATCH, "optimizer": "adam", "widths": job.WIDTHS}
    return {
        "date": datetime.date.today().isoformat(),
        "device": head["device"],
        "versions": head["versions"] | {"eqprop_lab": __version__},
        "seeds": sorted({row["seed"] for row in rows if not row["tuning"]}),
        "estimator": "each model's own",
        "dataset": "mnist",
        "plan": plan | {"other_widths": job.OTHER_WIDTHS},
        "published": PUBLISHED,
        "deviations": list(DEVIATIONS),
        "rows": rows,
    }


def table(rows: list[Row]) -> str:
    """Every epoch of every training as CSV."""
    names = ("epoch", "cpu_seconds", "validation_accuracy", "test_accuracy", "alignment")
    lines = [("model", "seed", "learning_rate", *names)]
    for row in rows:
        for point in row.get("curve", ()):
            values = point | {"alignment": round(statistics.fmean(point["alignment"]), 5)}
            start = row["model"], row["seed"], row["learning_rate"]
            lines.append((*start, *(values[name] for name in names)))
    return csv_text(lines)


def main() -> None:
    """Write the result and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=Path, required=True, help="folder of the rows")
    parser.add_argument("--epochs", type=int, default=job.EPOCHS, help="after which it is scored")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    given = parser.parse_args()
    made = result(given.rows, given.epochs)
    text = json.dumps(made, indent=1, allow_nan=False)
    replace_text(given.output / f"{NAME}.json", text + "\n")
    replace_text(given.output / f"{NAME}.csv", table(made["rows"]))
    for rule in SECONDS:
        scores = [r["epochs"]["accuracy"] for r in made["rows"] if not r["tuning"]
                  if r["model"] == rule]  # fmt: skip
        print(f"{rule:26} {100 * statistics.fmean(scores):6.2f} % of {len(scores)} seeds")


if __name__ == "__main__":
    main()

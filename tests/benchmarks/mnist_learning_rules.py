"""The learning rules beside each other on MNIST: rows of a job that can be cut anywhere.

    python -m tests.benchmarks.mnist_learning_rules --rows DIR --minutes 7 --processes 10

1. tuning:    every rule at every rate, one seed, TUNING_EPOCHS; the best validation accuracy wins
2. training:  that rate, other seeds, EPOCHS; a row of scores after every epoch

The network is that of 784-256-128-10 in tanh, or as many parameters where a rule has others; images
are those of $EQPROP_DATA_DIR, of which the last 5,000 of the training part are held out. Jobs of
an earlier seed come first, so that what is done when the time is up is a comparison. A worker
looks at the clock after every batch and leaves a row only for whole epochs. A training that has its
last row is not made again.

Needs torch and numpy, nothing else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# imported for the rules they register
from eqprop_lab.algorithms import alignment, equilibrium, feedback, layerwise, predictive
from eqprop_lab.algorithms.registry import algorithm
from eqprop_lab.instruments.alignment import hidden_cosines
from eqprop_lab.models.local_rule import LocalRule

FAMILIES = (alignment, equilibrium, feedback, layerwise, predictive)
WIDTHS = [256, 128]
# as many parameters as the others have, nearly: lateral weights count
OTHER_WIDTHS = {"leq_fa": [205, 102], "eq_align": [229]}
# eqprop once more with the bound under which two hidden layers settle
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "eqprop_bounded": ("eqprop", {"use_spectral_norm": True})
}
# CPU seconds of an epoch, about: long trainings start first
SECONDS = {
    "sparse_eq": 27, "eqprop_bounded": 18, "mom_eq": 17, "cf_align": 17, "pc_hybrid": 16,
    "eqprop": 16, "eq_align": 8, "leq_fa": 6, "backprop": 2.3, "feedback_alignment": 2.3,
    "direct_feedback_alignment": 2.3, "sign_symmetry": 2.3, "ada_fa": 2.4, "sto_fa": 2.5,
    "eg_fa": 2.4, "em_fa": 2.3,
}  # fmt: skip
RATES = (3e-4, 1e-3, 3e-3)
TUNING_SEED = 1000
TUNING_EPOCHS = 2
EPOCHS = 8
SEEDS = range(5)
BATCH = 100
HELD = 5000
PROBE = 256  # training images that alignment is measured on
Row = dict[str, Any]
Data = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Job:
    """One training; limit: images of the training part that are used."""

    rule: str
    rate: float
    seed: int
    epochs: int
    limit: int

    @property
    def tuning(self) -> bool:
        return self.seed == TUNING_SEED


@dataclass(frozen=True)
class Size:
    """How large the job is: the plan, or a small one to try it."""

    epochs: int = EPOCHS
    tuning_epochs: int = TUNING_EPOCHS
    limit: int = 60_000


def read(folder: Path, limit: int) -> Data:
    """{"train", "validation", "test"} of the published files: x (N, 784) in [0, 1], y (N,)."""
    parts = {}
    for name, part in (("train", "train"), ("t10k", "test")):
        raw = folder / "MNIST" / "raw"
        images = np.fromfile(raw / f"{name}-images-idx3-ubyte", np.uint8, offset=16)
        labels = np.fromfile(raw / f"{name}-labels-idx1-ubyte", np.uint8, offset=8)
        x = torch.from_numpy(images.reshape(len(labels), -1)).float() / 255
        parts[part] = x, torch.from_numpy(labels).long()
    x, y = parts["train"]
    last = len(y) - HELD
    end = min(limit, last)
    return {"train": (x[:end], y[:end]), "validation": (x[last:], y[last:]), "test": parts["test"]}


def network(rule: str, rate: float, seed: int) -> LocalRule:
    """The network of a rule, and its Adam."""
    name, options = VARIANTS.get(rule, (rule, {}))
    kind: Any = algorithm(name)
    widths = OTHER_WIDTHS.get(rule, WIDTHS)
    made: LocalRule = kind(784, widths, 10, seed=seed, learning_rate=rate, **options)
    return made


def batches(part: tuple[Tensor, Tensor], order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in a new order."""
    x, y = part
    for rows in torch.randperm(len(y), generator=order, device="cpu").split(BATCH):
        yield x[rows], y[rows]


def scores(model: LocalRule, part: tuple[Tensor, Tensor]) -> Row:
    """{"accuracy", "loss"} of a part."""
    with torch.no_grad():
        z = torch.cat([model(x) for x in part[0].split(1000)])
    loss = torch.nn.functional.cross_entropy(z, part[1])
    right = (z.argmax(1) == part[1]).double().mean()
    return {"accuracy": _short(right), "loss": _short(loss)}


def train(job: Job, folder: Path, rows: Path, deadline: float) -> bool:
    """Rows of a training, one an epoch, into a file of this process; whether it came to its end."""
    torch.set_num_threads(1)
    data = read(folder, job.limit)
    model = network(job.rule, job.rate, job.seed)
    torch.manual_seed(job.seed)
    order = torch.Generator(device="cpu").manual_seed(job.seed)
    used = 0.0
    for epoch in range(1, job.epochs + 1):
        start = time.process_time()
        for x, y in batches(data["train"], order):
            model.train_step(x, y)
            if time.time() > deadline:
                return False
        used += time.process_time() - start
        row = {"model": job.rule, "learning_rate": job.rate, "seed": job.seed, "epoch": epoch}
        row |= {"cpu_seconds": _short(used), "validation": scores(model, data["validation"])}
        if not job.tuning:
            row["test"] = scores(model, data["test"])
            x, y = data["train"]
            row["alignment"] = [_short(c) for c in hidden_cosines(model, x[:PROBE], y[:PROBE])]
        with (rows / f"rows-{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return True


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


def stored(rows: Path) -> dict[tuple[str, float, int, int], Row]:
    """The rows of a folder by (rule, rate, seed, epoch); a line that was cut is left out."""
    found = {}
    for path in sorted(rows.glob("rows-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.endswith("}"):
                row = json.loads(line)
                key = row["model"], row["learning_rate"], row["seed"], row["epoch"]
                found[key] = row
    return found


def chosen(found: dict[tuple[str, float, int, int], Row], rule: str, epochs: int) -> float | None:
    """The rate of the best validation accuracy, then loss; None while a rate is missing."""
    tried = [found.get((rule, rate, TUNING_SEED, epochs)) for rate in RATES]
    there = [row for row in tried if row is not None]
    if len(there) < len(RATES):
        return None
    best = max(there, key=lambda r: (r["validation"]["accuracy"], -r["validation"]["loss"]))
    return float(best["learning_rate"])


def next_jobs(rows: Path, size: Size) -> list[Job]:
    """What is missing and can start, the most pressing first."""
    found = stored(rows)
    rules = sorted(SECONDS, key=lambda name: -SECONDS[name])
    tunings = [
        Job(rule, rate, TUNING_SEED, size.tuning_epochs, size.limit)
        for rule in rules
        for rate in RATES
    ]
    rates = {rule: chosen(found, rule, size.tuning_epochs) for rule in rules}
    trainings = [
        Job(rule, rate, seed, size.epochs, size.limit)
        for seed in SEEDS
        for rule in rules
        if (rate := rates[rule]) is not None
    ]
    jobs = [*tunings, *trainings]
    return [job for job in jobs if (job.rule, job.rate, job.seed, job.epochs) not in found]


def run(folder: Path, rows: Path, minutes: float, processes: int, size: Size) -> None:
    """Make what is missing, as far as the minutes go."""
    deadline = time.time() + 60 * minutes
    rows.mkdir(parents=True, exist_ok=True)
    (rows / "head.json").write_text(json.dumps(head()), encoding="utf-8")
    spawn = multiprocessing.get_context("spawn")
    running: dict[Future[bool], Job] = {}
    failed: list[Job] = []
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        while time.time() < deadline or running:
            taken = [*running.values(), *failed]
            free = [job for job in next_jobs(rows, size) if job not in taken]
            if time.time() < deadline:
                for job in free[: processes - len(running)]:
                    running[pool.submit(train, job, folder, rows, deadline)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if future.exception() is not None:
                    failed.append(job)
                ended = future.exception() or ("done" if future.result() else "cut")
                left = deadline - time.time()
                print(f"{left:5.0f} s left: {job.rule} {job.rate:g} {job.seed} {ended}", flush=True)
    if failed:
        raise RuntimeError(f"{len(failed)} trainings failed, the first was {failed[0]}")


def head() -> Row:
    """What all rows were made with."""
    versions = {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]}
    versions |= {"numpy": np.__version__, "processor": platform.machine()}
    return {"device": "CPU, 1 thread", "versions": versions}


def main() -> None:
    """Train what is missing, or store what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=Path, required=True, help="folder of the rows")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which it stops")
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time")
    parser.add_argument("--small", action="store_true", help="1,000 images, two epochs: a trial")
    given = parser.parse_args()
    folder = Path(os.environ.get("EQPROP_DATA_DIR", "data"))
    size = Size(2, 1, 1000) if given.small else Size()
    read(folder, 1)  # missing files are noticed here
    run(folder, given.rows, given.minutes, given.processes, size)


if __name__ == "__main__":
    main()

"""Models beside each other on equal terms: parameters, optimiser, tuning, epochs, CPU time.

    compare_models({"eqprop": None, "backprop": None}, "digits", ("accuracy", "alignment"))

1. widths:    every model gets as many parameters as the first, as nearly as its widths allow
2. tuning:    the same learning rates, `tuning_seeds` trainings each; the best mean validation
              accuracy wins (then the lowest loss); no test sample is looked at
3. seeds:     that rate, other seeds; the test set is scored after `epochs`, and once more after
              about `seconds` of CPU time, whole epochs, for which quick models train longer

A training that is stored in `path` is not made again, so that the job can be cut anywhere.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.datasets import DataSet, build_dataset
from eqprop_lab.experiments.contenders import Contender, contender, scaled, size
from eqprop_lab.experiments.paired import Mean, Paired, mean_of, paired
from eqprop_lab.experiments.runs import public_versions
from eqprop_lab.files import replace_text
from eqprop_lab.instruments.alignment import mean_cosine
from eqprop_lab.instruments.memory import estimate_memory_usage
from eqprop_lab.tables import csv_text, text_table
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.validation import a_path, integer, one_of, positive_int, real

METRICS = ("accuracy", "loss", "cpu_seconds", "alignment", "memory_mb")
RATES = (1e-3, 3e-3, 1e-2)
LONGEST = 100  # times the epochs, for a model that is very quick
FIRST_TUNING_SEED = 1000  # far from those that are scored
PROBE = 256  # training samples that alignment is measured on
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What all trainings of a comparison share, as it is stored."""

    dataset: str
    metrics: tuple[str, ...]
    parameters: int
    epochs: int
    seconds: float | None
    learning_rates: tuple[float, ...]
    tuning_seeds: int
    batch_size: int
    optimizer: str


@dataclass(frozen=True)
class Job:
    """One training: of a model at a rate and a seed, for tuning or for the table."""

    name: str
    entry: Contender
    lr: float
    seed: int
    tuning: bool

    @property
    def key(self) -> tuple[str, float, int, bool]:
        """What tells it from others of its comparison."""
        return self.name, self.lr, self.seed, self.tuning


@dataclass(frozen=True)
class ModelComparison:
    """The stored trainings of a comparison, and what follows from them.

    rows: one a training that was scored, {"model", "seed", "learning_rate", "parameters", "epochs":
    {metric: value}, "seconds": {metric: value} or None, ...}.
    """

    plan: Plan
    models: dict[str, dict[str, Any]]
    rows: list[Row]
    head: dict[str, Any]

    def values(self, model: str, metric: str = "accuracy", budget: str = "epochs") -> list[float]:
        """One value a seed, in the order of the seeds; budget: "epochs" or "seconds".

        Raises ValueError for a model, a metric or a budget that was not compared.
        """
        one_of("model", model, self.models)
        one_of("metric", metric, self.plan.metrics)
        budgets = ("epochs",) if self.plan.seconds is None else ("epochs", "seconds")
        one_of("budget", budget, budgets)
        rows = sorted((r for r in self.rows if r["model"] == model), key=lambda r: r["seed"])
        return [row[budget][metric] for row in rows]

    def mean(self, model: str, metric: str = "accuracy", budget: str = "epochs") -> Mean:
        """Mean over the seeds with its 95 % interval."""
        return mean_of(self.values(model, metric, budget))

    def paired(self, a: str, b: str, metric: str = "accuracy", budget: str = "epochs") -> Paired:
        """a - b, seed by seed."""
        return paired(self.values(a, metric, budget), self.values(b, metric, budget))

    def tidy(self) -> list[Row]:
        """One row a value: model, seed, budget, metric, value, and all it was made with."""
        made = {key: self.head[key] for key in ("date", "device")} | self.head["versions"]
        return [
            {"model": row["model"], "seed": row["seed"], "budget": budget, "metric": metric}
            | {"value": value, "epochs": row["trained"][budget]}
            | {key: row[key] for key in ("learning_rate", "parameters")}
            | {"dataset": self.plan.dataset, "optimizer": self.plan.optimizer}
            | made
            for row in self.rows
            for budget in ("epochs", "seconds")
            if row[budget] is not None
            for metric, value in row[budget].items()
        ]

    def to_csv(self, path: str | Path) -> Path:
        """The tidy table as a CSV file, whole or not at all."""
        rows = self.tidy()
        names = list(rows[0])
        text = csv_text([names, *([row[name] for name in names] for row in rows)])
        return replace_text(a_path("path", path), text)

    def table(self) -> str:
        """Means with 95 % intervals, the best accuracy first."""
        budgets = ["epochs"] + (["seconds"] if self.plan.seconds is not None else [])
        names = sorted(self.models, key=lambda name: -self.mean(name).mean)
        columns = [(metric, budget) for metric in self.plan.metrics for budget in budgets]
        titles = {"epochs": f"{self.plan.epochs} epochs", "seconds": f"{self.plan.seconds} s"}
        head = ("model", *(f"{metric}, {titles[budget]}" for metric, budget in columns))
        body = [(name, *(str(self.mean(name, *column)) for column in columns)) for name in names]
        return "\n".join(text_table([head, *body]))


def compare_models(
    models: Mapping[str, Any] | Sequence[str],
    dataset: str,
    metrics: Sequence[str] = ("accuracy", "loss", "cpu_seconds"),
    *,
    parameters: int | None = None,
    epochs: int = 10,
    seconds: float | None = None,
    seeds: int = 5,
    learning_rates: Sequence[float] = RATES,
    tuning_seeds: int = 1,
    batch_size: int = 32,
    optimizer: str = "adam",
    path: str | Path | None = None,
    processes: int = 1,
) -> ModelComparison:
    """Train every model on equal terms and compare them (see the top of the file).

    Args:
        models: {name: {"model": registered name, "params": {...}, "gradient": ...}}, or None in the
            place of the mapping, or a list of names, for learning rules (`list_algorithms`).
        dataset: a name of `build_dataset`. metrics: of "accuracy", "loss" (on the test set),
            "cpu_seconds" (of training), "alignment" (mean cosine of a model's gradients with the
            exact ones over its weights, on 256 training samples), "memory_mb" (of a step).
        parameters: of every model; None: as many as the first has with the widths it is given.
        epochs, seconds: the two budgets (None: epochs only). seeds: 0, 1, ... that are scored.
        learning_rates, tuning_seeds: the tuning, the same for all. path: the JSON file that keeps
            the trainings. processes: 1 or 2 at a time, each on one thread.
    Raises: TypeError, ValueError naming the argument, also for a path that holds a comparison made
        otherwise, before any training.
    """
    data = build_dataset(dataset)
    given = models if isinstance(models, Mapping) else dict.fromkeys(models)
    if not given:
        raise ValueError("models must name at least one model, got none")
    entries = {name: contender(name, value, data) for name, value in given.items()}
    first = next(iter(entries.values()))
    wanted = size(first.build(0)) if parameters is None else positive_int("parameters", parameters)
    rates = tuple(real("learning_rates", rate, above=0.0) for rate in learning_rates)
    plan = Plan(
        dataset=dataset,
        metrics=tuple(one_of("metrics", metric, METRICS) for metric in metrics),
        parameters=wanted,
        epochs=positive_int("epochs", epochs),
        seconds=None if seconds is None else real("seconds", seconds, above=0.0),
        learning_rates=rates,
        tuning_seeds=positive_int("tuning_seeds", tuning_seeds),
        batch_size=positive_int("batch_size", batch_size),
        optimizer=one_of("optimizer", optimizer, ("adam", "adamw", "sgd")),
    )
    if not rates or not plan.metrics:
        raise ValueError("learning_rates and metrics must not be empty")
    entries = {name: scaled(entry, wanted) for name, entry in entries.items()}
    wanted_seeds = range(positive_int("seeds", seeds))
    store = _Store(None if path is None else a_path("path", path), plan, entries)
    workers = integer("processes", processes, at_least=1, at_most=2, accepted="1 or 2")
    store.make(list(_tunings(entries, plan)), workers)
    chosen = {name: store.best_rate(name) for name in entries}
    jobs = [
        Job(name, entry, chosen[name], seed, False)
        for seed in wanted_seeds
        for name, entry in entries.items()
    ]
    store.make(jobs, workers)
    keys = {job.key for job in jobs}
    rows = [row for row in store.rows if _key(row) in keys]
    return ModelComparison(plan, store.models, rows, store.head)


def _tunings(entries: Mapping[str, Contender], plan: Plan) -> Iterator[Job]:
    """Every rate for every model; one rate needs no choice."""
    if len(plan.learning_rates) == 1:
        return
    for seed in range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + plan.tuning_seeds):
        for lr in plan.learning_rates:
            for name, entry in entries.items():
                yield Job(name, entry, lr, seed, True)


def _key(row: Row) -> tuple[str, float, int, bool]:
    return row["model"], row["learning_rate"], row["seed"], row["tuning"]


class _Store:
    """The trainings that are there, and the file that keeps them."""

    def __init__(self, path: Path | None, plan: Plan, entries: Mapping[str, Contender]) -> None:
        self.path = path
        self.plan = plan
        self.models = {name: json.loads(json.dumps(asdict(e))) for name, e in entries.items()}
        self.rows: list[Row] = []
        self.head: dict[str, Any] = {"date": datetime.date.today().isoformat()}
        self.head |= {"device": "CPU, 1 thread", "versions": public_versions()}
        if path is not None and path.exists():
            self._take(json.loads(path.read_text(encoding="utf-8")))

    def _take(self, stored: dict[str, Any]) -> None:
        """The rows of a file. Raises ValueError where they were made otherwise."""
        plan = json.loads(json.dumps(asdict(self.plan)))
        other = [key for key in plan if stored["plan"].get(key) != plan[key]]
        shared = stored["models"].keys() & self.models.keys()
        other += [f"models[{n!r}]" for n in sorted(shared) if stored["models"][n] != self.models[n]]
        if other:
            raise ValueError(
                f"path holds a comparison with another {', '.join(other)}: give another path, or "
                "remove the file"
            )
        self.models = stored["models"] | self.models
        self.rows = stored["rows"]

    def make(self, jobs: Sequence[Job], workers: int) -> None:
        """Do the jobs that are missing, and keep each as soon as it is done."""
        there = {_key(row) for row in self.rows}
        missing = [job for job in jobs if job.key not in there]
        for row in _done(missing, self.plan, workers):
            self.rows.append(row)
            if self.path is not None:
                seeds = sorted({one["seed"] for one in self.rows if not one["tuning"]})
                facts = {"seeds": seeds, "estimator": "each model's own"}
                content = self.head | facts | {"plan": asdict(self.plan), "models": self.models}
                text = json.dumps(content | {"rows": self.rows}, indent=1, allow_nan=False)
                replace_text(self.path, text + "\n")

    def best_rate(self, name: str) -> float:
        """By mean validation accuracy, then by mean loss."""
        scores: dict[float, tuple[float, float]] = {}
        for lr in self.plan.learning_rates:
            rows = [r for r in self.rows if r["tuning"] and _key(r)[:2] == (name, lr)]
            if rows:
                means = [sum(r["validation"][m] for r in rows) for m in ("accuracy", "loss")]
                scores[lr] = (-round(means[0], 9), means[1])
        return min(scores, key=scores.__getitem__) if scores else self.plan.learning_rates[0]


def _done(jobs: Sequence[Job], plan: Plan, workers: int) -> Iterator[Row]:
    if workers == 1 or len(jobs) < 2:
        yield from (train(job, plan) for job in jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as pool:
        yield from pool.map(train, jobs, [plan] * len(jobs))


def _one_thread() -> None:
    torch.set_num_threads(1)


def train(job: Job, plan: Plan) -> Row:
    """One training and its scores: on validation samples for tuning, else on the test set."""
    data = build_dataset(plan.dataset)
    model = job.entry.build(job.seed)
    trainer = EqPropTrainer(model, job.entry.source(model), plan.optimizer, job.lr, progress=False)
    torch.manual_seed(job.seed)
    batches = data.train.batches(plan.batch_size, shuffle=True, seed=job.seed)
    row: Row = {"model": job.name, "learning_rate": job.lr, "seed": job.seed, "tuning": job.tuning}
    row["parameters"] = size(model)
    used = 0.0
    if job.tuning:
        trainer.fit(batches, plan.epochs)
        return row | {"validation": _scores(trainer, data.validation)}
    row |= {"epochs": None, "seconds": None, "trained": {}}
    for epoch in range(1, LONGEST * plan.epochs + 1):
        start = time.process_time()
        trainer.fit(batches, 1)
        used += time.process_time() - start
        due = {"epochs": epoch == plan.epochs}
        if plan.seconds is not None:
            # another epoch as long as the mean of those so far would not fit
            due["seconds"] = used * (1 + 1 / epoch) > plan.seconds
        for budget in [budget for budget, now in due.items() if now and row[budget] is None]:
            row[budget] = _measured(trainer, data, plan, used)
            row["trained"][budget] = epoch
        if all(row[budget] is not None for budget in due):
            break
    return row


def _scores(trainer: EqPropTrainer, split: Any) -> dict[str, float]:
    found = trainer.evaluate(split.batches(1000))
    return {metric: _short(found[metric]) for metric in ("accuracy", "loss")}


def _measured(trainer: EqPropTrainer, data: DataSet, plan: Plan, used: float) -> Row:
    """The metrics of the plan, now."""
    found: Row = _scores(trainer, data.test) | {"cpu_seconds": _short(used)}
    x, y = data.train.x[:PROBE], data.train.y[:PROBE]
    if "alignment" in plan.metrics:
        found["alignment"] = _short(mean_cosine(trainer.model, x, y))
    if "memory_mb" in plan.metrics:
        found["memory_mb"] = _short(_memory(trainer.model, trainer.gradient, plan, x))
    return {metric: found[metric] for metric in plan.metrics}


def _memory(model: nn.Module, gradient: str, plan: Plan, x: Tensor) -> float:
    one = tuple(x.shape[1:])
    found = estimate_memory_usage(model, one, plan.batch_size, gradient, plan.optimizer)
    return found["total_mb"]


def _short(value: float) -> float:
    return float(f"{value:.5g}")

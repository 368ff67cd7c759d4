"""Sweeps: many trainings over a space of settings, from several shells at once, killed or not.

    sweep(train, {"lr": {"low": 1e-4, "high": 0.1, "log": True}, "hidden_dim": [32, 64]}, trials=30)

Trials lie in an SQLite file: every process that calls `sweep` for the same study takes the next.
A process that works on a trial says every `heartbeat` seconds that it is alive; one that was silent
for `grace` seconds is taken for dead, and another one makes its trial again. The file must not lie
on a network drive. With trials=None every combination of lists is one trial.

    with LocalCluster(threads_per_worker=1) as cluster, Client(cluster) as client:
        sweep(train, space, executor=client)

has the workers of a Dask cluster make the trials, on other machines too: only the client opens the
file. `train` travels to the workers, so let it load its data there.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop_lab.experiments.scale_out import a_client, packed, spread
from eqprop_lab.experiments.study_figures import running_best, sweep_figure
from eqprop_lab.experiments.trials import Draws, Params, Queue, Report, open_storage, open_study
from eqprop_lab.files import replace_text
from eqprop_lab.tables import csv_text, text_table
from eqprop_lab.validation import (
    a_path,
    a_seed,
    integer,
    known_keys,
    one_of,
    positive_int,
    real,
    switch,
)

if TYPE_CHECKING:
    from distributed import Client
    from matplotlib.figure import Figure

RANGE = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Sweep:
    """study: its name; rows: one a trial, {"number", "state", "value", "params", "seconds"}."""

    study: str
    direction: str
    rows: tuple[dict[str, Any], ...]

    @property
    def complete(self) -> list[dict[str, Any]]:
        """The trials that ran to their end, the best first."""
        done = [row for row in self.rows if row["state"] == "COMPLETE"]
        return sorted(done, key=lambda row: row["value"], reverse=self.direction == "maximize")

    @property
    def best(self) -> dict[str, Any]:
        """The best trial. Raises ValueError where none is complete."""
        if not self.complete:
            raise ValueError(f"study {self.study!r} has no complete trial among {len(self.rows)}")
        return self.complete[0]

    @property
    def _names(self) -> list[str]:
        """Of the settings, as they came up."""
        return list(dict.fromkeys(name for row in self.rows for name in row["params"]))

    def table(self, most: int = 10) -> str:
        """The best trials, and how many there are of each state."""
        names = self._names
        head = ("trial", "value", *names)
        body = [
            (str(r["number"]), f"{r['value']:.5g}", *(_short(r["params"].get(n)) for n in names))
            for r in self.complete[:most]
        ]
        states = [row["state"] for row in self.rows]
        told = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        return "\n".join([*text_table([head, *body]), told or "no trials"])

    @property
    def best_so_far(self) -> list[float]:
        """The best value of the complete trials up to each; nan before the first."""
        values = [row["value"] if row["state"] == "COMPLETE" else None for row in self.rows]
        return [float(value) for value in running_best(values, self.direction)]

    def figure(self) -> Figure:
        """Values by trial with the best so far, and against the first settings that vary."""
        vary = [n for n in self._names if len({str(r["params"].get(n)) for r in self.rows}) > 1]
        return sweep_figure(self.rows, self.best_so_far, vary)

    def describe(self) -> str:
        """What the figure shows, in words."""
        best = self.best
        found = self.best_so_far
        steps = len({value for value in found if not math.isnan(value)})
        return (
            f"{len(self.rows)} trials as points, {len(self.complete)} of them complete. The line "
            f"of the best so far has {steps} steps and ends at {best['value']:.4g}, first reached "
            f"by trial {best['number']}. Beside it the same values against each setting."
        )

    def to_csv(self, path: str | Path) -> Path:
        """A row a trial, tidy, whole or not at all."""
        facts, names = ("number", "state", "value", "seconds"), self._names
        rows = [
            (self.study, *(r[key] for key in facts), *(r["params"].get(n) for n in names))
            for r in self.rows
        ]
        head = ("study", *facts, *names)
        return replace_text(a_path("path", path), csv_text([head, *rows]))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sweep(
    train: Callable[[Params, Report], float],
    space: Mapping[str, Any],
    trials: int | None = 50,
    *,
    study: str = "sweep",
    storage: str | Path = "runs/sweeps.db",
    direction: str = "maximize",
    retries: int = 2,
    seed: int = 0,
    heartbeat: int = 10,
    grace: int = 60,
    about: Mapping[str, Any] | None = None,
    executor: Client | None = None,
) -> Sweep:
    """Work on a study until its trials are done, together with all who call this for it.

    Args:
        train: (params, report) -> the value of a trial; `report(step, value)` ends one that is
            worse than the median of the others at that step (its exception must pass through).
        space: {name: list of values, or {"low", "high", "log", "step"}}; integers where both ends
            are. trials: how many, None: every combination of the lists.
        study, storage: name and SQLite file, made where they are not there. direction: "maximize"
            or "minimize". retries: of a trial whose process died. seed: of the sampler.
        heartbeat, grace: seconds, whole; a grace too short takes the slow for dead.
        about: plain values that the study has to have been made with.
        executor: a Dask client whose workers make the trials (one thread each: a training may draw
            from torch's own generator), with `retries` also of a trial that raised.
    Raises: TypeError, ValueError naming the argument, also for a study made otherwise; OSError for
    a file that cannot be written; what `train` raises, but for BatchError: that trial has failed.
    """
    if not callable(train):
        raise TypeError(f"train must be a function of (params, report), got {train!r}")
    checked = check_space(space, grid=trials is None)
    wanted = None if trials is None else positive_int("trials", trials)
    again, number = integer("retries", retries, at_least=0), a_seed("seed", seed)
    one_of("direction", direction, ("maximize", "minimize"))
    if not isinstance(study, str) or not study:
        raise ValueError(f"study must be a non-empty text, got {study!r}")
    beat, still = positive_int("heartbeat", heartbeat), positive_int("grace", grace)
    if still <= beat:
        raise ValueError(f"grace must be above heartbeat ({beat}), got {still}")
    plan = {"space": checked, "trials": wanted, "direction": direction, "about": dict(about or {})}
    client = None if executor is None else a_client(executor)
    sent = b"" if client is None else packed(train)
    with open_storage(a_path("storage", storage), beat, still, again) as (store, lock):
        with lock:
            found = open_study(store, study, plan, number)
        queue = Queue(found, lock, checked, wanted, Draws(number))
        if client is not None:
            spread(queue, client, sent, again, beat)
        else:
            queue.work_all(train)
        rows = [_row(t) for t in found.get_trials(deepcopy=False)]
    return Sweep(study, direction, tuple(rows))


def check_space(space: Mapping[str, Any], grid: bool = False) -> dict[str, Any]:
    """The space as plain values. Raises TypeError, ValueError naming the setting."""
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"space must name at least one setting, got {space!r}")
    return {str(name): _axis(f"space[{name!r}]", given, grid) for name, given in space.items()}


def _axis(name: str, given: Any, grid: bool) -> Any:
    if isinstance(given, list | tuple):
        if not given:
            raise ValueError(f"{name} must hold at least one value, got none")
        if not all(v is None or isinstance(v, bool | int | float | str) for v in given):
            raise TypeError(f"{name} must hold numbers, texts, True, False or None, got {given!r}")
        for number, value in enumerate(given):
            if value in given[:number]:  # also True after 1: a study could not tell them apart
                raise ValueError(f"{name} must hold different values, got {value!r} again")
        return list(given)
    if grid:
        raise TypeError(f"{name} must be a list where trials=None, got {given!r}")
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a list or {{low, high, log, step}}, got {given!r}")
    known_keys(name, given, RANGE)
    if "low" not in given or "high" not in given:
        raise ValueError(f"{name} must have low and high, got {sorted(given)}")
    log = switch(f"{name}.log", given.get("log", False))
    low = real(f"{name}.low", given["low"], **({"above": 0.0} if log else {}))
    high = real(f"{name}.high", given["high"], above=low)
    step = given.get("step")
    if log and step is not None:
        raise ValueError(f"{name}.step must be left out with log, got {step!r}")
    ends: dict[str, Any] = {"low": low, "high": high}
    if all(isinstance(given[end], numbers.Integral) for end in ends):
        ends = {end: int(given[end]) for end in ends}
        step = None if step is None else positive_int(f"{name}.step", step)
    elif step is not None:
        step = real(f"{name}.step", step, above=0.0)
    return {**ends, "log": log, "step": step}


def _row(trial: Any) -> dict[str, Any]:
    seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 3)
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "params": dict(trial.params),
        "seconds": seconds,
    }

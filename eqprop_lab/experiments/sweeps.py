"""Sweeps: many trainings over a space of settings, from several shells at once, killed or not.

    sweep(train, {"lr": {"low": 1e-4, "high": 0.1, "log": True}, "hidden_dim": [32, 64]}, trials=30)

Trials lie in an SQLite file: every process that calls `sweep` for the same study takes the next.
A process that works on a trial says every `heartbeat` seconds that it is alive; one that was silent
for `grace` seconds is taken for dead, and another one makes its trial again. The file must not lie
on a network drive. With trials=None every combination of lists is one trial.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from eqprop_lab.files import replace_text
from eqprop_lab.tables import csv_text, text_table
from eqprop_lab.training import BatchError
from eqprop_lab.validation import a_path, a_seed, integer, known_keys, one_of, positive_int, real

if TYPE_CHECKING:
    import optuna

Params = dict[str, Any]
Report = Callable[[int, float], None]
RANGE = ("low", "high", "log", "step")
WAIT = 0.2  # s between looks at trials that others work on


class Pruned(Exception):
    """Raised by the report of a trial that is not worth going on with; `sweep` catches it."""


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
    Raises: TypeError, ValueError naming the argument, also for a study made otherwise; OSError for
    a file that cannot be written; what `train` raises, but for BatchError: that trial has failed.
    """
    if not callable(train):
        raise TypeError(f"train must be a function of (params, report), got {train!r}")
    checked = check_space(space, grid=trials is None)
    wanted = None if trials is None else positive_int("trials", trials)
    again = integer("retries", retries, at_least=0)
    one_of("direction", direction, ("maximize", "minimize"))
    if not isinstance(study, str) or not study:
        raise ValueError(f"study must be a non-empty text, got {study!r}")
    beat, still = positive_int("heartbeat", heartbeat), positive_int("grace", grace)
    if still <= beat:
        raise ValueError(f"grace must be above heartbeat ({beat}), got {still}")
    plan = {"space": checked, "trials": wanted, "direction": direction, "about": dict(about or {})}
    with _storage(a_path("storage", storage), beat, still, again) as (store, lock):
        with lock:
            found = _study(store, study, plan, a_seed("seed", seed))
        while (trial := _next(found, lock, wanted)) is not None:
            _work(found, trial, train, checked)
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
        return list(given)
    if grid:
        raise TypeError(f"{name} must be a list where trials=None, got {given!r}")
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a list or {{low, high, log, step}}, got {given!r}")
    known_keys(name, given, RANGE)
    if "low" not in given or "high" not in given:
        raise ValueError(f"{name} must have low and high, got {sorted(given)}")
    log = bool(given.get("log", False))
    low = real(f"{name}.low", given["low"], **({"above": 0.0} if log else {}))
    high = real(f"{name}.high", given["high"], above=low)
    if log and given.get("step") is not None:
        raise ValueError(f"{name}.step must be left out with log, got {given['step']!r}")
    ends: dict[str, Any] = {"low": low, "high": high}
    if all(isinstance(given[end], int) for end in ends):
        ends = {end: int(given[end]) for end in ends}
    return {**ends, "log": log, "step": given.get("step")}


@contextlib.contextmanager
def _storage(path: Path, beat: int, still: int, retries: int) -> Iterator[tuple[Any, FileLock]]:
    """The SQLite file, and a lock beside it under which trials are handed out."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError("a sweep needs optuna: pip install eqprop_lab[sweep]") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab"):
        pass  # a folder that cannot be written says so here, by its own name
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        # heartbeats are marked experimental, and beat here around our own loop
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used")
        lock = FileLock(f"{path}.lock")
        with lock:
            store = optuna.storages.RDBStorage(
                f"sqlite:///{path}",
                engine_kwargs={"connect_args": {"timeout": 60}},
                heartbeat_interval=beat,
                grace_period=still,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                    retries
                ),
            )
        try:
            yield store, lock
        finally:
            store.remove_session()
            store.engine.dispose()


def _study(store: Any, name: str, plan: Params, seed: int) -> optuna.Study:
    """The study of that name; a new one, its grid in the queue. Raises ValueError for another
    plan.
    """
    import optuna

    study = optuna.create_study(
        storage=store,
        study_name=name,
        direction=plan["direction"],
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    text = json.dumps(plan, sort_keys=True)
    known = study.user_attrs.get("plan")
    if known is None:
        if plan["trials"] is None:
            axes = plan["space"]
            for values in itertools.product(*axes.values()):
                study.enqueue_trial(dict(zip(axes, values, strict=True)))
        study.set_user_attr("plan", text)
    elif known != text:
        made = json.loads(known)
        other = [key for key in plan if json.loads(text)[key] != made.get(key)]
        raise ValueError(
            f"study {name!r} was made with another {', '.join(other)}: give another name, or "
            "another storage"
        )
    return study


def _next(study: optuna.Study, lock: FileLock, total: int | None) -> Any:
    """A trial to work on; None when all are done. Waits while others work on the last ones."""
    import optuna
    from optuna.trial import TrialState as State

    while True:
        with lock:
            optuna.storages.fail_stale_trials(study)
            trials = study.get_trials(deepcopy=False)
            states = [t.state for t in trials]
            waiting = states.count(State.WAITING)
            taken = len(states) - _made_again(trials)
            if waiting or (total is not None and taken < total):
                trial = study.ask()
                # a process that dies before its first beat would leave the trial running for ever
                study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
                return trial
            if State.RUNNING not in states:
                return None
        time.sleep(WAIT)


def _made_again(trials: Sequence[Any]) -> int:
    """Trials of dead processes that stand in the list once more. Others that failed count as made,
    or a sweep could go on for ever.
    """
    return len({n for t in trials for n in t.system_attrs.get("retry_history", [])})


def _work(study: optuna.Study, trial: Any, train: Callable[..., float], space: Params) -> None:
    """One trial, its heart beating."""
    from optuna.storages._heartbeat import get_heartbeat_thread
    from optuna.trial import TrialState as State

    params = {name: _suggest(trial, name, axis) for name, axis in space.items()}

    def report(step: int, value: float) -> None:
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned

    try:
        with get_heartbeat_thread(trial._trial_id, study._storage):
            value = float(train(dict(params), report))
    except Pruned:
        study.tell(trial, state=State.PRUNED, skip_if_finished=True)
    except BatchError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=State.FAIL, skip_if_finished=True)
    except BaseException as error:
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        study.tell(trial, state=State.FAIL, skip_if_finished=True)
        raise
    else:
        state = None if math.isfinite(value) else State.FAIL
        ended = value if state is None else None
        study.tell(trial, ended, state=state, skip_if_finished=True)


def _suggest(trial: Any, name: str, axis: Any) -> Any:
    if isinstance(axis, Sequence):
        return trial.suggest_categorical(name, axis)
    if isinstance(axis["low"], int):
        step = 1 if axis["step"] is None else axis["step"]
        return trial.suggest_int(name, axis["low"], axis["high"], log=axis["log"], step=step)
    return trial.suggest_float(name, axis["low"], axis["high"], log=axis["log"], step=axis["step"])


def _row(trial: Any) -> dict[str, Any]:
    seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 3)
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "params": dict(trial.params),
        "seconds": seconds,
    }

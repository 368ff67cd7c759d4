"""The trials of a study in an SQLite file: handed out under a lock, told when they are done.

Every process that works on the study takes the next trial and says every `beat` seconds that it is
alive. A trial whose process was silent for longer than the study's grace has failed and stands in
the list once more, to the same settings. A trial that is interrupted is given back at once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import numbers
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from eqprop_lab.training import BatchError
from eqprop_lab.validation import integer, shown

if TYPE_CHECKING:
    import optuna

Params = dict[str, Any]
Report = Callable[[int, float], None]
WAIT = 0.2  # s between looks at trials that others work on


class Pruned(Exception):
    """Raised by the report of a trial that is not worth going on with; `attempt` catches it."""


@dataclass(frozen=True)
class Outcome:
    """state: COMPLETE, PRUNED or FAIL; value of a complete trial; error: why it has failed."""

    state: str
    value: float | None = None
    error: str = ""


def attempt(train: Callable[[Params, Report], float], params: Params, report: Report) -> Outcome:
    """A trial. What `train` raises comes through, but for Pruned and BatchError; TypeError and
    ValueError for what it gives or reports and is no number.
    """

    def told(step: int, value: float) -> None:
        report(integer("step", step, at_least=0), _number("value", value))

    try:
        value = _number("train(params, report)", train(dict(params), told))
    except Pruned:
        return Outcome("PRUNED")
    except BatchError as error:
        return Outcome("FAIL", error=str(error))
    if not math.isfinite(value):
        return Outcome("FAIL", error=f"the value is {value}")
    return Outcome("COMPLETE", value)


def _number(name: str, value: Any) -> float:
    """A number as a float, also one in a tensor; nan too. float() takes texts and True for one."""
    if callable(getattr(value, "item", None)) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    return float(value)


@dataclass
class Draws:
    """Who samples trial n: TPE, seeded by `seed`, and anew by (seed, n) where somebody else, or a
    process before this one, has made trial n - 1: one stream of draws twice is every trial twice.
    """

    seed: int = 0
    next: int = 0

    def sampler(self, number: int) -> Any:
        """For trial `number`; None where the one at hand goes on."""
        here, self.next = self.next, number + 1
        if number == here:
            return None
        return _sampler(int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]))


def _sampler(seed: int) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


@dataclass(frozen=True)
class Task:
    """A trial of Optuna that was handed out, and its settings."""

    trial: Any
    params: Params


@dataclass(frozen=True)
class Queue:
    """study: Optuna's; lock: the file's; space: checked; total: trials, None for a grid; draws:
    seeded as the sampler of the study.
    """

    study: optuna.Study
    lock: FileLock
    space: Params
    total: int | None
    draws: Draws = field(default_factory=Draws)

    def take(self) -> Task | None:
        """A trial to work on; None where there is none to give now."""
        import optuna
        from optuna.trial import TrialState as State

        with self.lock:
            optuna.storages.fail_stale_trials(self.study)
            trials = self.study.get_trials(deepcopy=False)
            taken = len(trials) - _made_again(trials)
            waiting = any(t.state == State.WAITING for t in trials)
            if not waiting and (self.total is None or taken >= self.total):
                return None
            if not waiting and (sampler := self.draws.sampler(len(trials))) is not None:
                self.study.sampler = sampler
            trial = self.study.ask()
            # a process that dies before its first beat would leave the trial running for ever
            self.beat(trial)
        return Task(trial, {name: _suggest(trial, name, axis) for name, axis in self.space.items()})

    def over(self) -> bool:
        """Whether nothing waits and nobody works any more."""
        with self.lock:
            states = [t.state.name for t in self.study.get_trials(deepcopy=False)]
        return not {"RUNNING", "WAITING"}.intersection(states)

    def next(self) -> Task | None:
        """A trial to work on; None when all are done. Waits while others work on the last ones."""
        while (task := self.take()) is None:
            if self.over():
                return None
            time.sleep(WAIT)
        return task

    def beat(self, trial: Any) -> None:
        """Say that somebody is at work on it."""
        self.study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]

    def tell(self, task: Task, outcome: Outcome) -> None:
        """The end of a trial."""
        from optuna.trial import TrialState as State

        if outcome.error:
            task.trial.set_user_attr("error", outcome.error)
        state = State[outcome.state]
        self.study.tell(task.trial, outcome.value, state=state, skip_if_finished=True)

    def end(self, task: Task, error: BaseException) -> None:
        """The end of a trial by an error; one that was only interrupted is given back."""
        with self.lock:
            self.tell(task, Outcome("FAIL", error=f"{type(error).__name__}: {error}"))
            if not isinstance(error, Exception):
                self._again(task)

    def give_back(self, task: Task) -> None:
        """A trial that was taken and is not worked on: it is to be made again."""
        with self.lock:
            self.tell(task, Outcome("FAIL", error="not finished: the sweep was ended"))
            self._again(task)

    def died(self, task: Task, error: str) -> None:
        """A trial whose processes died: made again, unless it has had its retries."""
        with self.lock:
            self.tell(task, Outcome("FAIL", error=error))
            storage: Any = self.study._storage
            storage.get_heartbeat_stale_trial_callback()(self.study, self._frozen(task))

    def _again(self, task: Task) -> None:
        import optuna

        optuna.storages.RetryHeartbeatStaleTrialCallback()(self.study, self._frozen(task))

    def _frozen(self, task: Task) -> Any:
        return next(t for t in self.study.get_trials() if t.number == task.trial.number)

    def work_all(self, train: Callable[[Params, Report], float]) -> None:
        """The trials in this process, until all are done."""
        while (task := self.next()) is not None:
            self.work(task, train)

    def work(self, task: Task, train: Callable[[Params, Report], float]) -> None:
        """One trial in this process, its heart beating."""
        from optuna.storages._heartbeat import get_heartbeat_thread

        def report(step: int, value: float) -> None:
            task.trial.report(value, step)
            if task.trial.should_prune():
                raise Pruned

        try:
            with get_heartbeat_thread(task.trial._trial_id, self.study._storage):
                outcome = attempt(train, task.params, report)
        except BaseException as error:
            self.end(task, error)
            raise
        self.tell(task, outcome)


def _made_again(trials: Sequence[Any]) -> int:
    """Trials of dead processes that stand in the list once more. Others that failed count as made,
    or a sweep could go on for ever.
    """
    return len({n for t in trials for n in t.system_attrs.get("retry_history", [])})


@contextlib.contextmanager
def open_storage(path: Path, beat: int, still: int, retries: int) -> Iterator[tuple[Any, FileLock]]:
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
                # Not the path: in an address ?, % and { mean something, and another file is opened.
                "sqlite:///a_file",
                engine_kwargs={
                    "creator": partial(sqlite3.connect, path, 60, check_same_thread=False)
                },
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


def open_study(store: Any, name: str, plan: Params, seed: int) -> optuna.Study:
    """The study of that name; a new one, its grid in the queue. Raises ValueError for another
    plan.
    """
    import optuna

    study = optuna.create_study(
        storage=store,
        study_name=name,
        direction=plan["direction"],
        sampler=_sampler(seed),
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    text = json.dumps(plan, sort_keys=True)
    known = study.user_attrs.get("plan")
    if known is None:
        if plan["trials"] is None:
            axes = plan["space"]
            begun = bool(study.get_trials(deepcopy=False))  # by a process that died meanwhile
            for values in itertools.product(*axes.values()):
                point = dict(zip(axes, values, strict=True))
                study.enqueue_trial(point, skip_if_exists=begun)
        study.set_user_attr("plan", text)
    elif known != text:
        made = json.loads(known)
        other = [key for key in plan if json.loads(text)[key] != made.get(key)]
        if not other:  # 1 and 1.0
            return study
        raise ValueError(
            f"study {name!r} was made with another {', '.join(other)}: give another name, or "
            "another storage"
        )
    return study


def _suggest(trial: Any, name: str, axis: Any) -> Any:
    if isinstance(axis, Sequence):
        return trial.suggest_categorical(name, axis)
    if isinstance(axis["low"], int):
        step = 1 if axis["step"] is None else axis["step"]
        return trial.suggest_int(name, axis["low"], axis["high"], log=axis["log"], step=step)
    return trial.suggest_float(name, axis["low"], axis["high"], log=axis["log"], step=axis["step"])

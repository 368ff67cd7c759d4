"""Trials on the workers of a Dask cluster: the client asks and tells, the workers only train.

    client -> worker   train, settings, and the medians of the complete trials by step
    worker -> client   value or state, and what was reported

Nobody but the client opens the file of the study. What a worker gets is all it needs, so that a
trial whose worker dies is made again by the scheduler, and comes out the same. A trial is pruned
by its worker as Optuna's median pruner does it, with the medians of when it was handed out.

A LocalCluster gives a worker up that is not back 15 s after its death, which an import of torch on
a busy machine may take: dask.config.set({"distributed.deploy.lost-worker-timeout": "120s"}).
"""

from __future__ import annotations

import contextlib
import math
import pickle
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from eqprop_lab.experiments.trials import (
    WAIT,
    Outcome,
    Params,
    Pruned,
    Queue,
    Report,
    Task,
    attempt,
)
from eqprop_lab.validation import shown

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 3  # looks, a heartbeat apart, before it is said that there is no worker
STARTUP = 5  # complete trials before any is pruned, as in Optuna
Reports = dict[int, float]


def a_client(executor: Any) -> Client:
    """`executor`, if trials can be sent to it. Raises ImportError, TypeError, ValueError."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("executor needs dask: pip install 'eqprop_lab[scale]'") from error
    if not isinstance(executor, Client):
        raise TypeError(f"executor must be a distributed.Client, got {shown(executor)}")
    if executor.asynchronous:
        raise ValueError("executor must be a Client without asynchronous=True: a sweep waits")
    if executor.status != "running":
        raise ValueError(f"executor must be connected, got a Client that is {executor.status}")
    return executor


def packed(train: Callable[[Params, Report], float]) -> bytes:
    """`train` as it is sent to the workers. Raises TypeError where it cannot be."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(train))
    except Exception as error:  # whatever an object raises that cannot be pickled
        raise TypeError(
            "train must be a function that can be sent to a worker, without open files, locks or "
            f"connections inside: {type(error).__name__}: {error}"
        ) from error


def spread(queue: Queue, client: Client, train: bytes, retries: int, beat: int) -> None:
    """Have the workers make the trials of a study until none is left. What a trial raises ends it;
    those that are under way are given back.
    """
    running: dict[Future, Task] = {}
    told, alone = time.monotonic(), 0
    try:
        while True:
            while len(running) < _places(client) and (task := queue.take()) is not None:
                sent = (train, task.params, medians(queue.study), queue.study.direction.name)
                running[client.submit(make, *sent, retries=retries, pure=False)] = task
            if not running and queue.over():
                return
            for future in _ended(running, beat):
                _tell(queue, running.pop(future), future)
            if time.monotonic() - told >= beat:
                told = time.monotonic()
                alone = _look_for_workers(client, alone)
                for task in running.values():
                    queue.beat(task.trial)
    except BaseException:
        for task in running.values():
            queue.give_back(task)
        client.cancel(list(running))
        raise


def _places(client: Client) -> int:
    """Trials that can be made at once. Without a worker one waits for the first that comes."""
    return max(1, sum(client.nthreads().values()))


def _look_for_workers(client: Client, alone: int) -> int:
    """How many looks in a row have found no worker; a warning at the third."""
    alone = 0 if client.nthreads() else alone + 1
    if alone == PATIENCE:
        warnings.warn("executor has no worker: trials wait until one comes", stacklevel=4)
    return alone


def _ended(running: dict[Future, Task], beat: int) -> list[Future]:
    """Those that are done, after a wait of `beat` seconds at the most."""
    import distributed

    if not running:  # others work on the last trials
        time.sleep(WAIT)
        return []
    try:
        found = distributed.wait(list(running), timeout=beat, return_when="FIRST_COMPLETED")
    except distributed.TimeoutError:
        return []
    return list(found.done)


def _tell(queue: Queue, task: Task, future: Future) -> None:
    """The end of a trial, as its worker says, or as the scheduler says of it."""
    import distributed
    import optuna

    try:
        outcome, reports = future.result()
    except distributed.KilledWorker as error:
        # it may only have waited on workers that others killed
        queue.died(task, f"KilledWorker: {error}")
        return
    except Exception as error:
        queue.end(task, error)
        raise
    # a trial that was taken for dead stands in the list once more: its end is that of the other
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        for step, value in reports.items():
            task.trial.report(value, step)
        queue.tell(task, outcome)


def make(
    train: bytes, params: Params, bars: Reports, direction: str
) -> tuple[Outcome, dict[int, float]]:
    """What a worker does: a trial, and what it reported."""
    reports: Reports = {}

    def report(step: int, value: float) -> None:
        reports.setdefault(step, value)
        if _worse(list(reports.values()), bars.get(step, math.nan), direction):
            raise Pruned

    return attempt(pickle.loads(train), params, report), reports


def _worse(values: list[float], bar: float, direction: str) -> bool:
    """Whether the best of the values lies on the wrong side of the bar (nan: there is none)."""
    real = [v for v in values if not math.isnan(v)]
    if math.isnan(bar):
        return False
    if not real:
        return True
    return max(real) < bar if direction == "MAXIMIZE" else min(real) > bar


def medians(study: Any) -> Reports:
    """{step: median over the complete trials of what they reported there}; {} for few trials."""
    done = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if len(done) < STARTUP:
        return {}
    steps = sorted({step for t in done for step in t.intermediate_values})
    reported = {s: [t.intermediate_values.get(s, math.nan) for t in done] for s in steps}
    return {
        step: float(np.nanmedian(values))
        for step, values in reported.items()
        if not np.isnan(values).all()
    }

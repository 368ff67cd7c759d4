"""The job of the noisy digits at toy size, and what is stored of it keeps what notebook 22 says."""

from __future__ import annotations

import json
import statistics
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.notebook.metrics import stored
from tests.benchmarks import noise_digits as job


def accuracies(**wanted: Any) -> list[float]:
    runs = stored(job.NAME)["runs"]
    return [run["test_accuracy"] for run in runs if wanted.items() <= run.items()]


def test_a_training_is_stored_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(job, "train", lambda one: job.asdict(one) | {"test_accuracy": 0.5})
    path = tmp_path / "noise.json"
    job.work(path, [3], 1, limit=2)
    job.work(path, [3], 1, limit=1)
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    first = [job.asdict(one) for one in job.jobs([3])[:3]]
    assert [{key: run[key] for key in first[0]} for run in runs] == first


class Here:
    """A pool that works at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Any, *given: Any) -> Any:
        done: Future[Any] = Future()
        done.set_result(work(*given))
        return done


def test_one_epoch_of_one_training_says_what_it_was() -> None:
    row = job.train(job.Job(0.01, "centered", 0.3, 0, 8), epochs=1)
    assert row["bits"] == 8 and row["test_accuracy"] > 0.5 and row["cpu_seconds"] > 0


def test_every_job_is_stored_once() -> None:
    result = stored(job.NAME)
    keys = job.asdict(job.jobs([0])[0]).keys()
    found = [tuple(run[key] for key in keys) for run in result["runs"]]
    assert sorted(map(repr, found)) == sorted(
        repr(tuple(job.asdict(one).values())) for one in job.jobs(range(5))
    )
    assert result["recipe"] == job.RECIPE


@pytest.mark.parametrize("estimator", job.ESTIMATORS)
def test_small_beta_collapses_and_a_strong_nudge_does_not(estimator: str) -> None:
    weak, strong = (accuracies(noise=0.04, estimator=estimator, beta=b) for b in (0.01, 1.0))
    assert max(weak) < 0.6 and min(strong) > 0.9
    quiet = accuracies(noise=0.0, estimator=estimator, beta=0.01, bits=None)
    assert statistics.mean(quiet) > 0.93

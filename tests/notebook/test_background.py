from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from eqprop_lab.notebook import AlreadyRunning, TrainingWorker
from tests.waiting import PATIENCE


@pytest.fixture
def uncaught(monkeypatch: pytest.MonkeyPatch) -> list[threading.ExceptHookArgs]:
    """Exceptions that reach the hook of threads."""
    caught: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", caught.append)
    return caught


def _endless(worker: TrainingWorker) -> None:
    """Ends at Stop only."""
    pause = threading.Event()
    while True:
        worker.checkpoint()
        pause.wait(0.005)


def test_a_function_runs_in_a_thread_and_its_result_is_kept() -> None:
    threads = []

    def task(worker: TrainingWorker) -> str:
        threads.append(threading.current_thread())
        worker.progress = 0.5
        worker.report({"epoch": 1})
        return "done"

    worker = TrainingWorker(task)
    assert worker.status == "idle" and not worker.running
    worker.start()
    assert worker.wait(PATIENCE)
    assert (worker.status, worker.result, worker.progress) == ("finished", "done", 0.5)
    assert worker.history == [{"epoch": 1}]
    assert threads[0] is not threading.main_thread() and threads[0].daemon


def test_a_generator_reports_what_it_yields_and_stops_between_two_yields() -> None:
    def task(worker: TrainingWorker) -> Iterator[dict[str, Any]]:
        for epoch in range(3):
            yield {"epoch": epoch}
        worker.stop()
        yield {"epoch": 3}
        yield {"epoch": 4}

    worker = TrainingWorker(task)
    worker.start()
    assert worker.wait(PATIENCE)
    assert worker.status == "stopped" and [record["epoch"] for record in worker.history] == [
        0,
        1,
        2,
        3,
    ]


def test_stop_ends_the_task_and_start_begins_anew() -> None:
    worker = TrainingWorker(_endless)
    worker.start()
    assert worker.status == "running" and not worker.wait(0.02)
    worker.stop()
    assert worker.wait(PATIENCE) and (worker.status, worker.stop_requested) == ("stopped", True)
    worker.start()
    assert (worker.running, worker.stop_requested) == (True, False)
    worker.reset(PATIENCE)
    assert (worker.status, worker.running) == ("idle", False)


def test_a_second_start_is_refused_and_the_first_run_goes_on() -> None:
    worker = TrainingWorker(_endless)
    worker.start()
    with pytest.raises(AlreadyRunning, match="Already running: press Stop first"):
        worker.start()
    assert worker.message.startswith("Already running") and worker.running and worker.errors == []
    worker.reset(PATIENCE)
    assert issubclass(AlreadyRunning, RuntimeError) and worker.message == ""


def test_an_error_is_kept_shown_and_raised(uncaught: list[threading.ExceptHookArgs]) -> None:
    def task(worker: TrainingWorker) -> None:
        worker.report({"epoch": 1})
        raise ArithmeticError("the cost is not finite")

    worker = TrainingWorker(task)
    worker.start()
    with pytest.raises(ArithmeticError, match="not finite"):
        worker.wait(PATIENCE)
    assert worker.status == "failed" and worker.message == "ArithmeticError: the cost is not finite"
    assert [type(error) for error in worker.errors] == [ArithmeticError] and len(
        worker.history
    ) == 1
    assert uncaught[0].exc_type is ArithmeticError
    worker.reset()
    assert (worker.status, worker.errors, worker.history, worker.message) == ("idle", [], [], "")


def test_a_task_without_checkpoints_is_named_by_reset() -> None:
    release = threading.Event()
    worker = TrainingWorker(lambda _: release.wait(PATIENCE))
    worker.start()
    with pytest.raises(
        RuntimeError, match="did not end within 0.02 s of Stop; it lacks a checkpoint"
    ):
        worker.reset(timeout=0.02)
    assert worker.status == "stopping"
    release.set()
    worker.reset(PATIENCE)
    assert worker.status == "idle"


def test_stop_and_wait_without_a_run_do_nothing() -> None:
    worker = TrainingWorker(_endless)
    worker.stop()
    assert worker.wait(0) and worker.status == "idle" and not worker.stop_requested


def test_traits_are_seen_by_observers() -> None:
    seen: list[tuple[str, Any]] = []

    def task(worker: TrainingWorker) -> None:
        worker.message = "half way"
        worker.image = b"png"

    worker = TrainingWorker(task)
    worker.observe(
        lambda change: seen.append((change["name"], change["new"])),
        names=["status", "message", "image"],
    )
    worker.start()
    assert worker.wait(PATIENCE)
    assert seen == [
        ("status", "running"),
        ("message", "half way"),
        ("image", b"png"),
        ("status", "finished"),
    ]


def test_a_task_is_a_function() -> None:
    with pytest.raises(TypeError, match="task is a int"):
        TrainingWorker(3)  # type: ignore[arg-type]

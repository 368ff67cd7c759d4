from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from eqprop_lab.regression import execute, thread_hook
from eqprop_lab.regression.execute import Job, Running
from tests.regression.tiny import notebook, notebooks_of, project
from tests.waiting import PATIENCE


def test_the_thread_hook_writes_a_line_and_calls_the_hook_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda arguments: seen.append(arguments.exc_type.__name__)
    )
    monkeypatch.setenv("EQPROP_THREAD_ERRORS", str(tmp_path / "threads"))
    thread_hook.install()
    thread = threading.Thread(target=lambda: [][1], name="learner")
    thread.start()
    thread.join()
    assert seen == ["IndexError"]
    assert json.loads((tmp_path / "threads").read_text()) == {
        "thread": "learner",
        "error": "IndexError: list index out of range",
    }


@pytest.fixture
def worker(tmp_path: Path) -> Running:
    """A worker that has just been started on a notebook."""
    root = project(tmp_path / "p", n00_a=notebook("x = 1"))
    (tmp_path / "logs").mkdir()
    return Running(
        Job("00_a", notebooks_of(root)[0], tmp_path / "out.ipynb", {}, 5.0), tmp_path / "logs"
    )


@pytest.mark.kernel
def test_a_worker_far_beyond_its_limit_is_stopped(
    worker: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "START_ALLOWANCE", -5.0)
    execution = worker.poll()
    assert execution is not None
    assert execution.error == "time limit of 5 s reached, worker stopped"
    assert worker.process.poll() is not None


@pytest.mark.kernel
def test_a_worker_that_dies_without_a_result_is_reported(worker: Running) -> None:
    worker.process.kill()
    worker.process.wait(PATIENCE)
    execution = worker.poll()
    assert execution is not None
    assert execution.error is not None
    assert execution.error.startswith("worker ended with code -9")
    assert worker.cells_done() == 0

"""Notebooks in worker processes, a few at a time: start, watch, stop.

Papermill does the executing (one_notebook.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POLL_SECONDS = 0.05
START_ALLOWANCE = 75.0
OUTPUT_LIMIT = 50 * 10**6
LOG_END = 10_000
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One notebook to execute: `key` names its files, all its cells share `limit` seconds.

    name: what the notebook is called in the index of figures (default: its stem).
    """

    key: str
    notebook: Path
    output: Path
    parameters: Mapping[str, Any]
    limit: float
    figures: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass
class Execution:
    """What became of a job: `error` is None when every cell ran; threads raise apart from it."""

    job: Job
    error: str | None
    seconds: float
    thread_errors: list[str] = field(default_factory=list)


class Running:
    """A worker process at work on one job; its files lie in `scratch`."""

    def __init__(self, job: Job, scratch: Path) -> None:
        """Start the worker. Raises OSError when its files cannot be written."""
        self.job = job
        self.started = time.monotonic()
        # Not with_suffix, which would take the .v1 of exp.v1 for a suffix and give exp.v2 the same
        # files.
        self.result, self.progress, self.threads, self.log, description = (
            scratch / f"{job.key}.{kind}"
            for kind in ("result.json", "progress", "threads", "log", "job.json")
        )
        for path in (self.result, self.progress, self.threads, job.output):
            path.unlink(missing_ok=True)
        env = dict.fromkeys(THREADS, "1") | {
            "EQPROP_RUN": "1",
            "EQPROP_NOTEBOOK": job.name or job.notebook.stem,
            "EQPROP_THREAD_ERRORS": str(self.threads.resolve()),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        if job.figures is not None:
            env["EQPROP_FIGURES_DIR"] = str(job.figures.resolve())
        content = {
            "input": str(job.notebook.resolve()),
            "output": str(job.output.resolve()),
            "parameters": dict(job.parameters),
            "env": env | dict(job.env),
            "cwd": str(job.notebook.resolve().parent),
            "limit": job.limit,
            "output_limit": OUTPUT_LIMIT,
            "hook": str(HERE / "thread_hook.py"),
            "progress": str(self.progress.resolve()),
            "result": str(self.result.resolve()),
        }
        description.write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, "-P", str(HERE / "one_notebook.py"), str(description.resolve())]
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the runner only, which then stops its workers in
            # order. The pipe ends when the runner does, however it does: the worker then stops by
            # itself.
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def cells_done(self) -> int:
        """Number of cells executed so far (the worker rewrites this file atomically)."""
        return int(self.progress.read_text()) if self.progress.exists() else 0

    def poll(self) -> Execution | None:
        """The Execution of a worker that has ended, if need be far beyond its limit; else None."""
        seconds = time.monotonic() - self.started
        if self.process.poll() is None:
            if seconds < self.job.limit + START_ALLOWANCE:
                return None
            self.stop()
            error = f"time limit of {self.job.limit:g} s reached, worker stopped"
            return Execution(self.job, error, seconds)
        self.process.communicate()
        if not self.result.exists():
            tail = self._log_end().strip().splitlines()[-1:]
            error = ": ".join([f"worker ended with code {self.process.returncode}", *tail])
            return Execution(self.job, error, seconds)
        content = json.loads(self.result.read_text(encoding="utf-8"))
        return Execution(self.job, content["error"], content["seconds"], self.thread_errors())

    def _log_end(self) -> str:
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_END))
            return file.read().decode("utf-8", "replace")

    def thread_errors(self) -> list[str]:
        """Uncaught exceptions of the kernel's threads, one line each."""
        if not self.threads.exists():
            return []
        records = map(json.loads, self.threads.read_text(encoding="utf-8").splitlines())
        return [f"exception in thread {record['thread']}: {record['error']}" for record in records]

    def stop(self) -> None:
        """End the worker, which takes its kernel with it; one that does not listen dies in 10 s."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.communicate()


def execute_all(
    jobs: Sequence[Job],
    scratch: Path,
    at_once: int,
    done: Callable[[Execution], None],
    progress: Callable[[int], None] = lambda cells: None,
) -> None:
    """Run the jobs, `at_once` kernels at a time.

    `done` is called as each ends, `progress` with the number of all cells run so far.
    KeyboardInterrupt stops the workers and is raised again: what `done` has been told stays.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    waiting = list(jobs)
    finished_cells = 0
    running: list[Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                try:
                    running.append(Running(job, scratch))
                except OSError as error:
                    done(Execution(job, f"cannot start: {error.strerror or error}", 0.0))
            for worker in list(running):
                if execution := worker.poll():
                    running.remove(worker)
                    finished_cells += worker.cells_done()
                    done(execution)
            progress(finished_cells + sum(worker.cells_done() for worker in running))
            time.sleep(POLL_SECONDS)
    finally:
        # Whatever happens (Ctrl-C included), no worker is left behind.
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.stop()


def kernel_count(requested: int | None) -> int:
    """How many kernels at once: as asked (ValueError below 1), else two, one on a single core."""
    if requested is not None and requested < 1:
        raise ValueError(f"--jobs must be at least 1, got {requested}")
    return requested if requested is not None else min(2, os.cpu_count() or 1)

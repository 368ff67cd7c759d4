"""Long work beside a notebook: a thread that talks only through traits, never into a wrong cell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from inspect import isgenerator
from typing import Any

from traitlets import Bytes, Enum, Float, HasTraits, List, Unicode

from eqprop_lab.notebook.picture import safe_message
from eqprop_lab.training import StopTraining

STATUSES = ("idle", "running", "paused", "stopping", "stopped", "finished", "failed")
AT_WORK = ("running", "paused", "stopping")


class StopRequested(StopTraining):
    """Raised by `TrainingWorker.checkpoint` after Stop was pressed; ends the task, and in a
    callback of a trainer its fit.
    """


class AlreadyRunning(RuntimeError):
    """A second Start was refused: one run is at work."""


class TrainingWorker(HasTraits):
    """Runs `task(worker)` in a thread; `task` is a function, or a generator function that yields
    records.

    The task calls `worker.checkpoint()` at least a few times a second (a generator does so by
    yielding) and reports through `worker.report(record)`, `worker.progress` and `worker.message`.
    Observers of the traits run in the thread; they may set widgets, and must not print, display or
    use pyplot.
    """

    status = Enum(STATUSES, default_value="idle")
    progress = Float(0.0, help="0 to 1")
    message = Unicode("", help="one line for the reader")
    history: List[Any] = List(help="the records reported so far")
    image = Bytes(b"", help="PNG of the present state")

    def __init__(self, task: Callable[[TrainingWorker], Any]) -> None:
        if not callable(task):
            raise TypeError(f"task is a {type(task).__name__}; a function of the worker is needed")
        super().__init__()
        self.errors: list[Exception] = []
        self.result: Any = None
        self._task = task
        self._stop = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._turn = threading.RLock()
        self._over = False
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stop_requested(self) -> bool:
        """Whether Stop was pressed in this run."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin a new run; AlreadyRunning (text also in `message`) while one is at work."""
        with self._start_lock:
            ended = self.status not in AT_WORK
            if ended and self._thread not in (None, threading.current_thread()):
                # What is left of a run that has ended is its last picture.
                self._thread.join()
            if self.running:
                self.message = "Already running: press Stop first, or wait for the end."
                raise AlreadyRunning(self.message)
            self._clear()
            self.status = "running"
            self._thread = threading.Thread(target=self._run, name="training worker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the task to end at its next checkpoint; nothing happens when none is at work."""
        if self.running:
            self._stop.set()
            self._turn_to("stopping", "running", "paused")
            self._going.set()

    def pause(self) -> None:
        """Ask the task to wait at its next checkpoint; nothing happens unless one is running."""
        if self._turn_to("paused", "running"):
            self._going.clear()

    def go_on(self) -> None:
        """End a pause; nothing happens without one."""
        if self._turn_to("running", "paused"):
            self._going.set()

    def _turn_to(self, status: str, *before: str) -> bool:
        """The new status, unless the run has ended meanwhile or has another one than `before`."""
        with self._turn:
            if self._over or self.status not in before:
                return False
            self.status = status
            return True

    def reset(self, timeout: float = 5.0) -> None:
        """Stop, forget all and be idle; RuntimeError if the task does not end in `timeout` s."""
        self.stop()
        if not self._ends(timeout):
            raise RuntimeError(
                f"the task did not end within {timeout:g} s of Stop; it lacks a checkpoint"
            )
        self._clear()
        self.status = "idle"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False after `timeout` seconds. Raises the error of a failed task."""
        ended = self._ends(timeout)
        if ended and self.status == "failed":
            raise self.errors[-1]
        return ended

    def _ends(self, timeout: float | None) -> bool:
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.running

    def checkpoint(self) -> None:
        """Wait while paused; raise StopRequested if Stop was pressed; called by the task."""
        self._going.wait()
        if self._stop.is_set():
            raise StopRequested("Stop was pressed")

    def report(self, record: Mapping[str, Any]) -> None:
        """Append one record to `history`; called by the task."""
        self.history = [*self.history, dict(record)]

    def _clear(self) -> None:
        self._stop.clear()
        self._going.set()
        self._over = False
        self.errors.clear()
        self.result = None
        self.progress, self.message = 0.0, ""
        self.history, self.image = [], b""

    def _run(self) -> None:
        try:
            result = self._task(self)
            if isgenerator(result):
                item: Any
                for item in result:
                    self.report(item)
                    self.checkpoint()
            else:
                self.result = result
        except StopRequested:
            self._end("stopped")
        except Exception as error:
            self._fail(error)
            # Kept and shown above; raised as well, so that the runner of the regression sees it.
            raise
        except BaseException as error:
            # A thread ends silently at sys.exit, and `wait` must not end the reader's session with
            # it.
            ended = RuntimeError(f"the task ended the run by {type(error).__name__}: {error}")
            self._fail(ended)
            raise ended from error
        else:
            self._end("stopped" if self._stop.is_set() else "finished")

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.message = safe_message(error)
        self._end("failed")

    def _end(self, status: str) -> None:
        with self._turn:
            self._over = True
        self.status = status

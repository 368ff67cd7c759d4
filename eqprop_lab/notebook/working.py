"""`WorkingExplorer`: an explorer with a button for what takes a while, done in a thread."""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ipywidgets as widgets

from eqprop_lab.notebook.background import AT_WORK, AlreadyRunning, TrainingWorker
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.picture import alert_html


class WorkingExplorer(Explorer):
    """The button begins `work` at the values of that moment; Stop ends it at its next checkpoint.

    A subclass gives `begin` and `end`, text and tooltip of a button, and `done`, the word on the
    status line afterwards. It sets what `work` and `compute` need before this __init__.
    """

    begin: tuple[str, str]
    end: str
    done: str

    def __init__(self, **values: Any) -> None:
        self._aim: dict[str, Any] = {}
        self.worker = TrainingWorker(lambda worker: self.work(worker, **self._aim))
        self._line = widgets.HTML()
        super().__init__(**values)
        self.worker.observe(lambda _: self._follow(), names=("status", "message"))

    @abstractmethod
    def work(self, worker: TrainingWorker, **values: Any) -> None:
        """What takes a while, in the thread; it calls `worker.checkpoint()` and `self.redraw()`."""

    def whose(self, **values: Any) -> str:
        """What follows `done`, or "Stopped", on the status line."""
        return "."

    def make_parts(self) -> tuple[Sequence[widgets.Button], Sequence[widgets.Widget]]:
        self._begin = self._button(*self.begin, self._start_by_hand)
        self._end = self._button("Stop", self.end, self.worker.stop)
        self._end.disabled = True
        return (self._begin, self._end), (self._line,)

    def start(self) -> None:
        """Begin at the present values, in a thread; AlreadyRunning while one is at work."""
        with self._lock:
            before, self._aim = self._aim, dict(self.values)
            try:
                self.worker.start()
            except AlreadyRunning:
                self._aim = before
                raise

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False after `timeout` seconds. Raises the error of the work."""
        return self.worker.wait(timeout)

    def close(self) -> None:
        self.worker.stop()
        self.worker.unobserve_all()
        super().close()

    def _start_by_hand(self) -> None:
        with suppress(AlreadyRunning):
            self.start()

    def _follow(self) -> None:
        """Status line, alert and buttons follow the worker."""
        status, busy = self.worker.status, self.worker.status in AT_WORK
        if status == "failed" and self.worker.errors[-1] not in self.errors:
            self.errors.append(self.worker.errors[-1])
            self._alert.value = alert_html(self.worker.message)
        word = {"finished": self.done, "stopped": "Stopped"}.get(status)
        ended = "" if word is None else word + self.whose(**self._aim)
        text = self.worker.message if busy else ended
        self._line.value = f'<span role="status">{html.escape(text)}</span>'
        self._begin.disabled, self._end.disabled = busy, not busy

"""Events come faster than pictures: one redraw at work, one waiting to show the latest values."""

from __future__ import annotations

import threading
from collections.abc import Callable


class LatestOnly:
    """Runs `work()` in a thread of its own; requests made during a run share the next one.

    What `work` raises reaches the hook of threads; a request that waits is served all the same.
    """

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work, self._name = work, name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting = False

    def ask(self) -> None:
        """Have `work` run soon, after the run that is under way; returns at once."""
        with self._lock:
            self._waiting = True
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while self._next():
                self._work()
        except BaseException:
            with self._lock:
                self._thread = None
                if self._waiting:
                    self._begin()
            raise

    def _next(self) -> bool:
        with self._lock:
            waiting, self._waiting = self._waiting, False
            if not waiting:
                self._thread = None
            return waiting

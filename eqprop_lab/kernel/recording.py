"""A sequence of device calls as one CUDA graph: run once, recorded once, launched again and again.

    first call of a key     run, record, launch          later calls     launch

What the calls allocate comes from a pool of their own, so that nobody else is given the memory that
a launch writes. Source: the section on CUDA graphs of NVIDIA's CUDA C++ programming guide.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeVar

R = TypeVar("R")
KEPT = 8  # recordings; each holds what its calls allocated


class Recorder(Generic[R]):
    """Graphs by key. A key names everything that the calls depend on beside what arrays hold."""

    def __init__(self, xp: Any) -> None:
        self.cuda = xp.cuda
        self.stream = self.cuda.Stream(non_blocking=True)
        self.pool = self.cuda.MemoryPool()
        self.graphs: dict[Hashable, tuple[Any, R]] = {}

    def __call__(self, key: Hashable, calls: Callable[[], R]) -> R:
        """What the calls return, in arrays that the next launch of this key overwrites.

        Raises RuntimeError if a call cannot be recorded.
        """
        if key not in self.graphs:
            if len(self.graphs) >= KEPT:
                self.forget()
            self.graphs[key] = self._recorded(calls)
        graph, found = self.graphs[key]
        graph.launch()
        return found

    def forget(self) -> None:
        """Drop all recordings: arrays that they write are about to go."""
        self.cuda.get_current_stream().synchronize()
        self.graphs.clear()

    def _recorded(self, calls: Callable[[], R]) -> tuple[Any, R]:
        self.cuda.get_current_stream().synchronize()
        with self.cuda.using_allocator(self.pool.malloc), self.stream:
            calls()  # compiles kernels and allocates, which a recording must not
            self.stream.synchronize()
            # relaxed: an allocation that the first run did not need is allowed
            self.stream.begin_capture(self.cuda.runtime.streamCaptureModeRelaxed)
            try:
                found = calls()
            except Exception as error:
                with suppress(Exception):
                    self.stream.end_capture()
                reason = (str(error).splitlines() or [""])[0]
                raise RuntimeError(
                    f"graph=True: the step cannot be recorded: {type(error).__name__}: {reason}"
                ) from error
            return self.stream.end_capture(), found

"""A submission at work, seen from outside: its worker process, and its answers as functions.

What an answer gives comes as raw values; here, with the master's cases and the master's check, it
is judged as if the answer had been called in this process.
"""

from __future__ import annotations

import builtins
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from eqprop_lab.course import sandbox
from eqprop_lab.course.inside import MIME
from eqprop_lab.course.memory import watched
from eqprop_lab.course.raw_values import decoded, encoded, stranger
from eqprop_lab.notebook.answers import named

LONGEST_LINE, START_SECONDS = 64 * 2**20, 180.0


class Stopped(BaseException):
    """The process of a submission is gone; the message says why, to the student.

    No Exception, for a check takes those for errors of the answer and goes on.
    """


@dataclass(frozen=True)
class Limits:
    """What a submission may take: seconds an exercise, megabytes of memory."""

    seconds: float = 60.0
    megabytes: int = 4000
    isolated: bool = True


class Worker:
    """A kernel in a cell of its own (see `worker`, `sandbox`)."""

    def __init__(self, limits: Limits) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="eqprop")
        command = [sys.executable, "-m", "eqprop_lab.course.worker", str(limits.megabytes)]
        if limits.isolated:
            command = sandbox.isolated(command, Path(self._place.name))
        env = sandbox.environment("/tmp" if limits.isolated else self._place.name)
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, env=env, stdin=pipe, stdout=pipe, stderr=none, start_new_session=True
        )
        self.pid = self._process.pid
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        self.deadline = time.monotonic() + START_SECONDS

    def _read(self, pipe: IO[bytes]) -> None:
        # An answer to each question: who says more without being asked is not listened to.
        while (line := pipe.readline(LONGEST_LINE)).endswith(b"\n") and self._lines.empty():
            self._lines.put(line)
        self._lines.put(b"")

    def run(self, source: str) -> dict[str, Any]:
        """Execute a cell. Raises Stopped for a late answer, and for none."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(source).encode() + b"\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=max(0.0, self.deadline - time.monotonic()))
        except queue.Empty:
            raise Stopped("it took too long and was stopped: an endless loop?") from None
        except OSError:
            line = b""
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise Stopped(
                "its process ended: did it exit, take too much memory, or print without end?"
            ) from None
        if not isinstance(found, dict):
            raise Stopped("its process sent something that cannot be read")
        return found

    def close(self) -> None:
        """End every process of the submission."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._place.cleanup()


class Answer:
    """A learner's function in a worker: called with case 0, 1, ..., one after the other.

    name: of the function. draw: the expression that draws a case, for the kernel.
    """

    def __init__(self, worker: Worker, name: str, draw: str) -> None:
        self._worker, self._name, self._draw = worker, name, draw
        self._known: dict[int, dict[str, Any]] = {}
        self._next = 0

    def again(self) -> Answer:
        """The same answer, to be called from case 0 on; what is known is not computed anew."""
        other = Answer(self._worker, self._name, self._draw)
        other._known = self._known
        return other

    def __call__(self, *given: Any) -> Any:
        """What the function gave for the next case, or its error."""
        k, self._next = self._next, self._next + 1
        if k not in self._known:
            cell = f"_inside.answer({self._name}, {self._draw}, {k})"
            self._known[k] = _payload(self._worker.run(cell))
        return _replayed(self._known[k], given, lambda *values: self._back(k, given, values))

    def _back(self, k: int, given: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
        """Call the function that the answer to case k is."""
        arguments = json.dumps([encoded(value) for value in values])
        found = self._worker.run(f"_inside.call_back({k}, {arguments!r})")
        return _replayed(_payload(found), given, None)

    def examined(self, judge: str, k: int) -> tuple[str, float]:
        """What a look at the way it works says, made beside the answer in its process; and the
        megabytes by which that process has grown at most, seen from here."""
        with watched(self._worker.pid) as grown:
            found = self._worker.run(f"_inside.examine({judge}, {self._name}, {k})")
        said = _replayed(_payload(found), (), None)
        return said[:500] if isinstance(said, str) else "", grown.megabytes


def _payload(found: dict[str, Any]) -> dict[str, Any]:
    """What the code beside the answer has sent."""
    data = [item[MIME] for item in found.get("data", []) if isinstance(item, dict) and MIME in item]
    try:
        content = json.loads(data[-1])
        content["error"], content["value"], content["noted"], content["changed"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        error = found.get("error")
        kind = error[0] if isinstance(error, list) and error else "nothing"
        raise Stopped(f"no value came back, but {str(kind)[:80]}") from None
    return dict(content)


def _replayed(
    content: dict[str, Any], given: tuple[Any, ...], function: Callable[..., Any] | None
) -> Any:
    """Print, change, count, warn, raise or return what the answer did."""
    print(str(content.get("printed", ""))[:2000], end="")
    for text in list(content.get("warned") or ())[:1]:
        warnings.warn(str(text)[:2000], stacklevel=2)
    for argument, noted in zip(given, content["noted"] or (), strict=False):
        _note(argument, noted)
    for place in content["changed"] or ():
        if isinstance(place, int) and 0 <= place < len(given):
            _spoil(given[place])
    if content["error"]:
        kind, text = (str(part)[:2000] for part in content["error"])
        raise _error(kind)(text)
    try:
        return decoded(content["value"], function)
    except (ValueError, RecursionError) as error:
        raise Stopped(str(error)) from None


def _note(argument: Any, noted: Any) -> None:
    """Counts that the answer has moved on, on an argument that has such counts."""
    if isinstance(noted, dict):
        for name, value in noted.items():
            old = getattr(argument, "__dict__", {}).get(name)
            if type(old) is type(value) and isinstance(value, int | float):
                setattr(argument, name, value)


def _spoil(argument: Any) -> None:
    """Change an argument, for the answer has."""
    held = argument.state_dict() if isinstance(argument, torch.nn.Module) else argument
    for part in named(held).values():
        if hasattr(part, "shape"):
            part += 1


def _error(kind: str) -> type[Exception]:
    """The exception of a name: one of Python's own, else a new one that has the name only."""
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            found("")
            return found
        except TypeError:
            pass
    return type(stranger(kind, Exception))

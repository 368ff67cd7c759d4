"""Memory of a process and its children, seen from outside, where nothing inside can forge it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.002


@dataclass
class Grown:
    """By how many megabytes the resident memory was larger, at most, than at the beginning."""

    megabytes: float = 0.0


@contextmanager
def watched(process: int) -> Iterator[Grown]:
    """Look at the memory of a process and its children every two milliseconds. Linux only."""
    grown, over = Grown(), threading.Event()
    family = list(_family(process))
    before = _resident(family)

    def look() -> None:
        while not over.wait(EVERY):
            grown.megabytes = max(grown.megabytes, _resident(family) - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield grown
    finally:
        over.set()
        thread.join()


def _family(process: int) -> Iterator[int]:
    yield process
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        for child in _text(file).split():
            yield from _family(int(child))


def _resident(family: list[int]) -> float:
    """Megabytes of resident memory that belong to these processes alone or shared."""
    pages = (_text(Path(f"/proc/{process}/statm")).split() for process in family)
    return sum(int(page[1]) for page in pages if len(page) > 1) * 4096 / 2**20


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except OSError:
        return ""

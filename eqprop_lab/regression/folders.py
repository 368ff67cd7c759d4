"""A folder that takes the results: writable, large enough, and held by one run at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from eqprop_lab.files import replace_text

ROOM_NEEDED = 50 * 2**20
LOCK = ".lock"


class FolderError(OSError):
    """An output folder that cannot take the results; the message is one line."""


def ensure_writable(folder: Path) -> None:
    """Create `folder`, write to it, look at the room left. Raises FolderError before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        replace_text(probe, "ok")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise FolderError(
            f"cannot write to the output folder {folder}: {error.strerror or error}"
        ) from error
    if free < ROOM_NEEDED:
        raise FolderError(
            f"output folder {folder}: {free // 2**20} MB free, {ROOM_NEEDED // 2**20} MB needed"
        )


@contextmanager
def locked(folder: Path, advice: str) -> Iterator[None]:
    """Hold `folder` for one run, till its process ends. Raises FolderError for a second run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise FolderError(
            f"another run is at work in {folder}: wait for it, or {advice}"
        ) from error
    except OSError as error:
        raise FolderError(
            f"cannot write to the output folder {folder}: {error.strerror or error}"
        ) from error
    try:
        yield
    finally:
        lock.release()

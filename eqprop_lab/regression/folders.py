"""Small file work of the runner: a folder that is writable and its own, the figures of one
notebook.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from eqprop_lab.files import replace_text

ROOM_NEEDED = 50 * 2**20
LOCK = ".lock"


class FolderError(OSError):
    """An output folder that cannot take the results; the message is one line."""


class FigureError(ValueError):
    """An index of figures that cannot be used, or a figure that belongs to another notebook."""


def ensure_writable(folder: Path) -> None:
    """Create `folder`, write to it and look at the room left. Raises FolderError before any work is
    started.
    """
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
    """Hold `folder` for one run; the lock goes with the process. Raises FolderError where another
    run holds it.
    """
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


def read_index(folder: Path) -> dict[str, Any]:
    """`index.json` of a figures folder: {figure name: {caption, alt, notebook, parameters,
    sha256}}; {} when absent.

    Raises FigureError for a file that is not that.
    """
    index = folder / "index.json"
    if not index.exists():
        return {}
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FigureError(
            f"{folder.name}/index.json is not JSON ({error}): restore it, or remove it"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(entry, dict) for entry in content.values()
    ):
        raise FigureError(
            f"{folder.name}/index.json must be {{figure: entry}}: restore it, or remove it"
        )
    return content


def figure_changes(
    source: Path, target: Path, notebook: str
) -> tuple[dict[Path, bytes | None], list[str]]:
    """What puts the figures of one notebook into `target` in place of its old ones: (changes for
    `swap`, names).

    Raises FigureError for a broken index and for a figure that is another notebook's; OSError for a
    missing picture.
    """
    drawn, index = read_index(source), read_index(target)
    entries = {name: entry for name, entry in drawn.items() if entry.get("notebook") == notebook}
    for name in entries:
        owner = index.get(name, {}).get("notebook", notebook)
        if owner != notebook or Path(name).name != name:
            raise FigureError(f"figure {name!r} belongs to {owner}: give it a name of its own")
    old = [name for name, entry in index.items() if entry.get("notebook") == notebook]
    if not entries and not old:
        return {}, []
    changes: dict[Path, bytes | None] = {
        target / f"{name}{kind}": None for name in old for kind in (".png", ".svg")
    }
    for name in entries:
        for kind in (".png", ".svg"):
            changes[target / f"{name}{kind}"] = (source / f"{name}{kind}").read_bytes()
    index = {name: entry for name, entry in index.items() if name not in old} | entries
    text = json.dumps(index, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    changes[target / "index.json"] = text.encode()
    return changes, sorted(entries)

"""Several files changed as one: all of them, or none, also where the process is killed.

    record (what is to change) -> stage new contents and copies of the old -> swap -> record "done"
    -> tidy

Until the record says "done", everything is undone: at once after an error, by `recover` after a
kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from operator import methodcaller
from pathlib import Path
from typing import Any

from eqprop_lab.files import replace_file, replace_text

RECORD = ".update.json"


def swap(changes: Mapping[Path, bytes | None], root: Path) -> None:
    """Give every file its new content, or remove it (None). The record lies in `root` meanwhile.

    Raises OSError; all files are then as they were. Links are followed, modes are kept.
    """
    targets = {path.resolve(): content for path, content in changes.items()}
    entries = [
        {"path": str(path), "old": _digest(_content(path)), "new": _digest(content)}
        for path, content in targets.items()
    ]
    record = root / RECORD
    try:
        replace_text(record, json.dumps({"done": False, "files": entries}))
        for path, content in targets.items():
            _stage(path, content)
        for path, content in targets.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                os.replace(_beside(path, "new"), path)
        replace_text(record, json.dumps({"done": True, "files": entries}))
    except BaseException:
        recover(root)
        raise
    recover(root)


def recover(root: Path) -> list[str]:
    """Finish what a killed `swap` has left: undo it, or tidy up behind it; a line a file touched.

    A file that somebody has edited since is left as it is, and its line says so. Raises OSError,
    ValueError for a record that cannot be read.
    """
    record = root / RECORD
    if not record.exists():
        return []
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        done = bool(content["done"])
        entries = list(content["files"])
        paths = [Path(entry["path"]) for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{record} is no record of an update: look at `git status`, then remove it"
        ) from error
    lines = [] if done else [line for entry in entries for line in _undo(entry, root)]
    for path in paths:
        for kind in ("new", "old"):
            _beside(path, kind).unlink(missing_ok=True)
    record.unlink()
    return lines


def _undo(entry: Mapping[str, Any], root: Path) -> Iterator[str]:
    path = Path(entry["path"])
    now = _digest(_content(path))
    name = path.relative_to(root) if path.is_relative_to(root) else path
    if now == entry["old"]:
        return
    if now != entry["new"]:
        yield f"{name}: edited since an update was cut off, left as it is"
    elif entry["old"] is None:
        path.unlink()
        yield f"{name}: removed again, the update was cut off"
    else:
        os.replace(_beside(path, "old"), path)
        yield f"{name}: put back, the update was cut off"


def _stage(path: Path, content: bytes | None) -> None:
    """New content and a copy of the old on the disk beside the file: only a rename is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [("new", content), ("old", _content(path))]
    for kind, data in parts:
        if data is not None:
            place = replace_file(_beside(path, kind), methodcaller("write", data))
            if path.exists():
                shutil.copymode(path, place)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()

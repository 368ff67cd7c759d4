"""Small file work of the runner: atomic writes, a writable folder, the figures of one notebook."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from eqprop_lab.training.files import replace_text

ROOM_NEEDED = 50 * 2**20


class FolderError(OSError):
    """An output folder that cannot take the results; the message is one line."""


def write_text(path: Path, text: str) -> None:
    """Write `text` to a temporary file beside `path` and replace it: the old file survives a full disk."""
    replace_text(path, text)


def ensure_writable(folder: Path) -> None:
    """Create `folder`, write to it and look at the room left. Raises FolderError before any work is started."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        write_text(probe, "ok")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise FolderError(f"cannot write to the output folder {folder}: {error.strerror or error}") from error
    if free < ROOM_NEEDED:
        raise FolderError(f"output folder {folder}: {free // 2**20} MB free, {ROOM_NEEDED // 2**20} MB needed")


def read_index(folder: Path) -> dict[str, Any]:
    """`index.json` of a figures folder: {figure name: {caption, alt, notebook, parameters, sha256}}; {} when absent."""
    index = folder / "index.json"
    return dict(json.loads(index.read_text(encoding="utf-8"))) if index.exists() else {}


def _index_text(index: dict[str, Any]) -> str:
    return json.dumps(index, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def drop_figures(folder: Path, notebook: str) -> None:
    """Remove the pictures and index entries of one notebook, so that a renamed figure leaves nothing behind."""
    index = read_index(folder)
    mine = [name for name, entry in index.items() if entry.get("notebook") == notebook]
    for name in mine:
        del index[name]
        for suffix in (".png", ".svg"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    if mine:
        write_text(folder / "index.json", _index_text(index))


def publish_figures(source: Path, target: Path, notebook: str) -> list[str]:
    """Replace the figures of one notebook in `target` by those in `source`; returns their names."""
    entries = {name: entry for name, entry in read_index(source).items() if entry.get("notebook") == notebook}
    drop_figures(target, notebook)
    if not entries:
        return []
    target.mkdir(parents=True, exist_ok=True)
    for name in entries:
        for suffix in (".png", ".svg"):
            part = target / f".{name}{suffix}.part"
            shutil.copyfile(source / f"{name}{suffix}", part)
            os.replace(part, target / f"{name}{suffix}")
    index = read_index(target) | entries
    write_text(target / "index.json", _index_text(index))
    return sorted(entries)

"""Files that are whole or not there: a process killed while it writes leaves the old file as it was."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

LEFTOVER_SECONDS = 3600


def replace_file(path: str | Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Let `write` fill a temporary file in the folder of `path`, bring it to the disk, and put it in place of `path`.

    The folder is made if need be. Raises what `write` raises, and OSError; `path` is then as it was. Parts that killed
    writers left behind are removed an hour later, by the next write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{path.name}.*.part"):
        if time.time() - old.stat().st_mtime > LEFTOVER_SECONDS:
            old.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        # The new name is part of the folder: without this a power cut can bring the old file back.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


def replace_text(path: str | Path, text: str) -> Path:
    """`replace_file` with a text, in UTF-8."""
    return replace_file(path, lambda file: file.write(text.encode("utf-8")))

"""Files that are whole or not there, and the nearest folder that holds something.

A process killed while it writes leaves the old file as it was. A file is replaced where it lies (a
symbolic link stays one) and keeps its rights; a new one gets those that the umask gives to new
files. Everything of the package that writes files does it through here.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from eqprop_lab.validation import a_path

LEFTOVER_SECONDS = 3600
# bytes of the name that a part carries: a name as long as the system allows has no room for more
STEM = 100


def nearest(holds: Callable[[Path], object], start: Path | None = None) -> Path | None:
    """The nearest folder at or above `start` (default: here) for which `holds` is true, or None."""
    here = (start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if holds(folder)), None)


def checkout() -> Path | None:
    """The folder of the checkout that this package is part of; None for an installed package."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def replace_file(
    path: str | Path, write: Callable[[IO[bytes]], object], durable: bool = True
) -> Path:
    """Let `write` fill a temporary file, bring it to the disk, and put it in place of `path`.

    The folder is made if need be. Raises what `write` raises, and OSError naming `path` (full disk,
    no right, something there that is no file); `path` is then as it was. Parts that killed writers
    left behind are removed an hour later, by the next write. durable=False: whole in any case, but
    a power cut may bring the old file back.
    """
    path = a_path("path", path)
    target = path
    part = ""
    try:
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        stem = f".{os.fsdecode(os.fsencode(target.name)[:STEM])}."
        _clear(target.parent, stem)
        part = str(target.parent / f"{stem}{secrets.token_hex(6)}.part")
        # Not mkstemp: its files are private to their owner, and the umask cannot be asked without
        # being changed.
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if target.exists():
            os.chmod(part, stat.S_IMODE(target.stat().st_mode))
        os.replace(part, target)
        if durable and os.name == "posix":
            _sync_folder(target.parent)
    except OSError as error:
        if error.errno is None or str(error.filename) not in (
            "None",
            part,
            str(target),
            str(target.parent),
        ):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if part:
            Path(part).unlink(missing_ok=True)
    return path


def check_target(path: Path) -> None:
    """Raise the OSError of `replace_file` that can be foreseen, so that no work is lost for it."""
    folder = nearest(Path.exists, _target(path).absolute().parent) or path
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def replace_text(path: str | Path, text: str) -> Path:
    """`replace_file` with a text, in UTF-8."""
    return replace_file(path, lambda file: file.write(text.encode("utf-8")))


def _target(path: Path) -> Path:
    """The file itself, at the end of all symbolic links. Raises OSError for what is no file."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file, which cannot be replaced", str(path))
    return target


def _clear(folder: Path, stem: str) -> None:
    """Remove the parts of killed writers, an hour later."""
    for old in folder.glob(f"{glob.escape(stem)}*.part"):
        try:
            age = time.time() - old.stat().st_mtime
        except FileNotFoundError:
            continue  # its writer lives, and has just finished
        if age > LEFTOVER_SECONDS:
            old.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # The new name is part of the folder: without this a power cut can bring the old file back.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

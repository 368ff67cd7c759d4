"""Text files: read as UTF-8 or refused, downloaded whole and as they should be or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from pathlib import Path

from eqprop_lab.datasets.splits import DataUnavailable
from eqprop_lab.files import replace_file

TIMEOUT = 30.0  # seconds without an answer


def read_text_file(path: Path) -> str:
    r"""The text of a UTF-8 file, with "\n" at line ends and without a byte order mark.

    Raises: DataUnavailable for a missing file; ValueError naming it: a folder, empty, binary, or in
    another encoding.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a text file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataUnavailable(f"{path} cannot be read: {error.strerror or error}") from error
    return decoded(content, str(path))


def decoded(content: bytes, where: str) -> str:
    """`read_text_file` for what has been read already."""
    if b"\0" in content:
        raise ValueError(f"{where} is no text: it has a byte 0 at {content.index(0)} (binary?)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} must be a text in UTF-8: {error.reason} at byte {error.start}; save it in "
            "that encoding"
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ValueError(f"{where} is empty")
    return text


def sha256(content: bytes) -> str:
    """The digest by which a text is known, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def download(url: str, path: Path, size: int, digest: str) -> None:
    """Fetch `url` to `path`, if it is what it should be. Raises OSError, ValueError otherwise."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        try:
            content: bytes = answer.read(size + 1)
        except http.client.HTTPException as error:
            raise OSError(f"broken off: {error!r}") from error
    if len(content) != size or sha256(content) != digest:
        raise ValueError(f"{url} gave another file than it should")
    replace_file(path, lambda file: file.write(content))

"""Texts by name: shipped with Python, downloaded once, taken from the hub once, or a file.

`python_docs` needs no files: the prose of Python's own help topics. The others are kept in the data
folder (`EQPROP_DATA_DIR`), and whoever has the files puts them there.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eqprop_lab.datasets.published import PUBLISHED, read_published
from eqprop_lab.datasets.registry import plain_name
from eqprop_lab.datasets.splits import DataUnavailable
from eqprop_lab.datasets.text_files import download, read_text_file, sha256
from eqprop_lab.datasets.torchvision_sets import data_dir
from eqprop_lab.validation import a_path, one_of

OFFLINE = "Either go online once, or put the file there, or point EQPROP_DATA_DIR at a folder that "
INSTEAD = "get_lm_dataset('python_docs') needs no files."
SHORTEST = 80
PROSE = 0.93


@dataclass(frozen=True)
class Corpus:
    """A text. texts: one, which is then cut, or those of train, validation and test."""

    name: str
    texts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The digest of all of it, in UTF-8."""
        return sha256("".join(self.texts).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class WebText:
    """A file to download: where from, where to in the data folder, and how it is known."""

    url: str
    file: str
    size: int
    sha256: str


TINY_SHAKESPEARE = WebText(
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "tiny_shakespeare/input.txt",
    1115394,
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)


def python_docs(level: str = "character") -> Corpus:
    """The prose of Python's help topics: about 160,000 characters that differ between versions.

    A paragraph counts if it has more than 80 characters, all of ASCII, more than 93 % of them
    letters, spaces, commas or full stops; one that several topics share counts once, so that no
    split has it from another. Raises DataUnavailable where Python comes without them.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataUnavailable(
            f"text 'python_docs': this Python comes without its help topics ({error}); "
            "get_lm_dataset takes the path of any text file"
        ) from error
    paragraphs = "\n\n".join(topics.values()).split("\n\n")
    return Corpus("python_docs", ("\n\n".join(dict.fromkeys(filter(is_prose, paragraphs))),))


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is English rather than code, grammar or a table."""
    if len(paragraph) <= SHORTEST or not paragraph.isascii():
        return False
    return len(re.findall(r"[A-Za-z\s.,]", paragraph)) > PROSE * len(paragraph)


def tiny_shakespeare(level: str = "character") -> Corpus:
    """1.1 million characters of plays (Karpathy 2015), downloaded once.

    Raises DataUnavailable for a file that is not there and not to be had, or that is another one.
    """
    entry = TINY_SHAKESPEARE
    path = data_dir() / entry.file
    if not path.exists():
        try:
            download(entry.url, path, entry.size, entry.sha256)
        except (OSError, ValueError) as error:
            raise DataUnavailable(
                f"text 'tiny_shakespeare': {entry.file} is missing in the data folder "
                f"({data_dir()}) and the download failed ({error}). {OFFLINE}has it "
                f"({entry.url}). {INSTEAD}"
            ) from error
    corpus = Corpus("tiny_shakespeare", (read_text_file(path),))
    if corpus.sha256 != entry.sha256:
        raise DataUnavailable(
            f"text 'tiny_shakespeare': {path} is damaged or another text: "
            f"{path.stat().st_size} bytes, {entry.size} expected. Remove it; the next call "
            "downloads it anew."
        )
    return corpus


def published(name: str, level: str) -> Corpus:
    """A corpus of the table `published.PUBLISHED`."""
    return Corpus(name, read_published(name, level))


CORPORA: dict[str, Callable[[str], Corpus]] = {
    "python_docs": python_docs,
    "tiny_shakespeare": tiny_shakespeare,
    **{name: partial(published, name) for name in PUBLISHED},
}


def present(folder: Path) -> list[str]:
    """The texts that need no network, at one level at least, given what is in the data folder."""
    forms: dict[str, list[tuple[str, ...]]] = {
        "python_docs": [()],
        "tiny_shakespeare": [(TINY_SHAKESPEARE.file,)],
        **{name: [entry.files for entry in levels.values()] for name, levels in PUBLISHED.items()},
    }
    return [
        name
        for name in CORPORA
        if any(all((folder / file).exists() for file in files) for files in forms[name])
    ]


def read_corpus(name: str | os.PathLike[str], level: str = "character") -> Corpus:
    """A text by its name, in any usual spelling, or the text file at a path.

    level: the one it is wanted for; a corpus may be published in one form for each. Raises:
    TypeError; ValueError for an unknown name (the nearest is named) or a file that is no text;
    DataUnavailable.
    """
    known = {plain_name(key): key for key in CORPORA}
    if isinstance(name, str) and len(name) < 100 and plain_name(name) in known:
        return CORPORA[known[plain_name(name)]](level)
    path = a_path("name", name)
    if isinstance(name, str) and not is_path(path):
        one_of("name (or the path of a text file)", name, CORPORA)
    return Corpus(path.name, (read_text_file(path),))


def is_path(name: str | Path) -> bool:
    """Whether a name that is none of CORPORA can only be meant as the path of a file."""
    path = Path(name)
    return path.exists() or len(path.parts) > 1 or bool(path.suffix)

"""Corpora with published splits, from files in the data folder or once from the Hugging Face hub.

What the hub gives (with the extra `datasets`) is written down as the published files are, so that
the next call reads it without hub or network. Whoever has the files puts them there.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqprop_lab.datasets.splits import DataUnavailable
from eqprop_lab.datasets.text_files import read_text_file
from eqprop_lab.datasets.torchvision_sets import data_dir
from eqprop_lab.files import replace_text

HUB_PARTS = ("train", "validation", "test")
INSTALL = "install the extra (pip install 'eqprop_lab[datasets]') and "


@dataclass(frozen=True)
class Published:
    """A corpus: its files of train, validation and test, their lines, and where the hub has it.

    repository, options: what `datasets.load_dataset` is asked for. column: where it has the lines.
    """

    files: tuple[str, str, str]
    lines: tuple[int, int, int]
    repository: str
    options: Mapping[str, str] = field(default_factory=dict)
    column: str = "text"


_WIKI_LINES = (36718, 3760, 4358)
_PTB = Published(
    ("ptb/ptb.train.txt", "ptb/ptb.valid.txt", "ptb/ptb.test.txt"),
    (42068, 3370, 3761),
    "ptb-text-only/ptb_text_only",
    # The set itself is a script, which `datasets` no longer runs; the hub keeps its tables here.
    {"revision": "refs/convert/parquet"},
    "sentence",
)
# By level: WikiText-2 is published once for words, the rare ones as <unk>, and once as it was.
PUBLISHED: dict[str, dict[str, Published]] = {
    "wikitext-2": {
        "word": Published(
            (
                "wikitext-2/wiki.train.tokens",
                "wikitext-2/wiki.valid.tokens",
                "wikitext-2/wiki.test.tokens",
            ),
            _WIKI_LINES,
            "Salesforce/wikitext",
            {"name": "wikitext-2-v1"},
        ),
        "character": Published(
            (
                "wikitext-2-raw/wiki.train.raw",
                "wikitext-2-raw/wiki.valid.raw",
                "wikitext-2-raw/wiki.test.raw",
            ),
            _WIKI_LINES,
            "Salesforce/wikitext",
            {"name": "wikitext-2-raw-v1"},
        ),
    },
    "ptb": {"word": _PTB, "character": _PTB},
}


def read_published(name: str, level: str) -> tuple[str, ...]:
    """The texts of train, validation and test, without the spaces at the ends of lines.

    Raises: DataUnavailable, naming the file: missing and not to be had, incomplete, of another
    number of lines, or no text.
    """
    entry, folder = PUBLISHED[name][level], data_dir()
    there = [file for file in entry.files if (folder / file).exists()]
    if not there:
        _fetch(name, entry, folder)
    elif len(there) < len(entry.files):
        missing = next(file for file in entry.files if file not in there)
        raise DataUnavailable(
            f"text {name!r}: {missing} is missing in the data folder ({folder}) beside {there[0]}: "
            "put it there, or remove the others to have all three anew"
        )
    return tuple(
        _read(name, folder / file, lines)
        for file, lines in zip(entry.files, entry.lines, strict=True)
    )


def _read(name: str, path: Path, lines: int) -> str:
    try:
        found = read_text_file(path).removesuffix("\n").split("\n")
    except ValueError as error:
        raise DataUnavailable(f"text {name!r}: {error}") from error
    if len(found) != lines:
        raise DataUnavailable(
            f"text {name!r}: {path} is damaged or another text: it has {len(found)} lines, not "
            f"{lines}. Put the published file there, or remove all of {name} to have it anew."
        )
    return "".join(line.strip(" ") + "\n" for line in found)


def _fetch(name: str, entry: Published, folder: Path) -> None:
    """Write the files of the hub into the data folder, train last. Raises DataUnavailable."""
    try:
        parts = _from_hub(entry, folder)
    except ImportError as error:
        why = f"the extra 'datasets' is not installed ({error})"
        raise _unavailable(name, entry, folder, why, INSTALL) from error
    # What the hub's client raises without a network depends on its version.
    except Exception as error:
        raise _unavailable(name, entry, folder, f"the hub did not give it ({error})") from error
    for file, part, lines in zip(entry.files, parts, entry.lines, strict=True):
        if len(part) != lines or any("\n" in line for line in part):
            raise DataUnavailable(
                f"text {name!r}: the hub gave another text: {len(part)} lines for {file}, not "
                f"{lines}"
            )
    for file, part in reversed(list(zip(entry.files, parts, strict=True))):
        replace_text(folder / file, "".join(f"{line}\n" for line in part))


def _from_hub(entry: Published, folder: Path) -> list[list[str]]:
    hub: Any = importlib.import_module("datasets")
    cache = str(folder / "huggingface")
    found = hub.load_dataset(entry.repository, cache_dir=cache, **entry.options)
    return [[line.strip(" \n") for line in found[part][entry.column]] for part in HUB_PARTS]


def _unavailable(
    name: str, entry: Published, folder: Path, why: str, first: str = ""
) -> DataUnavailable:
    return DataUnavailable(
        f"text {name!r}: {', '.join(entry.files)} are missing in the data folder ({folder}), and "
        f"{why}. Either {first}go online once, or put the published files there, or point "
        "EQPROP_DATA_DIR at a folder that has them. get_lm_dataset('python_docs') needs no files."
    )

"""Small texts where the large ones are expected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eqprop_lab.datasets import corpora
from eqprop_lab.datasets.text_files import sha256
from eqprop_lab.datasets.vocabulary import SHAKESPEARE

PLAY = "ROMEO:\nBut soft, what light through yonder window breaks?\n\n"


def small_shakespeare(folder: Path, patch: pytest.MonkeyPatch, scenes: int = 30) -> str:
    """A short text with the 65 characters of tiny Shakespeare, for `get_lm_dataset` in its place.

    Writes it under `folder`, makes that the data folder, and returns the text.
    """
    text = PLAY * scenes + SHAKESPEARE + PLAY * scenes
    content = text.encode()
    entry = replace(corpora.TINY_SHAKESPEARE, size=len(content), sha256=sha256(content))
    file = folder / entry.file
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    patch.setattr(corpora, "TINY_SHAKESPEARE", entry)
    patch.setenv("EQPROP_DATA_DIR", str(folder))
    return text

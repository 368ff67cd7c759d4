"""A text as the data of an experiment: by a name and options, three splits in windows.

text_set("python_docs", seq_len=64)            data: {dataset: python_docs, seq_len: 64}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from eqprop_lab.datasets.corpora import CORPORA, is_path
from eqprop_lab.datasets.registry import NAMES, plain_name
from eqprop_lab.datasets.text import read_text
from eqprop_lab.datasets.token_batches import TokenSplit
from eqprop_lab.datasets.vocabulary import LEVELS, Vocabulary
from eqprop_lab.validation import arguments, known_keys, one_of, positive_int


@dataclass(frozen=True)
class TextSet:
    """train, validation, test: TokenSplit, all in the one vocab."""

    name: str
    train: TokenSplit
    validation: TokenSplit
    test: TokenSplit
    vocab: Vocabulary
    unit: ClassVar = "tokens"


def text_set(
    name: str | os.PathLike[str],
    seq_len: int = 128,
    level: str = "character",
    limit: int | None = None,
    validation: int | None = None,
    max_words: int | None = None,
    vocab: Vocabulary | None = None,
) -> TextSet:
    """All three splits of a text.

    Args: as in `get_lm_dataset`; limit: only the first windows of the training split, validation:
        of the validation split.
    Raises: as `get_lm_dataset`.
    """
    text = read_text(name, level, vocab, max_words)
    return TextSet(
        str(name),
        text.part("train", seq_len, limit),
        text.part("validation", seq_len, validation),
        text.part("test", seq_len),
        text.vocab,
    )


def text_name(name: object) -> str | None:
    """The text a data set's name stands for, a path as it is; None for what is no text.

    Registered data sets come first.
    """
    if not isinstance(name, str) or len(name) > 1000 or plain_name(name) in map(plain_name, NAMES):
        return None
    known = {plain_name(key): key for key in CORPORA}
    return known.get(plain_name(name)) or (name if is_path(name) else None)


def check_text_options(name: str, given: Mapping[str, Any]) -> None:
    """Raise TypeError, ValueError for an option of `text_set` that is none, before any reading."""
    options = [key for key in arguments(text_set) or {} if key not in ("name", "vocab")]
    known_keys(f"the {name} config", given, options)
    positive_int("data.seq_len", given.get("seq_len", 1))
    for key in ("limit", "validation", "max_words"):
        if given.get(key) is not None:
            positive_int(f"data.{key}", given[key])
    one_of("data.level", given.get("level", "character"), LEVELS)

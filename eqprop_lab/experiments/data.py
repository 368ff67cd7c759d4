"""What the section `data` names: a registered data set, or a text; and what it says of a model.

data: {dataset: digits, ...}                            options of `build_dataset`
data: {dataset: tiny_shakespeare, seq_len: 64, ...}     options of `text_set`: seq_len, level,
data: {dataset: my_book.txt, ...}                       limit, validation (windows), max_words
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqprop_lab.datasets import DataSet, build_dataset
from eqprop_lab.datasets.corpora import CORPORA
from eqprop_lab.datasets.registry import (
    NAMES,
    SOURCES,
    data_facts,
    dataset_name,
    find_sizes,
    get_dataset_info,
    plain_name,
)
from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.datasets.windows import TextSet, check_text_options, text_name, text_set
from eqprop_lab.validation import arguments, one_of

SEQ_LEN: int = (arguments(text_set) or {})["seq_len"].default


def data_name(name: object) -> str:
    """The name as it is known: of a data set, of a text, or the path of a text file.

    Raises ValueError naming the nearest.
    """
    if (text := text_name(name)) is not None:
        return text
    if not isinstance(name, str) or plain_name(name) not in map(plain_name, NAMES):
        one_of("name (or the path of a text file)", name, [*NAMES, *CORPORA])
    return dataset_name(str(name))


def check_options(name: str, given: Mapping[str, Any]) -> None:
    """Raise TypeError, ValueError for an unknown option, or for one of a text that is no value."""
    if name in SOURCES:
        SOURCES[name].check_options(given)
    else:
        check_text_options(name, given)


def build_data(options: Mapping[str, Any], vocab: Vocabulary | None = None) -> DataSet | TextSet:
    """The data of {"name": ..., options}.

    vocab: the one that a text is to be written in. Raises as `build_dataset` and `text_set` do.
    """
    if options["name"] in SOURCES:
        return build_dataset(options)
    return text_set(**options, vocab=vocab)


def facts_of(data: DataSet | TextSet) -> dict[str, Any]:
    """What a model takes from data: `data_facts` of a set; vocab_size and seq_len of a text."""
    if isinstance(data, DataSet):
        return data_facts(data)
    return {"name": data.name, "vocab_size": len(data.vocab), "seq_len": data.train.seq_len}


def find_facts(options: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
    """`facts_of` for {"name": ..., options}; the data are looked at only if wanted, and needed."""
    if options["name"] in SOURCES:
        return find_sizes(options) if wanted else get_dataset_info(options["name"])
    if wanted:
        return facts_of(text_set(**options))
    return {"name": options["name"], "seq_len": options.get("seq_len", SEQ_LEN)}

"""The symbols of a language model, and texts as their numbers.

    encode("to be")  ->  tokens (5,) int64       decode(tokens)  ->  "to be"

At level "character" a symbol is one character. At level "word" it is what stands between spaces,
which is how the published corpora are cut; a line end is a word of its own.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.datasets.tokens import token_array
from eqprop_lab.validation import integer, one_of, shown

LEVELS = ("character", "word")
UNKNOWN = "<unk>"
# the characters of tiny Shakespeare
SHAKESPEARE = "\n !$&',-.3:;?" + string.ascii_uppercase + string.ascii_lowercase
# unknown symbols that an error shows
NAMED = 5


def symbols_of(text: str, level: str) -> Sequence[str]:
    """The text cut into symbols."""
    return text if level == "character" else re.findall(r"\n|\S+", text)


def text_of(symbols: Sequence[str], level: str) -> str:
    """The symbols as one text; between words stands one space, at line ends none."""
    if level == "character":
        return "".join(symbols)
    return re.sub(r" ?\n ?", "\n", " ".join(symbols))


@dataclass(frozen=True)
class Vocabulary:
    """The symbols, each at its number: a tokenizer, with `encode` and `decode`.

    level: "character" or "word". Where "<unk>" is a word, it stands for all that are not there.

    Raises: TypeError, ValueError for no symbols, equal ones, or ones that the level cannot have.
    """

    symbols: Sequence[str]
    level: str = "character"

    def __post_init__(self) -> None:
        one_of("level", self.level, LEVELS)
        given: Any = self.symbols
        if not isinstance(given, str | list | tuple) or not given:
            raise TypeError(
                f"symbols must be a text or a list with at least one symbol, got {shown(given)}"
            )
        object.__setattr__(self, "symbols", tuple(given))
        wrong = [symbol for symbol in self.symbols if not _is_symbol(symbol, self.level)]
        if wrong:
            each = "one character" if self.level == "character" else "a word without spaces"
            raise ValueError(f"symbols must each be {each}, got {shown(wrong[0])}")
        if len(self._numbers) < len(self.symbols):
            twice = Counter(self.symbols).most_common(1)[0][0]
            raise ValueError(f"symbols must differ, got {shown(twice)} twice")

    @classmethod
    def of(cls, text: str, level: str = "character", max_words: int | None = None) -> Vocabulary:
        """What a text is made of: its characters, sorted, or "<unk>" and its words, frequent first.

        max_words: only so many of the most frequent words, beside "<unk>". Raises TypeError,
        ValueError.
        """
        one_of("level", level, LEVELS)
        return cls.of_symbols(symbols_of(_a_text(text), level), level, max_words)

    @classmethod
    def of_symbols(
        cls, symbols: Sequence[str], level: str, max_words: int | None = None
    ) -> Vocabulary:
        """`of` for a text that is cut already."""
        if level == "character":
            if max_words is not None:
                raise ValueError(
                    f"max_words must be None at level 'character', got {shown(max_words)}"
                )
            return cls(tuple(sorted(set(symbols))))
        most = None if max_words is None else integer("max_words", max_words)
        counts = Counter(symbols)
        counts.pop(UNKNOWN, None)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls((UNKNOWN, *ranked[:most]), "word")

    @classmethod
    def ascii(cls) -> Vocabulary:
        """The line end and the 95 printable characters of ASCII."""
        return cls(("\n", *map(chr, range(32, 127))))

    @classmethod
    def shakespeare(cls) -> Vocabulary:
        """The 65 characters of tiny Shakespeare."""
        return cls(tuple(SHAKESPEARE))

    @property
    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint; `from_state` makes an equal vocabulary of them."""
        return {"level": self.level, "symbols": list(self.symbols)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary whose `state` it was. Raises TypeError, ValueError for anything else."""
        if not isinstance(state, Mapping) or set(state) != {"level", "symbols"}:
            raise ValueError(f"state must have the keys 'level' and 'symbols', got {shown(state)}")
        return cls(state["symbols"], state["level"])

    @property
    def digest(self) -> str:
        """Equal for equal vocabularies."""
        return hashlib.blake2b(repr(self.state).encode(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._numbers

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} {self.level}s, {shown(text_of(self.symbols, 'character'))})"

    def encode(self, text: str) -> Tensor:
        """text -> tokens (number of symbols,) int64.

        Raises ValueError naming the characters, or words, that are no symbols.
        """
        return self.encode_symbols(symbols_of(_a_text(text), self.level))

    def encode_symbols(self, symbols: Sequence[str]) -> Tensor:
        """`encode` for a text that is cut already."""
        numbers = self._numbers
        other = numbers.get(UNKNOWN, -1) if self.level == "word" else -1
        found = np.fromiter((numbers.get(s, other) for s in symbols), np.int64, len(symbols))
        if found.size and found.min() < 0:
            self._refuse(symbols)
        return torch.from_numpy(found)

    def _refuse(self, symbols: Sequence[str]) -> None:
        unknown = list(dict.fromkeys(s for s in symbols if s not in self._numbers))
        named = ", ".join(shown(s) for s in unknown[:NAMED])
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        raise ValueError(
            f"text must be made of the {len(self)} {self.level}s of the vocabulary, got {named}"
            f"{more}"
        )

    def decode(self, tokens: Tensor | Sequence[int] | np.ndarray) -> str:
        """tokens (N,) -> their text. Raises TypeError, ValueError for what is no list of tokens."""
        array = token_array("tokens", tokens, len(self))
        return text_of([self.symbols[token] for token in array.tolist()], self.level)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}


def _is_symbol(symbol: object, level: str) -> bool:
    if not isinstance(symbol, str):
        return False
    return len(symbol) == 1 if level == "character" else list(symbols_of(symbol, level)) == [symbol]


def _a_text(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {shown(text)} ({type(text).__name__})")
    return text

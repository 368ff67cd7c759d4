"""Texts as data of a language model: tokens of three splits, one vocabulary, batches of windows.

loader, vocab = get_lm_dataset("tiny_shakespeare", seq_len=64, split="train")
for x, y in loader: ...                          (B, T) int64 each; y[b, t] comes after x[b, t]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from eqprop_lab.datasets.corpora import Corpus, read_corpus
from eqprop_lab.datasets.token_batches import TokenBatches, TokenSplit
from eqprop_lab.datasets.vocabulary import LEVELS, Vocabulary, symbols_of, text_of
from eqprop_lab.validation import a_seed, one_of, positive_int, shown

PARTS = ("train", "validation", "test")
# Where a text without published splits is cut.
CUTS = (0.9, 0.95)


@dataclass(frozen=True)
class TextData:
    """A text as tokens. train, validation, test: (N,) int64, all three by the one `vocab`.

    characters_per_token: of each split. sha256: of the whole text.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    vocab: Vocabulary
    characters_per_token: dict[str, float]
    sha256: str

    def part(self, split: str, seq_len: int = 128, limit: int | None = None) -> TokenSplit:
        """One split in windows; arguments and errors as in `get_lm_dataset`."""
        one_of("split", split, PARTS)
        length = positive_int("seq_len", seq_len)
        tokens: Tensor = getattr(self, split)
        if len(tokens) <= length:
            raise ValueError(
                f"seq_len must be less than the {len(tokens)} {self.vocab.level}s of the {split} "
                f"split of {self.name}, got {length}; take shorter windows or a longer text"
            )
        if limit is not None:
            # one more than the windows: the next token, or the room in which the start moves
            windows = positive_int("limit", limit)
            tokens = tokens[: (windows + 1) * length if split == "train" else windows * length + 1]
        return TokenSplit(tokens, length, self.vocab, self.characters_per_token[split])

    def batches(
        self,
        split: str = "train",
        seq_len: int = 128,
        batch_size: int = 32,
        seed: int = 0,
        limit: int | None = None,
    ) -> TokenBatches:
        """Windows of one split; arguments and errors as in `get_lm_dataset`."""
        part = self.part(split, seq_len, limit)
        return part.batches(batch_size, split == "train", a_seed("seed", seed))


def get_lm_dataset(
    name: str | os.PathLike[str] = "python_docs",
    seq_len: int = 128,
    batch_size: int = 32,
    split: str = "train",
    *,
    level: str = "character",
    seed: int = 0,
    limit: int | None = None,
    vocab: Vocabulary | None = None,
    max_words: int | None = None,
) -> tuple[TokenBatches, Vocabulary]:
    """(loader, vocab) of one split of a text; the loader yields x, y (B, T) int64, y the next.

    Args:
        name: "python_docs" (comes with Python), "tiny_shakespeare", "wikitext-2" and "ptb" (in
            their published splits), or the path of a text file in UTF-8. A text without published
            splits is cut at 90 % and 95 % of its length.
        seq_len: T. In training, windows are cut anew each epoch from a random start and shuffled
            by the loader's own generator (`seed`); those of validation and test lie fixed and
            count every token, the last one being shorter (see `token_batches`).
        split: "train", "validation" (recipes are chosen on it) or "test" (looked at once).
        level: "character": all characters of the text are the vocabulary, those that only occur in
            validation or test too. "word": the words of the training split and "<unk>" for others.
        limit: only the first n windows of the split; the vocabulary is still that of all.
        vocab: one of another text, in which this one is to be written.
        max_words: the size of the vocabulary of words beside "<unk>".
    Raises: TypeError, ValueError naming the argument; ValueError for a file that is no text or too
    short; DataUnavailable for files that are missing or damaged, saying where to put them.
    """
    one_of("split", split, PARTS)
    data = read_text(name, level, vocab, max_words)
    loader = data.batches(split, seq_len, batch_size, seed, limit)
    return loader, data.vocab


def read_text(
    name: str | os.PathLike[str] = "python_docs",
    level: str = "character",
    vocab: Vocabulary | None = None,
    max_words: int | None = None,
) -> TextData:
    """All three splits of a text; arguments and errors as in `get_lm_dataset`."""
    one_of("level", level, LEVELS)
    if vocab is not None:
        _check_vocab(vocab, level, max_words)
    corpus = read_corpus(name, level)
    parts = _cut(corpus, level)
    if vocab is None:
        seen = "".join(corpus.texts) if level == "character" else parts["train"]
        vocab = Vocabulary.of_symbols(seen, level, max_words)
    each = {k: len(text_of(part, level)) / max(1, len(part)) for k, part in parts.items()}
    tokens = {k: vocab.encode_symbols(part) for k, part in parts.items()}
    return TextData(
        corpus.name, **tokens, vocab=vocab, characters_per_token=each, sha256=corpus.sha256
    )


def _check_vocab(vocab: object, level: str, max_words: int | None) -> None:
    if not isinstance(vocab, Vocabulary):
        raise TypeError(f"vocab must be a Vocabulary or None, got {shown(vocab)}")
    if vocab.level != level:
        raise ValueError(f"vocab must be one of level {level!r}, got one of {vocab.level!r}")
    if max_words is not None:
        raise ValueError(f"max_words must be None where a vocab is given, got {shown(max_words)}")


def _cut(corpus: Corpus, level: str) -> dict[str, Sequence[str]]:
    """The symbols of each split: as published, or one text cut in three."""
    pieces = [symbols_of(text, level) for text in corpus.texts]
    if len(pieces) == 1:
        whole = pieces[0]
        first, second = (int(len(whole) * cut) for cut in CUTS)
        pieces = [whole[:first], whole[first:second], whole[second:]]
    return dict(zip(PARTS, pieces, strict=True))

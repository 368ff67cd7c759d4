"""Symbols and their numbers: there and back, equal for equal texts, and strict about others."""

from __future__ import annotations

import string

import numpy as np
import pytest
import torch

from eqprop_lab import Vocabulary


def test_characters_go_there_and_back() -> None:
    vocab = Vocabulary.of("to be, or\nnot to be")
    assert vocab.symbols == tuple("\n ,benort") and len(vocab) == 9 and vocab.level == "character"
    tokens = vocab.encode("not\nto be")
    assert tokens.dtype == torch.int64 and tokens.tolist() == [5, 6, 8, 0, 8, 6, 1, 3, 4]
    for form in (tokens, tokens.tolist(), tokens.numpy(), tokens.to(torch.int32)):
        assert vocab.decode(form) == "not\nto be"
    assert vocab.encode("").shape == (0,) and vocab.decode([]) == ""
    assert "b" in vocab and "x" not in vocab and 3 not in vocab


def test_words_are_what_stands_between_spaces_and_line_ends_are_words() -> None:
    text = "the cat saw\nthe  dog\n\nthe end"
    vocab = Vocabulary.of(text, "word")
    assert vocab.symbols == ("<unk>", "\n", "the", "cat", "dog", "end", "saw")
    assert vocab.encode(text).tolist() == [2, 3, 6, 1, 2, 4, 1, 1, 2, 5]
    assert vocab.decode(vocab.encode(text)) == "the cat saw\nthe dog\n\nthe end"
    assert vocab.decode(vocab.encode("the bird\nsaw")) == "the <unk>\nsaw"
    assert Vocabulary.of(text, "word", max_words=2).symbols == ("<unk>", "\n", "the")
    # "<unk>" of a published text is the same word, once
    assert Vocabulary.of("a <unk> <unk>", "word").symbols == ("<unk>", "a")


@pytest.mark.parametrize("text", ["naïve\u2028 façade 😀\x85", "a\tb\x0b c\rd"])
def test_any_unicode_goes_there_and_back(text: str) -> None:
    vocab = Vocabulary.of(text)
    assert vocab.decode(vocab.encode(text)) == text and len(vocab) == len(set(text))


def test_unknown_characters_are_named_and_counted() -> None:
    with pytest.raises(ValueError, match="the 9 characters of the vocabulary, got 'é', '😀'$"):
        Vocabulary.of("to be, or\nnot").encode("too é😀é")
    with pytest.raises(ValueError, match="got '0', '1', '2', '3', '4' and 5 more"):
        Vocabulary("ab").encode("0123456789a")
    with pytest.raises(ValueError, match="2 words of the vocabulary, got 'bird'"):
        Vocabulary(("a", "b"), "word").encode("a bird")
    with pytest.raises(ValueError, match="got '.*ud800'"):
        Vocabulary.ascii().encode("\ud800")


def test_printable_ascii_and_shakespeare() -> None:
    printable = set(string.printable) - set("\t\r\x0b\x0c")
    assert set(Vocabulary.ascii().symbols) == printable and len(Vocabulary.ascii()) == 96
    assert len(Vocabulary.shakespeare()) == 65
    assert Vocabulary.shakespeare() == Vocabulary.of("".join(Vocabulary.shakespeare().symbols))


def test_a_state_of_plain_values_makes_an_equal_vocabulary() -> None:
    for vocab in (Vocabulary.ascii(), Vocabulary.of("a b\na", "word")):
        again = Vocabulary.from_state(vocab.state)
        assert again == vocab and hash(again) == hash(vocab) and again.digest == vocab.digest
        assert type(vocab.state["symbols"]) is list and type(vocab.state["symbols"][0]) is str
    assert Vocabulary("ab") != Vocabulary("ba")
    assert Vocabulary("ab") != Vocabulary("ab", "word")
    assert Vocabulary("ab").digest != Vocabulary("ba").digest
    for state in ({}, {"level": "word"}, None, {"level": "character", "symbols": ["ab"]}):
        with pytest.raises((TypeError, ValueError), match="must"):
            Vocabulary.from_state(state)


@pytest.mark.parametrize(
    ("symbols", "level", "message"),
    [
        ((), "character", "at least one"),
        ("", "character", "at least one"),
        (3, "character", "symbols must be a text or a list"),
        (("ab",), "character", "one character, got 'ab'"),
        ((3,), "character", "one character, got 3"),
        (("a b",), "word", "without spaces, got 'a b'"),
        (("",), "word", "without spaces, got ''"),
        ("aba", "character", "differ, got 'a' twice"),
    ],
)
def test_what_is_no_vocabulary(symbols: object, level: str, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Vocabulary(symbols, level)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0, 2], "from 0 to 1, got 0 to 2"),
        ([-1], "from 0 to 1, got -1"),
        ([[0]], r"one sequence \(N,\) of integers, got shape \(1, 1\)"),
        (1, r"one sequence .* got 1 \(int\)"),
        ([[0], [0, 1]], "one sequence"),
        ("ab", "one sequence"),
        ([2**70], "integers, got object"),
        (np.array([0.0]), "integers, got float64"),
        (torch.tensor([True]), "integers, got bool"),
    ],
)
def test_what_is_no_list_of_tokens(tokens: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Vocabulary("ab").decode(tokens)


def test_what_is_no_text() -> None:
    for call in (Vocabulary("ab").encode, Vocabulary.of):
        with pytest.raises(TypeError, match=r"text must be a str, got b'ab' \(bytes\)"):
            call(b"ab")
    with pytest.raises(ValueError, match="max_words must be None at level 'character'"):
        Vocabulary.of("ab", max_words=3)

"""Texts by name and from files: splits that share nothing, one vocabulary, errors that say what is
wrong.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from eqprop_lab import DataUnavailable, Vocabulary, get_lm_dataset
from eqprop_lab.datasets import corpora, read_text, text_files
from tests.datasets.texts import PLAY, small_shakespeare

PARTS = ("train", "validation", "test")


def test_the_snippet_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = small_shakespeare(tmp_path, monkeypatch)
    train_loader, vocab = get_lm_dataset("tiny_shakespeare", seq_len=128)
    assert len(vocab) == 65 and vocab == Vocabulary.shakespeare() == train_loader.vocab
    x, y = next(iter(train_loader))
    assert x.shape[1] == y.shape[1] == 128 and torch.equal(x[:, 1:], y[:, :-1])
    assert vocab.decode(x[0]) in text and train_loader.characters_per_token == 1.0


def test_splits_are_the_text_in_three_and_no_window_crosses(tmp_path: Path) -> None:
    text = "".join(chr(200 + i) for i in range(1000))
    file = tmp_path / "own.txt"
    file.write_text(text, encoding="utf-8")
    data = read_text(file)
    assert [len(getattr(data, part)) for part in PARTS] == [900, 50, 50]
    assert "".join(data.vocab.decode(getattr(data, part)) for part in PARTS) == text
    seen = {}
    for part in PARTS:
        loader, vocab = get_lm_dataset(str(file), 7, 4, part)
        assert vocab == data.vocab and loader.shuffle == (part == "train")
        seen[part] = {
            int(t) for _ in range(30) for x, y in loader for t in (*x.view(-1), *y[:, -1])
        }
    assert seen["train"] == set(range(900))
    assert seen["validation"] == set(range(900, 950)) and seen["test"] == set(range(950, 1000))


def test_a_limit_is_a_number_of_windows_of_the_same_vocabulary() -> None:
    for part in PARTS:
        loader, vocab = get_lm_dataset("python_docs", 16, 4, part, limit=10)
        assert len(loader) == 3 and sum(len(x) for x, _ in loader) == 10
        assert all(x.shape[1] == 16 for x, _ in loader)
        assert vocab == get_lm_dataset("python_docs", split=part)[1]
    assert len(get_lm_dataset("python_docs", 16, split="test", limit=10**6)[0]) == len(
        get_lm_dataset("python_docs", 16, split="test")[0]
    )


def test_the_embedded_text_is_prose_without_repeats_and_tells_its_checksum() -> None:
    data = read_text()
    text = "".join(data.vocab.decode(getattr(data, part)) for part in PARTS)
    paragraphs = text.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs) > 300 and len(text) > 80_000
    assert text.isascii() and set(text) <= set(Vocabulary.ascii().symbols)
    assert sum(c.isalpha() or c in " \n.," for c in text) > 0.93 * len(text)
    assert hashlib.sha256(text.encode()).hexdigest() == data.sha256
    assert not any(line.startswith((">>>", "   ::=")) for line in text.split("\n"))


@pytest.mark.parametrize(
    ("paragraph", "prose"),
    [
        ("a" * 80, False),
        ("a" * 81, True),
        ("é" + "a" * 81, False),
        ("a" * 93 + ">" * 7, False),
        ("a" * 94 + ">" * 6, True),
        ("a, b.\n" * 20, True),
    ],
)
def test_what_is_prose(paragraph: str, prose: bool) -> None:
    assert corpora.is_prose(paragraph) is prose


def test_a_python_without_help_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataUnavailable, match="comes without its help topics"):
        get_lm_dataset("python_docs")


def test_words_come_from_training_and_others_are_unknown(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("aa bb cc\n" * 90 + "aa zz\n" * 10, encoding="utf-8")
    data = read_text(file, "word")
    assert set(data.vocab.symbols) == {"<unk>", "aa", "bb", "cc", "\n"}
    assert "<unk>" in data.vocab.decode(data.test) and "zz" not in data.vocab.decode(data.test)
    # "aa bb cc\n" has 9 characters and 4 words, one of which is the line end, without a space
    assert data.characters_per_token["train"] == pytest.approx(9 / 4, abs=0.01)
    loader, vocab = get_lm_dataset(file, 5, split="test", level="word", max_words=2)
    assert len(vocab) == 3 and loader.characters_per_token == data.characters_per_token["test"]


def test_a_text_in_the_vocabulary_of_another(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text(PLAY * 30, encoding="utf-8")
    own = Vocabulary.ascii()
    loader, vocab = get_lm_dataset(file, 20, vocab=own)
    assert vocab is own and vocab.decode(next(iter(loader))[0][0]) in PLAY * 3
    with pytest.raises(ValueError, match="characters of the vocabulary, got 'R', 'O'"):
        get_lm_dataset(file, 20, vocab=Vocabulary("abc"))
    with pytest.raises(ValueError, match="vocab must be one of level 'word'"):
        get_lm_dataset(file, 20, vocab=own, level="word")
    with pytest.raises(TypeError, match="vocab must be a Vocabulary or None, got 65"):
        get_lm_dataset(file, 20, vocab=65)
    words = Vocabulary.of(PLAY, "word")
    with pytest.raises(ValueError, match="max_words must be None where a vocab is given"):
        get_lm_dataset(file, 20, vocab=words, level="word", max_words=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "own.txt is empty"),
        (b" \n\n", "own.txt is empty"),
        (b"\xef\xbb\xbf", "own.txt is empty"),
        (b"abc\0def", r"no text: it has a byte 0 at 3 \(binary\?\)"),
        (b"caf\xe9 " * 99, "own.txt must be a text in UTF-8: .* at byte 3"),
    ],
)
def test_a_file_that_is_no_text(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        get_lm_dataset(file)


@pytest.mark.parametrize(("part", "count"), [("train", 180), ("validation", 10), ("test", 10)])
def test_a_text_that_is_too_short(part: str, count: int, tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("a" * 200, encoding="utf-8")
    where = f"seq_len must be less than the {count} characters of the {part} split of own.txt"
    with pytest.raises(ValueError, match=f"{where}, got {count}; take shorter windows"):
        get_lm_dataset(file, count, split=part)
    assert len(get_lm_dataset(file, count - 1, split=part)[0]) == 1


def test_line_ends_and_the_byte_order_mark_are_those_of_no_system(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\rthree\n" * 20)
    data = read_text(file)
    assert data.vocab.decode(data.train).startswith("one\ntwo\nthree\none")
    assert "\r" not in data.vocab and "\ufeff" not in data.vocab


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="absent.txt cannot be read: No such file"):
        get_lm_dataset(tmp_path / "absent.txt")
    with pytest.raises(ValueError, match="is a folder; give a text file"):
        get_lm_dataset(tmp_path)
    with pytest.raises(ValueError, match="path of a text file.* mean 'tiny_shakespeare'"):
        get_lm_dataset("tiny_shakespear")
    with pytest.raises(ValueError, match="split must be one of 'train', 'validation', 'test'"):
        get_lm_dataset(split="val")


@pytest.mark.parametrize("name", ["tiny-shakespeare", "TinyShakespeare", "tiny shakespeare"])
def test_any_usual_spelling(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_shakespeare(tmp_path, monkeypatch)
    assert len(get_lm_dataset(name, 20)[1]) == 65


Answer = Callable[..., io.BytesIO]


def answering(content: bytes) -> Answer:
    return lambda url, timeout: io.BytesIO(content)


def test_shakespeare_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = small_shakespeare(tmp_path, monkeypatch)
    file = tmp_path / corpora.TINY_SHAKESPEARE.file
    file.unlink()
    monkeypatch.setattr(text_files.urllib.request, "urlopen", answering(text.encode()))
    first = read_text("tiny_shakespeare")
    assert file.read_text(encoding="utf-8") == text
    monkeypatch.setattr(text_files.urllib.request, "urlopen", None)
    assert torch.equal(read_text("tiny_shakespeare").train, first.train)
    file.write_bytes(text.encode()[:-1])
    with pytest.raises(DataUnavailable, match=r"input.txt is damaged .* Remove it"):
        read_text("tiny_shakespeare")


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"", b"x" * 10**6, None])
def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, timeout: float) -> io.BytesIO:
        raise URLError("no network")

    small_shakespeare(tmp_path, monkeypatch)
    (tmp_path / corpora.TINY_SHAKESPEARE.file).unlink()
    answer = offline if content is None else answering(content)
    monkeypatch.setattr(text_files.urllib.request, "urlopen", answer)
    with pytest.raises(DataUnavailable, match="EQPROP_DATA_DIR") as caught:
        get_lm_dataset("tiny_shakespeare")
    assert "tiny_shakespeare/input.txt is missing" in str(caught.value)
    assert str(tmp_path) in str(caught.value) and "python_docs" in str(caught.value)
    assert list((tmp_path / "tiny_shakespeare").iterdir()) == []

"""Corpora with published splits: from files, from a stand-in for the hub, and without both."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import DataUnavailable, get_lm_dataset
from eqprop_lab.datasets import published, read_text

PARTS = ("train", "validation", "test")
LEVELS = ("word", "character")
CORPORA = [(name, level) for name in published.PUBLISHED for level in LEVELS]
# As the files have them: spaces at the ends, empty lines, and words that training has not.
LINES = {
    "train": [" ", " = Valkyria = ", " the <unk> of the game , and the music ", " "] * 4,
    "validation": [" the music of the game ", " "] * 3,
    "test": [" the game of Valkyria chronicles ", " "] * 2,
}


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpora with as few lines as LINES, in a data folder of the test, and no hub."""
    counts = tuple(len(LINES[part]) for part in PARTS)
    for levels in published.PUBLISHED.values():
        for level, entry in list(levels.items()):
            monkeypatch.setitem(levels, level, replace(entry, lines=counts))
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)


def write_files(name: str, level: str, folder: Path) -> list[Path]:
    files = [folder / file for file in published.PUBLISHED[name][level].files]
    for file, part in zip(files, PARTS, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in LINES[part]), encoding="utf-8")
    return files


class Hub(types.ModuleType):
    """`datasets`, giving rows as the hub's own tables have them; `asked` says for what."""

    def __init__(self, column: str, **other: list[str]) -> None:
        super().__init__("datasets")
        self.asked: list[Any] = []
        rows = {
            part: [f"{line}\n" if line.strip() else "" for line in LINES[part]] for part in PARTS
        }
        self.parts = {part: {column: lines} for part, lines in (rows | other).items()}

    def load_dataset(self, path: str, **options: str) -> dict[str, dict[str, list[str]]]:
        self.asked.append((path, options))
        return self.parts


def hub(monkeypatch: pytest.MonkeyPatch, column: str, **other: list[str]) -> Hub:
    module = Hub(column, **other)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


@pytest.mark.parametrize(("name", "level"), CORPORA)
def test_local_files_are_read_in_their_splits(name: str, level: str, tmp_path: Path) -> None:
    write_files(name, level, tmp_path)
    data = read_text(name, level)
    lines = {part: [line.strip() for line in LINES[part]] for part in PARTS}
    assert data.vocab.decode(data.train) == "".join(f"{line}\n" for line in lines["train"])
    words = "".join(f"{line}\n" for line in lines["test"])
    if level == "word":
        assert set(data.vocab.symbols) == {"\n", *" ".join(lines["train"]).split()}
        assert data.vocab.symbols[0] == "<unk>" and len(data.train) == 16 + 4 * 12
        words = words.replace("chronicles", "<unk>")
    assert data.vocab.decode(data.test) == words
    loader, vocab = get_lm_dataset(name, 5, split="validation", level=level)
    assert vocab == data.vocab and len(data.validation) == len(loader.split) + 1


@pytest.mark.parametrize(("name", "level"), CORPORA)
def test_the_hub_gives_the_same_as_the_files_and_is_asked_once(
    name: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published.PUBLISHED[name][level]
    module = hub(monkeypatch, entry.column)
    first = read_text(name, level)
    assert torch.equal(read_text(name, level).train, first.train)
    cache = {"cache_dir": str(tmp_path / "huggingface")}
    assert module.asked == [(entry.repository, cache | dict(entry.options))]
    write_files(name, level, tmp_path)
    files = read_text(name, level)
    assert files.sha256 == first.sha256 and files.vocab == first.vocab


def test_without_extra_or_network_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataUnavailable, match="extra 'datasets' is not installed") as caught:
        get_lm_dataset("ptb")
    told = str(caught.value)
    assert "ptb/ptb.train.txt" in told and "eqprop_lab[datasets]" in told and str(tmp_path) in told

    def offline(path: str, **_: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    module = hub(monkeypatch, "text")
    monkeypatch.setattr(module, "load_dataset", offline)
    with pytest.raises(DataUnavailable, match="did not give it .Couldn't reach.*EQPROP_DATA_DIR"):
        get_lm_dataset("wikitext-2", level="word")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [["one"], ["two\nlines", "b", "c", "d"]])
def test_another_text_from_the_hub_is_not_written_down(
    rows: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(monkeypatch, "sentence", test=rows)
    with pytest.raises(DataUnavailable, match="another text: .* for ptb/ptb.test.txt, not 4"):
        get_lm_dataset("ptb")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    files = write_files("ptb", "word", tmp_path)
    whole = files[1].read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "ptb.valid.txt is damaged or another text: it has 3 lines"),
        (b"caf\xe9\n" * 6, "ptb.valid.txt must be a text in UTF-8"),
        (b"", "ptb.valid.txt is empty"),
    ):
        files[1].write_bytes(content)
        with pytest.raises(DataUnavailable, match=f"text 'ptb': .*{message}"):
            get_lm_dataset("ptb", level="word")
    files[1].unlink()
    with pytest.raises(DataUnavailable, match=r"ptb.valid.txt is missing .* beside ptb/ptb.train"):
        get_lm_dataset("ptb", level="word")

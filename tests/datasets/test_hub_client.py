"""Published corpora through the real client of the extra `datasets`: tables on disk laid out as the
hub has them, and no network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eqprop_lab import DataUnavailable
from eqprop_lab.datasets import published, read_text

datasets = pytest.importorskip("datasets", reason="needs the extra datasets")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

PARTS = ("train", "validation", "test")
LINES = {
    "train": ["", " = Valkyria = ", " the <unk> of the game "] * 4,
    "validation": [" the game ", ""] * 3,
    "test": [" music of the game "] * 2,
}


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder of the test, and a client that asks nobody."""
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.utils.logging.disable_progress_bar()


def write_table(path: Path, column: str, part: str) -> None:
    """The lines of a part as a file of the hub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{line}\n" if line else "" for line in LINES[part]]
    parquet.write_table(arrow.table({column: rows}), path)


def wikitext(folder: Path, configuration: str) -> None:
    """Files of one configuration, which a card names, beside those of another."""
    names = (configuration, "another")
    for part in PARTS:
        write_table(folder / configuration / f"{part}-00000-of-00001.parquet", "text", part)
        write_table(folder / "another" / f"{part}-00000-of-00001.parquet", "text", "test")
    card = ["---", "configs:"]
    for name in names:
        card += [f"- config_name: {name}", "  data_files:"]
        card += [f"  - split: {part}\n    path: {name}/{part}-*" for part in PARTS]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")


def ptb(folder: Path, configuration: str) -> None:
    """Tables that the hub made of a script: a folder a part, and no card."""
    for part in PARTS:
        write_table(folder / "penn_treebank" / part / "0000.parquet", "sentence", part)


LAYOUTS: dict[str, Callable[[Path, str], None]] = {"wikitext-2": wikitext, "ptb": ptb}


@pytest.mark.parametrize(
    ("name", "level"), [("wikitext-2", "word"), ("wikitext-2", "character"), ("ptb", "word")]
)
def test_the_client_s_tables_become_the_published_files(
    name: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published.PUBLISHED[name][level]
    LAYOUTS[name](tmp_path / "hub", entry.options.get("name", ""))
    counts = (len(LINES["train"]), len(LINES["validation"]), len(LINES["test"]))
    local = replace(entry, repository=str(tmp_path / "hub"), lines=counts)
    monkeypatch.setitem(published.PUBLISHED[name], level, local)
    first = read_text(name, level)
    for part in PARTS:
        text = "".join(f"{line.strip()}\n" for line in LINES[part])
        unknown = text.replace("music", "<unk>") if level == "word" else text
        assert first.vocab.decode(getattr(first, part)) == unknown
    monkeypatch.setattr(datasets, "load_dataset", None)  # nobody is asked a second time
    assert read_text(name, level).sha256 == first.sha256


@pytest.mark.parametrize("name", ["wikitext-2", "ptb"])
def test_without_a_network_the_client_s_reason_is_told(name: str, tmp_path: Path) -> None:
    repository = published.PUBLISHED[name]["word"].repository
    with pytest.raises(DataUnavailable, match=f"the hub did not give it .*{repository}") as caught:
        read_text(name, "word")
    told = str(caught.value)
    assert "go online" in told and "install" not in told and "EQPROP_DATA_DIR" in told
    assert not list((tmp_path / "data").rglob("*.t*"))

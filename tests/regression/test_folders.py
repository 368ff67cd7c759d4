from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.files import replace_text
from eqprop_lab.regression.folders import FolderError, ensure_writable, locked
from eqprop_lab.regression.publish import FigureError, figure_changes, read_index
from eqprop_lab.regression.swap import swap


def figures(folder: Path, **notebooks: str) -> Path:
    folder.mkdir()
    for name in notebooks:
        (folder / f"{name}.png").write_bytes(name.encode())
        (folder / f"{name}.svg").write_bytes(b"<svg/>")
    index = {name: {"notebook": notebook, "alt": "curve"} for name, notebook in notebooks.items()}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    replace_text(path, "old")
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_and_full_folders_are_named_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write to the output folder .*file"):
        ensure_writable(tmp_path / "file")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1))
    with pytest.raises(FolderError, match="0 MB free, 50 MB needed"):
        ensure_writable(tmp_path)


def test_figures_of_one_notebook_are_replaced(tmp_path: Path) -> None:
    source = figures(tmp_path / "runs", nb00_new="00_a", nb01_x="01_b")
    target = figures(tmp_path / "figures", nb00_old="00_a", nb02_y="02_c")
    changes, names = figure_changes(source, target, "00_a")
    assert names == ["nb00_new"]
    swap(changes, tmp_path)
    assert set(read_index(target)) == {"nb00_new", "nb02_y"}
    assert sorted(path.name for path in target.glob("*.png")) == ["nb00_new.png", "nb02_y.png"]
    assert (target / "nb00_new.png").read_bytes() == b"nb00_new"


def test_a_notebook_without_figures_changes_nothing(tmp_path: Path) -> None:
    assert figure_changes(tmp_path / "absent", tmp_path / "figures", "00_a") == ({}, [])
    figures(tmp_path / "figures", nb02_y="02_c")
    assert figure_changes(tmp_path / "absent", tmp_path / "figures", "00_a") == ({}, [])


def test_a_figure_of_another_notebook_is_not_overwritten(tmp_path: Path) -> None:
    source = figures(tmp_path / "runs", nb00_x="00_a")
    target = figures(tmp_path / "figures", nb00_x="01_b")
    with pytest.raises(
        FigureError, match="figure 'nb00_x' belongs to 01_b: give it a name of its own"
    ):
        figure_changes(source, target, "00_a")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nb00_x": 3}', "[" * 100_000, "null", "\xff"])
def test_an_index_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    folder = figures(tmp_path / "figures", nb00_x="00_a")
    (folder / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FigureError, match="figures/index.json .*: restore it, or remove it"):
        read_index(folder)


def test_a_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "runs", "give another --output"):
        with pytest.raises(
            FolderError,
            match="another run is at work in .*runs: wait for it, or give another --output",
        ):
            with locked(tmp_path / "runs", "give another --output"):
                pass
    with locked(tmp_path / "runs", "give another --output"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write to the output folder .*file"):
        with locked(tmp_path / "file", ""):
            pass

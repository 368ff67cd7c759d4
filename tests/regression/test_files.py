from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.regression.files import (
    FolderError,
    drop_figures,
    ensure_writable,
    publish_figures,
    read_index,
    write_text,
)


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
    write_text(path, "old")
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_and_full_folders_are_named_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert publish_figures(source, target, "00_a") == ["nb00_new"]
    assert set(read_index(target)) == {"nb00_new", "nb02_y"}
    assert sorted(path.name for path in target.glob("*.png")) == ["nb00_new.png", "nb02_y.png"]
    assert (target / "nb00_new.png").read_bytes() == b"nb00_new"


def test_a_notebook_without_figures_changes_nothing(tmp_path: Path) -> None:
    assert publish_figures(tmp_path / "absent", tmp_path / "figures", "00_a") == []
    assert not (tmp_path / "figures").exists()
    drop_figures(tmp_path / "figures", "00_a")

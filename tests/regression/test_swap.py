"""Files that change together: after an error, or a kill at any step, all of them are old or all of
them are new.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.regression import swap as module
from eqprop_lab.regression.swap import RECORD, recover, swap

OLD = {"notebooks/a.ipynb": b"old", "figures/gone.png": b"gone", "figures/index.json": b"{}"}
NEW = {"notebooks/a.ipynb": b"new", "figures/fresh.png": b"fresh", "figures/index.json": b"{1}"}
CHANGES: dict[str, bytes | None] = {**NEW, "figures/gone.png": None}


class Killed(BaseException):
    """Stands for SIGKILL: nothing that runs afterwards belongs to the killed process."""


def files(root: Path) -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in OLD.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def run(root: Path) -> None:
    swap({root / name: content for name, content in CHANGES.items()}, root)


def failing(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> list[str]:
    """Let the call number `at` that touches the disk raise; gives the list of the calls made."""
    calls: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*args: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == at:
                raise error
            return call(*args, **options)

        return instead

    monkeypatch.setattr(os, "replace", counted("replace", os.replace))
    monkeypatch.setattr(os, "fsync", counted("fsync", os.fsync))
    monkeypatch.setattr(Path, "unlink", counted("unlink", Path.unlink))
    monkeypatch.setattr(Path, "open", counted("open", Path.open))
    return calls


def steps(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a whole swap touches the disk; `root` is as before afterwards."""
    calls = failing(monkeypatch, 0, OSError())
    run(root)
    monkeypatch.undo()
    assert files(root) == NEW and len(calls) > 20
    restore(root)
    return len(calls)


def restore(root: Path) -> None:
    for name in files(root):
        (root / name).unlink()
    for name, content in OLD.items():
        (root / name).write_bytes(content)


def test_an_error_at_any_step_leaves_everything_as_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for at in range(1, steps(root, monkeypatch) + 1):
        failing(monkeypatch, at, OSError(28, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            run(root)
        monkeypatch.undo()
        # Only an error in tidying up, behind a swap that is done, leaves something to the next run.
        tidy = RECORD not in files(root)
        recover(root)
        assert files(root) in (OLD, NEW) and (tidy or files(root) == NEW), at
        seen.append(files(root) == NEW)
        restore(root)
    assert seen == sorted(seen) and not seen[0] and seen[-1]


def test_a_kill_at_any_step_leaves_one_state_or_the_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for at in range(1, steps(root, monkeypatch) + 1):
        calls = failing(monkeypatch, at, Killed())

        def dead_or_alive(place: Path, calls: list[str] = calls, at: int = at) -> list[str]:
            # A killed process undoes nothing: the recovery is that of the next run.
            if len(calls) >= at:
                raise Killed
            return recover(place)

        monkeypatch.setattr(module, "recover", dead_or_alive)
        with pytest.raises(Killed):
            run(root)
        monkeypatch.undo()
        recover(root)
        assert files(root) in (OLD, NEW), at
        seen.append(files(root) == NEW)
        restore(root)
    assert seen == sorted(seen) and not seen[0] and seen[-1]


def test_a_real_kill_between_two_renames_is_undone_by_the_next_run(root: Path) -> None:
    code = f"""
import os, pathlib, signal
from eqprop_lab.regression.swap import swap
replace, done = os.replace, []
def once(source, target):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if target.name == "a.ipynb":
        done.append(target)
os.replace = once
root = pathlib.Path({str(root)!r})
swap({{root / name: content for name, content in {CHANGES!r}.items()}}, root)
"""
    child = subprocess.run([sys.executable, "-c", code], check=False)
    assert child.returncode == -signal.SIGKILL
    assert (root / "notebooks/a.ipynb").read_bytes() == b"new" and (root / RECORD).exists()
    assert recover(root) == ["notebooks/a.ipynb: put back, the update was cut off"]
    assert files(root) == OLD and recover(root) == []


def test_an_edit_made_after_a_kill_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[Path] = []
    replace = os.replace

    def once(source: Path, target: Path) -> None:
        if replaced:
            raise Killed
        replace(source, target)
        replaced.extend([target] if target.name == "a.ipynb" else [])

    monkeypatch.setattr(os, "replace", once)
    monkeypatch.setattr(module, "recover", lambda place: [])
    with pytest.raises(Killed):
        run(root)
    monkeypatch.undo()
    (root / "notebooks/a.ipynb").write_bytes(b"mine")
    lines = recover(root)
    assert lines == ["notebooks/a.ipynb: edited since an update was cut off, left as it is"]
    assert files(root) == OLD | {"notebooks/a.ipynb": b"mine"}


def test_links_and_modes_are_kept(root: Path) -> None:
    place = root / "elsewhere.ipynb"
    (root / "notebooks/a.ipynb").rename(place)
    (root / "notebooks/a.ipynb").symlink_to(place)
    place.chmod(0o640)
    run(root)
    assert (root / "notebooks/a.ipynb").is_symlink() and place.read_bytes() == b"new"
    assert place.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"done": false}', '{"done": false, "files": [{}]}', "null"]
)
def test_a_record_that_is_none_is_named(root: Path, text: str) -> None:
    (root / RECORD).write_text(text)
    with pytest.raises(
        ValueError, match="update.json is no record of an update: look at `git status`"
    ):
        recover(root)

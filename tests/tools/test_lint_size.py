"""The picture of the package's size: counted rightly, compared with the last tag, and no gate."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.lint_size import last_release, main, measure, rooms, sources_now, table


def test_the_picture_of_this_package(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root)]) == 0
    out = capsys.readouterr().out
    names = [line.split()[0] for line in out.splitlines()]
    assert names[0] == "room"
    assert {"equilibrium", "notebook", "regression", "all"} <= set(names)


def test_what_is_counted() -> None:
    source = f"""
def f(x: int) -> int:
    a, b = g(x), g(2)
    rows, columns = 2, 3
    c = a; d = b
    return {"c" * 101}

class P:
    def stub(self) -> None: ...
"""
    counts = {"files": 1, "lines": 9, "statements": 9, "long": 1, "packed": 2}
    assert dict(measure(source)) == counts


def test_rooms_are_folders_and_loose_files_are_at_the_top() -> None:
    found = rooms({"a.py": "x = 1", "b.py": "", "models/c.py": "y = 1\nz = 1\n"})
    assert {room: (row["files"], row["lines"]) for room, row in found.items()} == {
        "(top)": (2, 1),
        "models": (1, 2),
    }


def test_no_package_is_the_only_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no eqprop_lab package" in capsys.readouterr().err
    file = tmp_path / "eqprop_lab" / "models" / "long.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n" * 5000, encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert "no tag yet" in capsys.readouterr().out


def test_the_change_is_since_the_last_tag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*arguments: str) -> None:
        name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *name, *arguments], check=True)

    (tmp_path / "eqprop_lab" / "old").mkdir(parents=True)
    (tmp_path / "eqprop_lab" / "files.py").write_text("x = 1\n")
    (tmp_path / "eqprop_lab" / "old" / "gone.py").write_text("y = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert last_release(tmp_path) is None
    git("tag", "v0.1.0")
    (tmp_path / "eqprop_lab" / "old" / "gone.py").unlink()
    (tmp_path / "eqprop_lab" / "files.py").write_text("x = 1\nz = 2\nw = 3\n")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[-2:] for line in out.splitlines()[1:4]}
    assert rows == {"(top)": ["+2", "+2"], "old": ["-1", "-1"], "all": ["+1", "+1"]}
    assert "changes are since v0.1.0" in out


def test_without_a_tag_there_are_no_columns_of_change(root: Path) -> None:
    now = rooms(sources_now(root))
    assert "+-" not in table(now, None)
    assert table(now, now).splitlines()[0].split()[-2:] == ["+-lines", "+-statements"]

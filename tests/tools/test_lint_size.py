"""The size limits hold for the package, and passing one is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.lint_size import CORE_LIMIT, FILE_LIMIT, check_size, code_lines, main


def test_this_package_is_within_its_limits(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root)]) == 0
    assert capsys.readouterr().out.startswith("package: ")


def test_at_the_limits_is_fine() -> None:
    figures, problems = check_size({"a.py": FILE_LIMIT, "equilibrium/b.py": FILE_LIMIT}, CORE_LIMIT)
    assert problems == []
    expected = f"package: {2 * FILE_LIMIT} lines in 2 files; core: {CORE_LIMIT} of {CORE_LIMIT} lines of code"
    assert figures == expected


def test_a_long_file_and_a_large_core_are_named() -> None:
    _, problems = check_size(
        {"training/trainer.py": 1, "models/other.py": FILE_LIMIT + 1}, CORE_LIMIT + 1
    )
    assert len(problems) == 2
    assert problems[0].startswith(f"models/other.py: {FILE_LIMIT + 1} lines")
    assert f"{CORE_LIMIT + 1} lines" in problems[1]


def test_only_code_counts_in_the_core() -> None:
    source = '''"""What it is.

    At length.
    """

import sys  # why


def f(x: int) -> str:
    """Says x."""
    # Because.
    text = """two
lines"""
    return text
'''
    assert code_lines(source) == 5


def test_files_are_counted_and_the_status_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no eqprop_lab package" in capsys.readouterr().err
    long = tmp_path / "eqprop_lab" / "models" / "long.py"
    long.parent.mkdir(parents=True)
    long.write_text("x = 1\n" * (FILE_LIMIT + 1), encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    assert "models/long.py" in capsys.readouterr().err

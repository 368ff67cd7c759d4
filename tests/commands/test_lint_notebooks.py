"""The notebook lint is found from where the package is, and says where it cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eqprop_lab.commands import lint_notebooks


def test_the_lint_is_found_from_any_folder_of_a_checkout(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eqprop_lab", "lint-notebooks", "00"],
        cwd=root / "notebooks",
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    # Whether 00 keeps the rules is another test's matter.
    assert done.returncode in (0, 1) and done.stdout.startswith("00_start_here: "), done.stderr


def test_an_installed_package_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (None, tmp_path):
        monkeypatch.setattr(lint_notebooks, "checkout", lambda place=place: place)
        assert lint_notebooks.main([]) == 2
        assert "error: lint-notebooks needs the checkout" in capsys.readouterr().err

"""Which browser is used, and what is said where there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.browser import chromium


def test_the_variable_wins_over_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "my-chromium"
    program.touch()
    monkeypatch.setenv(chromium.VARIABLE, str(program))
    assert chromium.find_chromium() == program


def test_a_variable_that_names_nothing_is_an_error_and_no_skip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(chromium.VARIABLE, "no/such/chromium")
    with pytest.raises(FileNotFoundError, match="no/such/chromium"):
        chromium.find_chromium()


def test_without_chromium_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(chromium.VARIABLE, raising=False)
    monkeypatch.setattr(chromium.shutil, "which", lambda command: None)
    monkeypatch.setattr(chromium, "PLACES", ())
    with pytest.raises(chromium.NoBrowser, match="install the package chromium"):
        chromium.find_chromium()


def test_without_playwright_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(chromium.NoBrowser, match="playwright is not installed"):
        with chromium.launched():
            pytest.fail("a browser was started")

"""Reading the series as a newcomer does, in JupyterLab with the project's settings: no questions, a
clean git.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import OpenNotebook
from tests.browser.pixels import white_blocks
from tests.browser.server import JupyterServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]

NAME = "00_start_here"


class Reader:
    """Somebody with a fresh home and a fresh clone, and a notebook open."""

    def __init__(self, browser: Browser, server: JupyterServer) -> None:
        self._browser, self._server = browser, server

    def open(self, name: str = NAME) -> OpenNotebook:
        return OpenNotebook(self._browser, self._server.url, f"notebooks/{name}.ipynb")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=self._server.root, capture_output=True, text=True, check=True
        ).stdout.strip()

    def settings(self) -> list[str]:
        """Settings that Lab wrote into the reader's own folder."""
        return sorted(
            path.name for path in (self._server.root.parent / "settings").rglob("*-settings")
        )


@pytest.fixture(scope="module")
def reader(
    browser: Browser, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    with JupyterServer(tmp_path_factory.mktemp("reader"), root) as server:
        shutil.copy(root / ".gitignore", server.root)
        reader = Reader(browser, server)
        reader.git("init", "--quiet")
        reader.git("add", ".")
        reader.git("commit", "--quiet", "-m", "Series")
        yield reader


def test_open_run_all_save_and_close_leave_git_clean_and_ask_nothing(reader: Reader) -> None:
    notebook = reader.open()
    try:
        ran = notebook.run_all()
        assert ran.errors == [] and set(ran.replies) == {"ok"}
        notebook.save()
        # Lab shows what was computed; on disk are the stored outputs.
        assert any(cell.get("outputs") for cell in notebook.cells())
        assert notebook.dialogs() == [] and notebook.toasts() == []
    finally:
        notebook.close()
    assert reader.git("status", "--porcelain") == ""
    assert "notification.jupyterlab-settings" not in reader.settings()


def test_a_dark_theme_has_no_white_blocks(reader: Reader, tmp_path: Path) -> None:
    notebook = reader.open()
    try:
        notebook.use_theme("JupyterLab Dark")
        notebook.run_all()
        assert notebook.live()
        for number, screen in enumerate(notebook.screens()):
            (tmp_path / f"{number}.png").write_bytes(screen)
            assert white_blocks(screen) == [], f"screen {number}"
    finally:
        notebook.close()


def test_what_a_reader_types_is_saved(reader: Reader) -> None:
    notebook = reader.open()
    try:
        assert notebook.dialogs_when_opened == []
        notebook.type_into_first_code_cell("# mine")
        notebook.save()
    finally:
        notebook.close()
    assert reader.git("status", "--porcelain") == f"M notebooks/{NAME}.ipynb"
    assert "# mine" in reader.git("diff")
    reader.git("checkout", "--quiet", ".")

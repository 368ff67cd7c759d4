"""Saving in JupyterLab: a notebook that was only read and run stays as committed, and nothing else
is kept back.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output
from traitlets.config import Config, PyFileConfigLoader

ROOT = Path(__file__).resolve().parents[1]
SERIES = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def config() -> Config:
    return PyFileConfigLoader("jupyter_server_config.py", str(ROOT / "jupyter")).load_config()


class Contents:
    """As much of a contents manager as the hook uses."""

    def __init__(self, root: Path) -> None:
        self.root_dir, self.log = str(root), logging.getLogger("contents")

    def save(self, path: str, content: dict[str, Any]) -> None:
        """As jupyter_server does it: a notebook through JSON, the hook, then the file."""
        model = {"type": "notebook", "content": json.loads(json.dumps(content))}
        config().ContentsManager.pre_save_hook(model=model, path=path, contents_manager=self)
        nbformat.write(
            nbformat.from_dict(model["content"]),
            Path(self.root_dir) / path,
            version=nbformat.NO_CONVERT,
        )


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    """A repository with the first notebook of the series, committed."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in SERIES:
        shutil.copy(ROOT / "notebooks" / name, folder)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "Series")
    return Contents(tmp_path)


def run(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """As JupyterLab leaves it after Run All: outputs, timing, widgets, the kernel's language."""
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 40):
        cell.execution_count = count
        cell.outputs = [new_output("stream", text="other\n")]
        cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
        cell.metadata["trusted"] = True
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    notebook.metadata["language_info"] = {"name": "python", "version": "3.14.0"}
    return notebook


def code(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The first code cell."""
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def fold(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A click on the blue bar beside a cell, and one on its outputs."""
    notebook.cells[3].metadata |= {
        "jupyter": {"source_hidden": True},
        "collapsed": True,
        "scrolled": True,
    }
    return notebook


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("change", [run, fold], ids=["run", "fold"])
def test_reading_a_notebook_leaves_git_clean(
    contents: Contents, name: str, change: Callable[[Any], Any]
) -> None:
    path = Path(contents.root_dir) / "notebooks" / name
    before = path.read_bytes()
    for _ in range(2):
        contents.save(f"notebooks/{name}", change(nbformat.read(path, 4)))
        assert path.read_bytes() == before
    assert git(path.parent, "status", "--porcelain") == ""


def write(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[4].source += "\n# mine"


def append(notebook: nbformat.NotebookNode) -> None:
    notebook.cells.append(new_code_cell("1 + 1"))


def tag(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[4].metadata["tags"] = ["mine"]


def attach(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[0]["attachments"] = {"a.png": {"image/png": "AAAA"}}


def slide(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[0].metadata["slideshow"] = {"slide_type": "slide"}


@pytest.mark.parametrize(
    "edit", [write, append, tag, attach, slide], ids=lambda edit: edit.__name__
)
def test_what_somebody_wrote_is_saved_with_its_outputs(
    contents: Contents, edit: Callable[[Any], None]
) -> None:
    path = Path(contents.root_dir) / "notebooks" / SERIES[0]
    page = run(nbformat.read(path, 4))
    edit(page)
    for text in ("first\n", "second\n"):
        # The second save finds these sources on disk: they are not git's, so the new outputs must
        # be saved again.
        code(page).outputs = [new_output("stream", text=text)]
        contents.save(f"notebooks/{SERIES[0]}", page)
        assert code(nbformat.read(path, 4)).outputs[0].text == text
    assert git(path.parent, "status", "--porcelain")


@pytest.mark.parametrize("name", ["my_first.ipynb", "00_copy.ipynb"])
def test_a_copy_keeps_what_the_reader_computed(contents: Contents, name: str) -> None:
    path = Path(contents.root_dir) / "notebooks" / name
    page = run(nbformat.read(path.with_name(SERIES[0]), 4))
    for text in ("first\n", "second\n"):
        code(page).outputs = [new_output("stream", text=text)]
        contents.save(f"notebooks/{name}", page)
        assert code(nbformat.read(path, 4)).outputs[0].text == text
    # Copies called my_... are the reader's own affair.
    assert git(path.parent, "status", "--porcelain").startswith("??") == (
        not name.startswith("my_")
    )


def test_a_notebook_of_somebody_else_is_saved(contents: Contents) -> None:
    path = Path(contents.root_dir) / "notebooks" / SERIES[0]
    page = nbformat.read(path, 4)
    del page.metadata["eqprop"]
    nbformat.write(page, path)
    git(path.parent, "commit", "--quiet", "-am", "Not the runner's")
    contents.save(f"notebooks/{SERIES[0]}", run(page))
    assert git(path.parent, "status", "--porcelain")


def test_without_git_everything_is_saved(
    contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(contents.root_dir) / "notebooks" / SERIES[0]
    page = run(nbformat.read(path, 4))
    monkeypatch.setenv("PATH", "")
    contents.save(f"notebooks/{SERIES[0]}", page)
    assert code(nbformat.read(path, 4)).outputs[0].text == "other\n"


def test_other_files_are_left_alone(contents: Contents) -> None:
    model = {"type": "file", "format": "text", "content": "text"}
    config().ContentsManager.pre_save_hook(model=model, path="notes.txt", contents_manager=contents)
    assert model["content"] == "text"


def test_news_from_the_internet_are_switched_off_in_a_setting_of_the_project() -> None:
    folder = Path(config().LabApp.app_settings_dir)
    assert folder == ROOT / "jupyter" / "settings"
    (overrides,) = json.loads((folder / "overrides.json").read_text()).values()
    assert overrides == {"fetchNews": "false", "checkForUpdates": False}

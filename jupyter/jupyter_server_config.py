"""JupyterLab for this project: `make lab`, or `python -m jupyterlab
--config=jupyter/jupyter_server_config.py`.

Nothing of the user's own settings is read or written here; what they set themselves goes before it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import nbformat

HERE = Path(__file__).resolve().parent
VIEW = ("collapsed", "execution", "jupyter", "scrolled", "trusted")
"""Metadata of a cell that looking at it and running it change: folded, timed, scrolled."""


def keep_stored_outputs(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Before a save: where a committed notebook was only read and run, what is on disk stays as it
    is.

    It was only read and run if git calls the file on disk unchanged and cells, their text, tags and
    attachments are those on disk. As soon as one differs, everything is saved as it is on the page.
    Notebooks whose outputs the runner of this project did not write, copies under another name
    among them, are always saved.
    """
    file = Path(contents_manager.root_dir) / path
    if model.get("type") != "notebook" or not file.is_file():
        return
    stored = nbformat.read(file, as_version=4)
    if (
        "eqprop" in stored.metadata
        and _authored(stored) == _authored(model["content"])
        and _unchanged(file)
    ):
        model["content"] = stored
        contents_manager.log.info("%s was only read and run: the stored outputs stay", path)


def _authored(notebook: dict[str, Any]) -> list[Any]:
    """What somebody wrote: type, text, attachments and metadata of the cells."""
    return [
        (
            cell["cell_type"],
            "".join(cell["source"]),
            cell.get("attachments") or {},
            {key: value for key, value in cell.get("metadata", {}).items() if key not in VIEW},
        )
        for cell in notebook["cells"]
    ]


def _unchanged(file: Path) -> bool:
    """Whether git has the file as it is; False where it is new or ignored, and without git."""
    command = [
        "git",
        "status",
        "--porcelain",
        "--ignored",
        "--untracked-files=all",
        "--",
        file.name,
    ]
    try:
        done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and not done.stdout.strip()


c = get_config()  # type: ignore[name-defined] # noqa: F821
c.ContentsManager.pre_save_hook = keep_stored_outputs
# Lab asks every new user about news from the internet, whatever news_url is; the setting answers.
c.LabApp.app_settings_dir = str(HERE / "settings")
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"

"""Editions of the series as folders that stand alone: notebooks, a wheel, pins, figures, data."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from eqprop_lab.course.instructor import instructor_edition
from eqprop_lab.course.masters import Master
from eqprop_lab.course.student import set_seed, student_edition
from eqprop_lab.course.wrong_answers import wrong_answers
from eqprop_lab.files import replace_text
from eqprop_lab.notebook.metrics import EDITION

Editions = Mapping[str, NotebookNode]  # by the name of the file
WHEEL_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "eqprop_lab")
WRITTEN = "written by `python -m eqprop_lab course build`\n"
INSTALL = """# {title}

{about}

Python 3.11 or newer. In this folder:

```console
python3 -m venv .venv
.venv/bin/python -m pip install -c constraints.txt "./{wheel}[lab]"
.venv/bin/python -m jupyterlab notebooks/{first}
```

On Linux without a GPU add `--extra-index-url https://download.pytorch.org/whl/cpu` to the second
line: it spares 2.5 GB. On Windows the folder `.venv/bin` is called `.venv\\Scripts`.
"""
STUDENT = """The notebooks of the course, without solutions. Work in them, and hand in the notebook
files themselves, under their names. Only what stands in the cell of an exercise is graded: imports
and helpers of an answer belong into its cell. An answer that calls what its check compares with, or
reaches a forbidden name in another way (`eval`, `globals`, `getattr` of a computed text), counts as
one that uses it."""
INSTRUCTOR = """The notebooks with solutions, wrong answers and what the check says to each, a clock
in the headings, and the lecturer's page below each title. `course/README.md` has the syllabus. Not
for students: the solutions are in it."""


NBGRADER = """# For nbgrader: copy beside its gradebook, and student/notebooks to source/ASSIGNMENT.
c = get_config()  # noqa: F821
c.ClearSolutions.enabled = False  # there are none, and the stubs are to stay
c.ExecutePreprocessor.timeout = 600
"""


class BuildError(RuntimeError):
    """Why an edition could not be written."""


def build(
    root: Path, masters: Sequence[Master], out: Path, roster: Mapping[str, int] | None = None
) -> list[Path]:
    """Write `out/student` and `out/instructor`, and `out/students/NAME` for each of a roster.

    An earlier build in `out` is replaced; anything else there is refused. Returns the folders.
    Raises BuildError.
    """
    _claim(out)
    student, instructor = out / "student", out / "instructor"
    pages = root / "notebooks" / "course"
    wheel = _wheel(root, out / "wheel")
    for folder in (student, instructor):
        _furnish(root, folder, wheel, masters)
    editions = {master.path.name: student_edition(master) for master in masters}
    _write(editions, student)
    for master in masters:
        page = pages / f"{master.path.stem}.md"
        wrong = wrong_answers(root / f"tests/course/wrong_answers/{master.number}.py")
        text = page.read_text("utf-8") if page.is_file() else ""
        _write({master.path.name: instructor_edition(master, text, wrong)}, instructor)
    replace_text(instructor / "nbgrader_config.py", NBGRADER)
    if pages.is_dir():
        shutil.copytree(pages, instructor / "course")
    own = [_own(out, student, name, seed, editions) for name, seed in (roster or {}).items()]
    shutil.rmtree(out / "wheel")
    return [student, instructor, *own]


def _claim(out: Path) -> None:
    """An empty folder with the mark of a build. Raises BuildError where something else lies."""
    if out.exists() and not out.is_dir():
        raise BuildError(f"--out {out}: a file of this name is there")
    if out.is_dir() and any(out.iterdir()):
        if not (out / EDITION).is_file():
            raise BuildError(f"--out {out}: not empty, and no earlier build of the course")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / EDITION).write_text(WRITTEN, encoding="utf-8")


def _wheel(root: Path, place: Path) -> Path:
    """The package as a wheel; built from a copy, so that nothing of older builds gets into it."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in WHEEL_SOURCES:
            source, target = root / name, Path(scratch) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", scratch]
        command += ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(place.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise BuildError(f"pip could not build the wheel: {done.stderr.strip()[-800:]}")
    return wheels[0]


def _furnish(root: Path, folder: Path, wheel: Path, masters: Sequence[Master]) -> None:
    """Everything of an edition but its notebooks."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / EDITION).write_text(WRITTEN, encoding="utf-8")
    shutil.copy(wheel, folder)
    shutil.copy(root / "constraints.txt", folder)
    shutil.copytree(root / "data" / "results", folder / "data" / "results")
    figures = folder / "figures"
    figures.mkdir()
    for master in masters:
        for picture in (root / "figures").glob(f"nb{master.number}_*.png"):
            shutil.copy(picture, figures)
    title, about = ("Equilibrium Propagation: the notebooks", STUDENT)
    if folder.name == "instructor":
        title, about = ("Equilibrium Propagation: for the lecturer", INSTRUCTOR)
    first = masters[0].path.name
    text = INSTALL.format(title=title, about=about, wheel=wheel.name, first=first)
    replace_text(folder / "README.md", text)


def _write(editions: Editions, folder: Path) -> None:
    for name, nb in editions.items():
        replace_text(folder / "notebooks" / name, nbformat.writes(nb) + "\n")


def _own(out: Path, student: Path, name: str, seed: int, editions: Editions) -> Path:
    """One student's folder: the files of all, and notebooks with their own seed."""
    folder = out / "students" / name

    # Copies and no links: who changes a file of theirs would change it for everybody.
    shutil.copytree(student, folder, ignore=shutil.ignore_patterns("notebooks"))
    for nb in editions.values():
        set_seed(nb, seed)
    _write(editions, folder)
    return folder

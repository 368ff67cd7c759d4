"""What a class has handed in: a folder for each student, and in it the answers by exercise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqprop_lab.course.masters import ExerciseCells, Master
from eqprop_lab.regression.parameters import first_line

LARGEST, LONGEST = 20 * 2**20, 30_000


class SubmissionError(ValueError):
    """Why a file of a student cannot be read; said to that student."""


@dataclass(frozen=True)
class Submission:
    """The answers of a student to one notebook, exercise -> source; `problem`: why there are none.

    An exercise that is missing here has no cell in what was handed in.
    """

    student: str
    master: Path
    answers: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def students_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, which are those of the students."""
    there = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path.name for path in there if not path.name.startswith("."))


def submission(folder: Path, student: str, master: Master) -> Submission:
    """What a student has handed in for one notebook."""
    try:
        cells = _code_cells(_the_file(folder / student, master.path.name))
        answers = {e.name: text for e in master.exercises if (text := _found(master, e, cells))}
    except SubmissionError as error:
        return Submission(student, master.path, problem=str(error))
    return Submission(student, master.path, answers)


def _the_file(folder: Path, name: str) -> Path:
    if folder.is_symlink():
        raise SubmissionError(f"the folder {folder.name} is a link")
    found = sorted(path for path in folder.rglob(name) if ".ipynb_checkpoints" not in path.parts)
    if not found:
        raise SubmissionError(f"no file {name} was handed in")
    if len(found) > 1:
        raise SubmissionError(f"{name} is there {len(found)} times; hand in one")
    path = found[0]
    inside = path.resolve().is_relative_to(folder.resolve())
    if path.is_symlink() or not path.is_file() or not inside or path.stat().st_nlink > 1:
        raise SubmissionError(f"{name} is a link and not a file")
    if path.stat().st_size > LARGEST:
        raise SubmissionError(
            f"{name} has {path.stat().st_size // 2**20} MB; {LARGEST // 2**20} are read: clear its "
            "outputs and save it again"
        )
    return path


def _code_cells(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = content["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SubmissionError(f"not a notebook that can be read: {first_line(error)}") from error
    return code


def _found(master: Master, exercise: ExerciseCells, cells: Sequence[dict[str, Any]]) -> str:
    """The source of the cell of an exercise: by id, else by mark, else by the function's name."""
    own = master.nb.cells[exercise.stub].get("id")
    named = f"def {exercise.name}("
    tests = (
        lambda cell: cell.get("id") == own,
        lambda cell: _mark(cell) == exercise.name,
        lambda cell: True,
    )
    for test in tests:
        texts = [text for cell in cells if test(cell) for text in _source(cell) if named in text]
        if texts:
            return texts[-1]
    return ""


def _mark(cell: dict[str, Any]) -> object:
    metadata = cell.get("metadata")
    mark = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return mark.get("grade_id") if isinstance(mark, dict) else None


def _source(cell: dict[str, Any]) -> Iterator[str]:
    """The text of a cell; nothing where it is none, or longer than any answer."""
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    if all(isinstance(line, str) for line in lines):
        text = "".join(lines)
        if len(text) <= LONGEST:
            yield text

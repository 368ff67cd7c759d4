"""A notebook of the series as the master of its editions: its exercises, read without running."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from eqprop_lab.regression.parameters import tags

HEADING = re.compile(
    r"### Exercise (?P<number>\d+) · (?P<level>warm-up|core|stretch)"
    r"(?P<idea> · write the idea)?: (?P<title>\S.*)"
)
PARTS = ("exercise", "exercise-check", "solution")


class MasterError(ValueError):
    """A notebook that editions cannot be made from; the message says where and why."""


@dataclass(frozen=True)
class ExerciseCells:
    """One exercise: `name` is the function of the stub; the indices of its four cells."""

    number: int
    level: str
    title: str
    name: str
    task: int
    stub: int
    check: int
    solution: int


@dataclass(frozen=True)
class Master:
    """A notebook with solutions, as it is committed."""

    path: Path
    nb: NotebookNode

    @classmethod
    def read(cls, path: Path) -> Master:
        """Read the file. Raises MasterError for what is no notebook."""
        try:
            return cls(path, nbformat.read(path, as_version=4))
        except (OSError, ValueError, nbformat.ValidationError) as error:
            raise MasterError(f"{path.name}: not a notebook: {error}") from error

    @property
    def number(self) -> str:
        """The two digits of its name."""
        return self.path.stem[:2]

    @cached_property
    def exercises(self) -> list[ExerciseCells]:
        """All exercises in order. Raises MasterError where a task lacks a part."""
        return list(self._found())

    def _found(self) -> Iterator[ExerciseCells]:
        cells = self.nb.cells
        for index, cell in enumerate(cells):
            if cell.cell_type != "markdown" or "exercise" not in tags(cell):
                continue
            heading, after = HEADING.match(cell.source), cells[index + 1 : index + 1 + len(PARTS)]
            kinds = [next(iter(set(tags(c)) & set(PARTS)), "") for c in after]
            if heading is None or tuple(kinds) != PARTS:
                raise MasterError(
                    f"{self.path.name}, cell {index + 1}: an exercise is a heading '### Exercise "
                    f"1 · core: title', then stub, check and solution; found {kinds}"
                )
            name, title = function_in(after[0].source), heading["title"]
            places = (index + part for part in range(len(PARTS) + 1))
            yield ExerciseCells(int(heading["number"]), heading["level"], title, name, *places)

    def sources(self, *wanted: str) -> list[str]:
        """Sources of the code cells that have one of these tags, in order."""
        code = (cell for cell in self.nb.cells if cell.cell_type == "code")
        return [str(cell.source) for cell in code if set(tags(cell)) & set(wanted)]


def function_in(stub: str) -> str:
    """The name of the one function of a stub. Raises MasterError for none, and for more."""
    names = [node.name for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)]
    if len(names) != 1:
        raise MasterError(f"a stub holds one function, found {', '.join(names) or 'none'}")
    return names[0]

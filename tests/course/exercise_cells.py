"""The exercises of a notebook, run without the notebook: setup, parameters and context alone."""

from __future__ import annotations

import ast
import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

from eqprop_lab.notebook import Exercise
from eqprop_lab.regression.parameters import tags


@dataclass(frozen=True)
class Cells:
    """Heading, stub, check and solution of one exercise; `name` is the function of the stub."""

    heading: str
    name: str
    stub: str
    check: str
    solution: str


class Exercises:
    """All exercises of a notebook, with the names they can rely on."""

    def __init__(self, path: Path) -> None:
        self._cells = nbformat.read(path, as_version=4).cells

    def _sources(self, *wanted: str) -> list[tuple[str, str]]:
        """(tag, source) of the cells with one of these tags, in order; md exercises are 'task'."""
        found = []
        for cell in self._cells:
            for tag in set(tags(cell)) & set(wanted):
                task = tag == "exercise" and cell.cell_type == "markdown"
                found.append(("task" if task else tag, str(cell.source)))
        return found

    @cached_property
    def all(self) -> list[Cells]:
        """One for each task."""
        parts: list[dict[str, str]] = []
        for tag, source in self._sources("exercise", "exercise-check", "solution"):
            if tag == "task":
                parts.append({})
            parts[-1][tag] = source
        return [
            Cells(
                part["task"].partition("\n")[0],
                _function(part["exercise"]),
                part["exercise"],
                part["exercise-check"],
                part["solution"],
            )
            for part in parts
        ]

    @cached_property
    def _start(self) -> dict[str, Any]:
        space: dict[str, Any] = {"__name__": "__main__"}
        for tag, source in self._sources("setup", "parameters", "exercise-context"):
            exec(compile(source, f"<{tag}>", "exec"), space)
        return space

    def run(self, *sources: str, **names: Callable[..., Any]) -> str:
        """What cells print that start from the context alone, with some names given instead."""
        return self._ran(sources, names)[0]

    def hints(self, cells: Cells) -> list[str]:
        """The mistakes that the check of an exercise knows by name."""
        made = self._ran((cells.stub, cells.check), {})[1].values()
        (exercise,) = (value for value in made if isinstance(value, Exercise))
        return list(exercise.mistakes)

    def _ran(self, sources: Sequence[str], names: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """What is printed, and the names there are afterwards; `names` win over a cell's own."""
        space, printed = dict(self._start), io.StringIO()
        with contextlib.redirect_stdout(printed):
            for source in sources:
                exec(compile(source, "<exercise>", "exec"), space)
                space |= names
        return printed.getvalue(), space


def _function(stub: str) -> str:
    """The name of the one function in a stub."""
    (name,) = (node.name for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef))
    return name

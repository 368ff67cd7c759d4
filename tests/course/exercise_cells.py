"""The exercises of a notebook, run without the notebook: setup, parameters and context alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eqprop_lab.course.masters import Master
from eqprop_lab.notebook import Exercise


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
        self._master = Master.read(path)

    @cached_property
    def all(self) -> list[Cells]:
        """One for each task."""
        sources = [str(cell.source) for cell in self._master.nb.cells]
        return [
            Cells(
                sources[found.task].partition("\n")[0],
                found.name,
                *(sources[index] for index in (found.stub, found.check, found.solution)),
            )
            for found in self._master.exercises
        ]

    @cached_property
    def _start(self) -> dict[str, Any]:
        space: dict[str, Any] = {"__name__": "__main__"}
        for source in self._master.sources("setup", "parameters", "exercise-context"):
            exec(compile(source, "<start>", "exec"), space)
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

"""Grading one submission: the master's checks on raw values, partial credit, what to tell.

The master's cells and solutions stay in this process; a submission runs in a `Worker`.
"""

from __future__ import annotations

import ast
import contextlib
import io
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from eqprop_lab.course.given_away import Helpers, context_without, helpers_of, parts_of_check
from eqprop_lab.course.inside import numbers_of, same_everywhere
from eqprop_lab.course.masters import ExerciseCells, Master, MasterError
from eqprop_lab.course.reading import (
    EVASIVE,
    UnreadableAnswer,
    all_names,
    answer_alone,
    forbidden_in,
    is_open,
    notable_in,
    sets_any,
)
from eqprop_lab.course.remote import Answer, Limits, Stopped, Worker
from eqprop_lab.course.solutions import solution_of
from eqprop_lab.course.statements import needed, statements
from eqprop_lab.course.student import POINTS, set_seed
from eqprop_lab.course.submissions import Submission
from eqprop_lab.notebook.claims import CheckFailed
from eqprop_lab.notebook.exercises import Exercise, seed_of_case
from eqprop_lab.notebook.session import setup
from eqprop_lab.seeding import seeded

PARTIAL = 0.5
"""What an answer that is right on all cases but one part may reach at most, of its points."""
TEXT = 1500


@dataclass(frozen=True)
class Verdict:
    """What an exercise has earned and what is said to it; `notes` are for the lecturer."""

    number: int
    name: str
    points: float
    of: int
    says: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graded:
    """All exercises of a submission."""

    submission: Submission
    verdicts: tuple[Verdict, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """An exercise as the grader has it: the check, and what a kernel needs to draw its cases."""

    cells: ExerciseCells
    check: Exercise
    support: str
    draw: str
    examine: str
    helpers: Helpers
    counted: frozenset[str]


@dataclass
class Class:
    """A master whose cells have run in this process, for one seed."""

    master: Master
    start: list[str]
    tasks: list[Task] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)


@lru_cache(maxsize=4)
def prepared(path: Path, seed: int) -> Class:
    """Run setup, parameters, context and checks of a master. Raises MasterError."""
    master = Master.read(path)
    set_seed(master.nb, seed)
    space: dict[str, Any] = {"__name__": "__main__"}
    setup(seed)
    found = Class(master, master.sources("setup", "parameters"))
    with contextlib.redirect_stdout(io.StringIO()):
        for source in master.sources("setup", "parameters", "exercise-context"):
            exec(compile(source, f"<{path.stem}>", "exec"), space)
        for cells in master.exercises:
            exec(compile(master.nb.cells[cells.stub].source, "<stub>", "exec"), space)
            exec(compile(master.nb.cells[cells.check].source, "<check>", "exec"), space)
            found.tasks.append(_task(master, cells, space[f"check_{cells.name}"]))
    found.start += context_without(master, _secrets(found.tasks))
    return found


def _secrets(tasks: Sequence[Task]) -> set[str]:
    """Helpers that no exercise of a notebook has use for, beside its check."""
    asked = {name for task in tasks for name in task.helpers.away}
    return asked - {name for task in tasks for name in task.helpers.free}


def _task(master: Master, cells: ExerciseCells, check: Exercise) -> Task:
    """What the draw of cases rests on is taken from the check's cell; the rest stays here."""
    parts, source = parts_of_check(master, cells), master.nb.cells[cells.check].source
    support = "\n".join(s.text for s in needed(parts.asked, statements(source)))
    helpers = helpers_of(master, cells, parts, check.forbidden)
    draw = same_everywhere(check.draw)
    with seeded(seed_of_case(0)):
        counted = frozenset(name for part in draw(0) for name in numbers_of(part))
    around = EVASIVE - all_names(master.nb.cells[cells.solution].source)
    ready = replace(check, draw=draw, forbidden=(*check.forbidden, *helpers.away, *around))
    examine = ast.unparse(parts.examine) if parts.examine else ""
    return Task(cells, ready, support, ast.unparse(parts.draw), examine, helpers, counted)


def grade(given: Submission, seed: int, limits: Limits) -> Graded:
    """Every exercise of a submission, in a kernel of its own; a new one where it is gone."""
    began = time.monotonic()
    ready = prepared(given.master, seed)
    tasks = ready.tasks
    if given.problem:
        verdicts = [_verdict(task, 0.0, given.problem) for task in tasks]
        return Graded(given, tuple(verdicts))
    desk = _Desk(ready, seed, limits)
    try:
        verdicts = [desk.judge(task, given.answers.get(task.cells.name, "")) for task in tasks]
    finally:
        desk.close()
    return Graded(given, tuple(verdicts), time.monotonic() - began)


def _verdict(task: Task, share: float, says: str, notes: Sequence[str] = ()) -> Verdict:
    of = POINTS[task.cells.level]
    points = round(share * of, 2)
    return Verdict(task.cells.number, task.cells.name, points, of, says[:TEXT], tuple(notes))


class _Desk:
    """One submission on the desk: its worker, made when it is needed."""

    def __init__(self, of: Class, seed: int, limits: Limits) -> None:
        self._class, self._seed, self._limits = of, seed, limits
        setup(seed)  # checks draw by the session, and `prepared` may know this seed from before
        self._worker: Worker | None = None
        self._met: set[str] = set()  # names that the code in the worker has used
        self._wary = False  # whether a person should look at some of it

    def close(self) -> None:
        if self._worker:
            self._worker.close()
        self._worker, self._met, self._wary = None, set(), False

    def judge(self, task: Task, source: str) -> Verdict:
        name = task.cells.name
        try:
            if not source or is_open(source, name):
                return _verdict(task, 0.0, "still open")
            used = forbidden_in(source, name, task.check.forbidden)
            moved = sets_any(source, task.counted)
            notes = notable_in(source)
        except UnreadableAnswer as error:
            return _verdict(task, 0.0, str(error))
        if used:
            return _verdict(task, 0.0, f"it uses {used[0]}; do it without", notes)
        if moved:
            return _verdict(task, 0.0, f"it sets {moved}, which is counted here", notes)
        try:
            return self._run(task, answer_alone(source, name), notes)
        except Stopped as error:
            self.close()
            return _verdict(task, 0.0, str(error), [*notes, "stopped"])
        except MasterError:
            raise
        except Exception as error:
            text = f"the check cannot use what it gives back: {type(error).__name__}: {error}"
            return _verdict(task, 0.0, text, [*notes, "check raised"])

    def _run(self, task: Task, source: str, notes: list[str]) -> Verdict:
        if self._wary or self._met & set(task.check.forbidden):
            self.close()  # what one exercise may use must not lie ready for one that may not
        worker = self._started()
        self._met |= all_names(source)
        self._wary = bool(notes)
        worker.deadline = time.monotonic() + self._limits.seconds
        if error := worker.run(source).get("error"):
            kind, text = (str(part)[:TEXT] for part in error)
            return _verdict(task, 0.0, f"its cell raised {kind}: {text}", notes)
        worker.run(task.support)
        answer = Answer(worker, task.cells.name, task.draw)
        check = task.check
        if task.examine:
            check = replace(check, examine=lambda _: self._examined(task, answer, notes))
        return self._judged(task, check, answer, notes)

    def _judged(self, task: Task, check: Exercise, answer: Answer, notes: list[str]) -> Verdict:
        says = io.StringIO()
        with contextlib.redirect_stdout(says), warnings.catch_warnings(action="ignore"):
            try:
                check(answer)
                return _verdict(task, 1.0, says.getvalue().strip(), notes)
            except CheckFailed as failure:
                text = f"{says.getvalue()}{failure}"
            try:
                return _verdict(task, PARTIAL * check.share_right(answer.again()), text, notes)
            except Exception as error:
                return _verdict(task, 0.0, f"{text}\n({type(error).__name__}: {error})", notes)

    def _examined(self, task: Task, answer: Answer, notes: list[str]) -> str:
        """What the look in the kernel says; a note where what is seen from outside speaks against
        it, for an answer may have changed what looks at it."""
        said, grown = answer.examined(task.examine, task.check.cases)
        usual = self._usual(task)
        if not said and grown > 2 * usual + 1:
            notes.append(f"memory grew by {grown:.0f} MB, the solution's by {usual:.0f}")
        return said

    def _usual(self, task: Task) -> float:
        """Megabytes by which the solution grows, in a kernel that no submission has seen."""
        known, name = self._class.memory, task.cells.name
        if name not in known:
            other = _Desk(self._class, self._seed, self._limits)
            try:
                worker = other._started()
                for source in (solution_of(self._class.master, task.cells), task.support):
                    worker.run(source)
                answer = Answer(worker, name, task.draw)
                known[name] = answer.examined(task.examine, task.check.cases)[1]
            finally:
                other.close()
        return known[name]

    def _started(self) -> Worker:
        """A kernel in which the master's cells have run; the submission has no part in it yet."""
        if self._worker is None:
            # A busy machine may fail once; twice is a fault, and not one of the submission.
            if self._start():
                self.close()
                if problem := self._start():
                    raise MasterError(f"{self._class.master.path.name} does not start: {problem}")
        assert self._worker
        return self._worker

    def _start(self) -> str:
        """Make a worker and run the master's cells in it; what went wrong, or ""."""
        self._worker = Worker(self._limits)
        cells = ["from eqprop_lab.course import inside as _inside", *self._class.start]
        try:
            for source in [*cells, f"_inside.setup({self._seed})"]:
                if error := self._worker.run(source).get("error"):
                    return str(error)
        except Stopped as problem:
            return str(problem)
        return ""

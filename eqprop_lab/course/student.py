"""The student edition of a notebook: no solution, and nothing that a solution alone needed."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Sequence

from nbformat import NotebookNode, from_dict

from eqprop_lab.course.masters import Master
from eqprop_lab.course.statements import (
    Statement,
    fewer_names,
    joined,
    names_read,
    statements,
    without,
)
from eqprop_lab.regression.parameters import tags

KEPT_METADATA = ("kernelspec", "language_info")
SEED = re.compile(r"^(seed: int = )\d+", re.MULTILINE)
SUPPORT = {"setup", "exercise-context"}
POINTS = {"warm-up": 1, "core": 2, "stretch": 3}


def student_edition(master: Master, seed: int | None = None) -> NotebookNode:
    """The notebook without solutions and outputs, its exercises marked for nbgrader.

    What rests on a solution goes with it: questions of the quiz, imports and helpers that nothing
    else uses and no text names. seed: another value of the parameter `seed`; None: the master's.
    """
    nb = copy.deepcopy(master.nb)
    nb.metadata = from_dict({k: v for k, v in nb.metadata.items() if k in KEPT_METADATA})
    _mark(master, nb)
    nb.cells = [cell for cell in nb.cells if "solution" not in tags(cell)]
    others = {name for cell in nb.cells for name in _bound(cell)}
    _cut(nb, {name for cell in master.nb.cells for name in _bound(cell)} - others)
    _drop_unused(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = _without_solution_lines(cell.source)
    if seed is not None:
        set_seed(nb, seed)
    return nb


def set_seed(nb: NotebookNode, seed: int) -> None:
    """Another value of the parameter `seed`, in place."""
    for cell in nb.cells:
        if "parameters" in tags(cell):
            cell.source = SEED.sub(rf"\g<1>{seed}", cell.source)


def _bound(cell: NotebookNode) -> set[str]:
    return {name for s in _parsed(cell) for name in s.binds} if cell.cell_type == "code" else set()


def _mark(master: Master, nb: NotebookNode) -> None:
    """Metadata by which nbgrader knows answers and checks, https://nbgrader.readthedocs.io."""
    for exercise in master.exercises:
        shared = {"schema_version": 3, "task": False}
        answer: dict[str, object] = {"grade": False, "solution": True, "locked": False}
        answer["grade_id"] = exercise.name
        check: dict[str, object] = {"grade": True, "solution": False, "locked": True}
        check["points"] = POINTS[exercise.level]
        check["grade_id"] = f"check_{exercise.name}"
        nb.cells[exercise.stub].metadata["nbgrader"] = from_dict(shared | answer)
        nb.cells[exercise.check].metadata["nbgrader"] = from_dict(shared | check)


def _cut(nb: NotebookNode, gone: set[str]) -> None:
    """Leave out statements that rest on what is gone; of a quiz only such questions."""
    for cell in nb.cells:
        found = _parsed(cell) if cell.cell_type == "code" else []
        kept, gone = without(gone, found)
        if len(kept) < len(found):
            if found[-1] not in kept and "quiz" in tags(cell):
                kept.append(_fewer_questions(found[-1], gone))
            cell.source = _labelled(cell.source, kept)


def _labelled(source: str, kept: Sequence[Statement]) -> str:
    """The text of a cell of which some statements are left, below the comment it began with."""
    label, text = source.partition("\n")[0], joined(kept)
    return f"{label}\n{text}" if label.startswith("#") and not text.startswith(label) else text


def _fewer_questions(quiz: Statement, lost: set[str]) -> Statement:
    """The call of a quiz without those pairs that use a lost name."""
    call = getattr(ast.parse(quiz.text).body[0], "value", None)
    if not isinstance(call, ast.Call):
        raise ValueError(f"a quiz ends with a call of nb.quiz, got {quiz.text[:60]!r}")
    kept = [pair for pair in call.args if not names_read(pair) & lost]
    pairs = [ast.get_source_segment(quiz.text, pair) or "" for pair in kept]
    text = f"{ast.unparse(call.func)}(\n    " + ",\n    ".join(pairs) + ",\n)"
    return Statement(ast.parse(text).body[0], text)


def _drop_unused(nb: NotebookNode) -> None:
    """Leave out imports and helpers for the checks that nothing uses and no text names."""
    told = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    told += "\n".join(cell.source for cell in code if "exercise" in tags(cell))
    while True:
        used = {name for cell in code for s in _parsed(cell) for name in s.uses}
        before = [cell.source for cell in code]
        for cell in code:
            if SUPPORT & set(tags(cell)):
                cell.source = _used_alone(cell.source, used, told)
        if before == [cell.source for cell in code]:
            break
    nb.cells = [cell for cell in nb.cells if _says_something(cell)]


def _says_something(cell: NotebookNode) -> bool:
    return cell.cell_type != "code" or bool(_parsed(cell))


def _parsed(cell: NotebookNode) -> list[Statement]:
    try:
        return statements(cell.source)
    except SyntaxError:
        return []


def _used_alone(source: str, used: set[str], told: str) -> str:
    """A cell without the definitions and imports that are of no use any more."""
    found, kept = statements(source), []
    for statement in found:
        if isinstance(statement.node, ast.FunctionDef) and not _wanted(statement, used, told):
            continue
        kept.append(fewer_names(statement, used | _told(statement, told)))
    left = [statement for statement in kept if statement is not None]
    same = len(left) == len(found) and all(a is b for a, b in zip(found, left, strict=True))
    return source if same else _labelled(source, left)


def _wanted(statement: Statement, used: set[str], told: str) -> bool:
    """Whether code elsewhere uses what it binds (itself does not count), or a text names it."""
    return bool(statement.binds & used or _told(statement, told))


def _told(statement: Statement, told: str) -> set[str]:
    return {name for name in statement.binds if re.search(rf"`{name}\b", told)}


def _without_solution_lines(text: str) -> str:
    """A text without the items of a list that speak of a **solution**, of which there is none."""
    lines: Sequence[str] = text.split("\n")
    return "\n".join(line for line in lines if "**solution**" not in line)

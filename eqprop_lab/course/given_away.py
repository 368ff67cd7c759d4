"""Which helpers of a check hold the answer: found in the master, so that nobody keeps a list."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from eqprop_lab.course.masters import ExerciseCells, Master, MasterError
from eqprop_lab.course.statements import (
    Statement,
    joined,
    names_read,
    needed,
    statements,
    without,
)

DEFINITION = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class CheckParts:
    """The call of a check: how cases are drawn, how an answer is looked at, what is compared."""

    draw: ast.expr
    examine: ast.expr | None
    compared: frozenset[str]

    @property
    def asked(self) -> frozenset[str]:
        """Names that draw and look read."""
        looked = names_read(self.examine) if self.examine else frozenset()
        return names_read(self.draw) | looked


def parts_of_check(master: Master, cells: ExerciseCells) -> CheckParts:
    """Read the cell of a check. Raises MasterError where it makes none, or two."""
    source = master.nb.cells[cells.check].source
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    made = [call for call in calls if ast.unparse(call.func).endswith("Exercise")]
    if len(made) != 1:
        raise MasterError(f"{master.path.name}: {cells.name} has no check, or two in a cell")
    given = {word.arg: word.value for word in made[0].keywords}
    draw, examine = given.get("draw") or made[0].args[1], given.get("examine")
    compared = (given[key] for key in ("expected", "judge", "mistakes", "factors") if key in given)
    return CheckParts(draw, examine, frozenset().union(*map(names_read, compared)))


@dataclass(frozen=True)
class Helpers:
    """Names in a master's cells: `away` an answer may not use, `free` it may."""

    away: frozenset[str]
    free: frozenset[str]


def helpers_of(
    master: Master, cells: ExerciseCells, parts: CheckParts, forbidden: Collection[str]
) -> Helpers:
    """`away` is what a check compares with, what that rests on, and whatever rests on one of these
    or on a forbidden name; `free` is what task, stub, solution or the draw of the cases use.
    """
    helpers = [s for s in _around(master, cells) if not s.is_import and not _is_constant(s)]
    told = set(parts.compared) | {
        name
        for s in needed(parts.compared, helpers)
        if isinstance(s.node, DEFINITION)
        for name in s.binds
    }
    free = _free(master, cells, parts)
    told -= free
    while more := _resting_on(told | set(forbidden), helpers) - told - free:
        told |= more
    return Helpers(frozenset(told & {n for s in helpers for n in s.binds}), frozenset(free))


def _resting_on(names: set[str], among: Sequence[Statement]) -> set[str]:
    return {name for s in among if s.uses & names for name in s.binds}


def _around(master: Master, cells: ExerciseCells) -> list[Statement]:
    texts = [*master.sources("exercise-context"), master.nb.cells[cells.check].source]
    return [s for text in texts for s in statements(text)]


def _is_constant(statement: Statement) -> bool:
    return not isinstance(statement.node, DEFINITION) and not statement.uses


def _free(master: Master, cells: ExerciseCells, parts: CheckParts) -> set[str]:
    """Names that are there to be used, and what they rest on."""
    own = needed({f"solved_{cells.name}"}, statements(master.nb.cells[cells.solution].source))
    stub = statements(master.nb.cells[cells.stub].source)
    names = {name for s in (*own, *stub) for name in s.uses}
    names |= set(re.findall(r"`(\w+)", master.nb.cells[cells.task].source))
    names |= parts.asked
    return names | {n for s in needed(names, _around(master, cells)) for n in s.binds}


def context_without(master: Master, gone: Collection[str]) -> list[str]:
    """The context of the exercises without some helpers, and without what rests on them."""
    left, lost = [], set(gone)
    for source in master.sources("exercise-context"):
        kept, lost = without(lost, [s for s in statements(source) if not s.binds & lost])
        left.append(joined(kept))
    return left

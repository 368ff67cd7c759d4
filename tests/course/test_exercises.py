"""Every exercise: the stub is open, the solution is right, each wrong answer gets its hint.

The table is made from the notebooks and from `wrong_answers/NN.py`.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab.notebook import CheckFailed
from eqprop_lab.regression.plan import find_notebooks
from tests.course.answers import Answer
from tests.course.exercise_cells import Cells, Exercises

ROOT = Path(__file__).resolve().parents[2]
AT_LEAST = 3

NOTEBOOKS = {path.stem[:2]: path for path in find_notebooks([], ROOT)}


@cache
def exercises(number: str) -> Exercises:
    return Exercises(NOTEBOOKS[number])


@cache
def answers(number: str) -> list[Answer]:
    path = Path(__file__).parent / "wrong_answers" / f"{number}.py"
    spec = importlib.util.spec_from_file_location(f"answers_{number}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [value for value in vars(module).values() if isinstance(value, Answer)]


def of(number: str, name: str) -> Cells:
    (cells,) = (cells for cells in exercises(number).all if cells.name == name)
    return cells


EXERCISES = [pytest.param(n, c, id=f"{n}-{c.name}") for n in NOTEBOOKS for c in exercises(n).all]
JUDGED = [each for each in EXERCISES if "judge=" in each.values[1].check]  # type: ignore[union-attr]
ANSWERS = [pytest.param(n, a, id=f"{n}-{a.id}") for n in NOTEBOOKS for a in answers(n)]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Wrong answers may warn, as they do in a notebook."""
    with warnings.catch_warnings(action="ignore"):
        yield


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_three_exercises_one_of_them_the_idea(number: str) -> None:
    found = exercises(number).all
    assert len(found) >= AT_LEAST
    assert sum("write the idea" in cells.heading for cells in found) == 1


@pytest.mark.parametrize(("number", "cells"), EXERCISES)
def test_three_wrong_answers_each(number: str, cells: Cells) -> None:
    mine = [answer for answer in answers(number) if answer.exercise == cells.name and answer.says]
    assert len(mine) >= AT_LEAST


@pytest.mark.parametrize(("number", "cells"), EXERCISES)
def test_a_stub_is_open_and_breaks_nothing(number: str, cells: Cells) -> None:
    printed = exercises(number).run(cells.stub, cells.check)
    assert printed.startswith(f"Still open: write {cells.name}")


@pytest.mark.parametrize(("number", "cells"), EXERCISES)
def test_the_solution_is_right_and_leaves_the_exercise_open(number: str, cells: Cells) -> None:
    printed = exercises(number).run(cells.stub, cells.check, cells.solution, cells.check)
    first, *rest = printed.splitlines()
    assert first == rest[-1] and first.startswith("Still open")
    assert rest[0].startswith("ok: ")


@pytest.mark.parametrize(("number", "answer"), ANSWERS)
def test_an_answer_is_judged_rightly(number: str, answer: Answer) -> None:
    cells = of(number, answer.exercise)

    def run() -> str:
        return exercises(number).run(cells.stub, cells.check, **{cells.name: answer.function})

    if not answer.says:
        assert f"ok: {cells.name}" in run()
        return
    with pytest.raises(CheckFailed) as failure:
        run()
    assert answer.says in str(failure.value)


def blotted(value: Any) -> Any:
    """The same with nan for every number."""
    if isinstance(value, torch.Tensor):
        return torch.full_like(value, torch.nan)
    if isinstance(value, tuple | list):
        return type(value)(map(blotted, value))
    return (lambda *given: blotted(value(*given))) if callable(value) else float("nan")


@pytest.mark.parametrize(("number", "cells"), JUDGED)
def test_an_answer_of_nan_has_no_property(number: str, cells: Cells) -> None:
    with pytest.raises((CheckFailed, ArithmeticError, RuntimeError)):
        exercises(number).run(
            cells.solution.partition("\n\n\ncheck_")[0],
            cells.stub,
            f"def {cells.name}(*given):\n    return blotted(solved_{cells.name}(*given))",
            cells.check,
            blotted=blotted,
        )


@pytest.mark.parametrize(("number", "cells"), EXERCISES)
def test_every_named_mistake_is_met(number: str, cells: Cells) -> None:
    space = exercises(number)
    hints = space.hints(cells)
    said = [answer.says for answer in answers(number) if answer.exercise == cells.name]
    assert [hint for hint in hints if not any(text and text in hint for text in said)] == []

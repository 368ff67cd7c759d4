"""Exercises: a check that tries an answer on random cases and says what kind of mistake it sees.

    ### Exercise 2 · core · write the idea: the two phases      md, tag `exercise`
    def two_phases(model, x, beta): ...                         code, tag `exercise`
    check_two_phases = nb.Exercise("two_phases", draw, ...)
    check_two_phases(two_phases)                                code, tag `exercise-check`, folded
    def solved_two_phases(model, x, beta): ...
    check_two_phases(solved_two_phases)                         code, tag `solution`, folded

How to write one (levels: warm-up, core, stretch; `python -m eqprop_lab lint-notebooks` helps)
1. The answer is a function, also where a number is asked for: its arguments are what may change.
   The stub has types, a docstring (shapes, what comes back) and the body `...`.
2. `draw(k)` makes the arguments of case k: shapes from k, numbers from torch.randn and the like,
   which start from another seed in each case. Let whatever a learner may lose (beta, the batch
   size, a length) differ from case to case, and make matrices oblong, so that a transpose shows.
3. `expected` is a function of the package; where the package has none, `judge` tests a property.
   Neither is the formula that is asked for, and neither are the `mistakes`.
4. Everything the four cells need stands in the setup cell, the parameters cell or a cell tagged
   `exercise-context`: no exercise needs another one, or the rest of the notebook.
5. A folded cell shows its first line: a comment that says what it is. What a solution prints is
   seen all the same; what answers a prediction goes into nb.quiz((question, answer)).
6. tests/course/wrong_answers/NN.py has at least three wrong answers of each exercise and what the
   check must say; every hint in `mistakes` is met by one of them.
"""

from __future__ import annotations

import copy
import dis
import io
import os
import traceback
import types
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from eqprop_lab.notebook.answers import Named, brief, named, numbers
from eqprop_lab.notebook.claims import CheckFailed
from eqprop_lab.notebook.mistakes import NEAR, Factor, Trial, copied, misshapen, recognised
from eqprop_lab.notebook.session import current_session, has_session
from eqprop_lab.seeding import seeded

OTHERWISE = "does everything settle, and is every term there?"


class WrongAnswer(CheckFailed):
    """An answer is not right; a notebook shows the hint, and where the answer itself failed."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: not the way through the check, which helps nobody."""
        shown = [str(self)]
        if self.__cause__:
            frames = traceback.extract_tb(self.__cause__.__traceback__)[1:]
            shown += ["", "Where it happened, last call at the end:"]
            shown += traceback.StackSummary.from_list(frames).format()
        return "\n".join(shown).splitlines()


@dataclass(frozen=True)
class Exercise:
    """The check of an exercise: `Exercise("name", draw, expected=...)(answer)`.

    Args:
        name: of the function the learner writes.
        draw: k -> tuple, the arguments of case k = 0, 1, ..., cases - 1.
        expected: the right answer to a case, from the package: numbers, a tuple or a dict of them.
        judge: (answer, *case) -> what is wrong with it, or "": for answers that are right when they
            have a property. One of `expected` and `judge` is needed; judge comes last.
        tol: largest |answer - expected| / |expected|.
        factors: {name: number, or function of the case} that a learner loses, besides -1 and 2.
        mistakes: {hint: wrong function of the case}; matched up to a constant factor, too.
        forbidden: names an answer may not use, neither itself nor through functions it calls.
        changes: positions of the arguments that the answer may change in place.
        examine: answer -> what is wrong with the way it works (memory, time), or ""; tried last,
            where its results are right.
        otherwise: what to look at, said where no mistake is recognised.

    Calling it prints one line where the answer is right or still a stub. Raises WrongAnswer, which
    is a CheckFailed, otherwise.
    """

    name: str
    draw: Callable[[int], tuple[Any, ...]]
    expected: Callable[..., Any] | None = None
    judge: Callable[..., str] | None = None
    tol: float = 1e-4
    cases: int = 6
    factors: Mapping[str, Factor] = field(default_factory=dict)
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    forbidden: Collection[str] = ()
    changes: Collection[int] = ()
    examine: Callable[[Callable[..., Any]], str] | None = None
    otherwise: str = OTHERWISE

    def __post_init__(self) -> None:
        if self.expected is None and self.judge is None:
            raise ValueError(f"exercise {self.name}: expected=... or judge=... is needed")

    def __call__(self, answer: Callable[..., Any]) -> None:
        """Check an answer; see the class."""
        if _is_stub(answer):
            # nbgrader gives full points to a check that raises nothing.
            if os.environ.get("NBGRADER_EXECUTION") == "autograde":
                raise WrongAnswer(f"Not yet: {self.name} is still open")
            print(
                f"Still open: write {self.name} in the cell above, run it, then run this one again."
            )
            return
        used = sorted(_names_used(answer) & set(self.forbidden))
        if used:
            raise WrongAnswer(f"Not yet: {self.name} uses {used[0]}; do it without")
        trials = [self._try(answer, k) for k in range(self.cases)]
        if self.expected:
            if copied([list(trial.right.values()) for trial in trials]):
                raise ValueError(f"exercise {self.name}: every case has the same answer")
            self._compare(trials)
        for k, trial in enumerate(trials):
            with self._seeded(k):
                said = self.judge(trial.answer, *trial.case) if self.judge else ""
            if said:
                raise self._failed(said, k, trial.case)
        with self._seeded(self.cases):
            said = self.examine(answer) if self.examine else ""
        if said:
            raise WrongAnswer(f"Not yet: {self.name}: {said}")
        print(f"ok: {self.name} is right on {self.cases} random cases")

    def share_right(self, answer: Callable[..., Any]) -> float:
        """The share of cases that are right, and of the parts of a case: 1 for a right answer."""
        return sum(self._share(answer, k) for k in range(self.cases)) / self.cases

    def _share(self, answer: Callable[..., Any], k: int) -> float:
        try:
            trial = self._try(answer, k)
        except WrongAnswer:
            return 0.0
        with self._seeded(k):
            if self.judge and self.judge(trial.answer, *trial.case):
                return 0.0
        right = [trial.error(name) <= self.tol for name in trial.right]
        return sum(right) / len(right) if right else 1.0

    def _try(self, answer: Callable[..., Any], k: int) -> _Tried:
        """One case: what the answer gives, and what is wrong with it whatever the numbers are."""
        with self._seeded(k):
            case = self.draw(k)
        with self._seeded(k + 500):
            right = self.expected(*case) if self.expected else None
        given, printed = copy.deepcopy(case), io.StringIO()
        with (
            self._seeded(k + 500),
            redirect_stdout(printed),
            warnings.catch_warnings(record=True) as doubts,
        ):
            warnings.simplefilter("always")
            try:
                value = answer(*given)
            except Exception as error:
                said = f"it raised {type(error).__name__}: {error}"
                raise self._failed(said, k, case) from error
        if k == 0:
            print(printed.getvalue(), end="")
        got, said = self._looked_at(value, right, case, given)
        if value is None and printed.getvalue():
            said = "it prints its answer: give it back with `return`"
        if said:
            raise self._failed(said, k, case)
        warned = str(doubts[0].message) if doubts else ""
        return _Tried(case, got, numbers(right) if self.expected else {}, value, warned)

    def _looked_at(
        self, value: Any, right: Any, case: tuple[Any, ...], given: tuple[Any, ...]
    ) -> tuple[Named, str]:
        """The numbers of an answer, and what is wrong with it whatever they are."""
        if value is None:
            return {}, "it gives nothing back: is the `return` missing?"
        for place in sorted(set(range(len(case))) - set(self.changes)):
            if not _unchanged(case[place], given[place]):
                return (
                    {},
                    f"it changes its argument {place + 1} in place; make a new tensor instead",
                )
        return misshapen(value, right) if self.expected else ({}, "")

    def _compare(self, trials: list[_Tried]) -> None:
        """Raises where the numbers are not the expected ones, with the hint that fits."""
        errors = {n: [t.error(n) for t in trials] for n in trials[0].right}
        bad = [name for name, each in errors.items() if max(each) > self.tol]
        if not bad:
            return
        with self._seeded(0):
            said = recognised(trials, bad, self.tol, self.factors, self.mistakes)
        k = max(range(len(trials)), key=lambda k: max(errors[name][k] for name in bad))
        worst = max(errors[name][k] for name in bad)
        if not said:
            off = "close, but not the same" if worst < NEAR else "the numbers differ"
            said = f"{off} (relative error {worst:.2g}): {self.otherwise}"
        fine = sum(max(errors[name][i] for name in bad) <= self.tol for i in range(len(trials)))
        if fine:
            said += f"; {fine} of {len(trials)} cases are right"
        if len(bad) < len(errors):
            said = f"{', '.join(bad)} of the answer: {said}; the rest is right"
        if trials[k].warned:
            said += f". It warned: {trials[k].warned}"
        raise self._failed(said, k, trials[k].case)

    def _failed(self, said: str, k: int, case: tuple[Any, ...]) -> WrongAnswer:
        given = ", ".join(map(brief, case))
        return WrongAnswer(
            f"Not yet: {self.name}: {said}\n(case {k + 1} of {self.cases}, given {given})"
        )

    def _seeded(self, k: int) -> Any:
        return seeded(seed_of_case(k))


def seed_of_case(k: int) -> int:
    """The same draws whenever a case is tried; another notebook seed gives other cases."""
    return (1000 * (current_session().seed if has_session() else 0) + k) % 2**32


@dataclass(frozen=True)
class _Tried(Trial):
    """A trial with the answer as it came, and the first thing it warned of."""

    answer: Any
    warned: str


def _is_stub(answer: Callable[..., Any]) -> bool:
    """Whether the body is nothing but a docstring and `...`."""
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    empty = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    constants = (None, Ellipsis, answer.__doc__)
    return all(i.opname in empty for i in dis.get_instructions(code)) and all(
        constant in constants for constant in code.co_consts
    )


def _names_used(answer: Callable[..., Any]) -> set[str]:
    """Names in the code of a function, and in what it calls of the same notebook."""
    space, names, seen = getattr(answer, "__globals__", {}), set[str](), set[types.CodeType]()
    waiting = [getattr(answer, "__code__", None)]
    while waiting:
        code = waiting.pop()
        if code is None or code in seen:
            continue
        seen.add(code)
        names |= set(code.co_names)
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        called = (space.get(name) for name in code.co_names)
        waiting += [
            f.__code__
            for f in called
            if isinstance(f, types.FunctionType) and f.__globals__ is space
        ]
    return names


def _unchanged(before: Any, after: Any) -> bool:
    """Whether tensors and arrays in an argument, or a model's parameters, are what they were."""
    pairs = [x.state_dict() if isinstance(x, nn.Module) else x for x in (before, after)]
    kinds = torch.Tensor, np.ndarray
    old, new = ({n: v for n, v in named(x).items() if isinstance(v, kinds)} for x in pairs)
    return old.keys() == new.keys() and all(_equal(old[name], new[name]) for name in old)


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else np.array_equal(a, b)

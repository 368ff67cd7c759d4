"""How the answers that a check must tell apart are written down: one decorator for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A learner's answer to an exercise, and what the check must say to it ("" for a right one)."""

    exercise: str
    says: str
    function: Callable[..., Any]

    @property
    def id(self) -> str:
        return f"{self.exercise}-{self.function.__name__}"


def wrong(exercise: str, says: str) -> Callable[[Callable[..., Any]], Answer]:
    """A plausible wrong answer; the check must fail, and its message must hold `says`."""
    return lambda function: Answer(exercise, says, function)


def right(exercise: str) -> Callable[[Callable[..., Any]], Answer]:
    """A right answer, written otherwise than the solution; the check must pass it."""
    return lambda function: Answer(exercise, "", function)

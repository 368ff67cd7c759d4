"""What runs in the kernel of a submission: draw a case, call the answer, send the raw values out.

Nothing is judged here, for a submission may have changed anything in its process.
"""

from __future__ import annotations

import copy
import io
import json
import random
import types
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from IPython.display import display

from eqprop_lab.course.raw_values import decoded, encoded
from eqprop_lab.notebook.exercises import _unchanged, seed_of_case
from eqprop_lab.notebook.session import setup
from eqprop_lab.seeding import seeded

__all__ = ["answer", "call_back", "examine", "numbers_of", "same_everywhere", "setup"]
MIME = "application/vnd.eqprop.raw+json"
TEXT = 2000
Draw = Callable[[int], tuple[Any, ...]]
_kept: dict[int, tuple[Any, tuple[Any, ...]]] = {}


def same_everywhere(draw: Draw) -> Draw:
    """`draw` with all generators seeded: an Exercise seeds torch, and cases may come from NumPy."""

    def drawn(k: int) -> tuple[Any, ...]:
        seed = seed_of_case(k)
        np.random.seed(seed)
        random.seed(seed)
        return draw(k)

    return drawn


def answer(function: Callable[..., Any], draw: Draw, k: int) -> None:
    """Send what a function makes of case k."""
    with seeded(seed_of_case(k)):
        case = same_everywhere(draw)(k)
    given = copy.deepcopy(case)
    with seeded(seed_of_case(k + 500)):
        value = _send(lambda: function(*given), case, given)
    _kept[k] = value, given


def call_back(k: int, arguments: str) -> None:
    """Call the function that was the answer to case k, with arguments from `encoded`."""
    function, given = _kept[k]
    values = [decoded(part) for part in json.loads(arguments)]
    _send(lambda: function(*values), given, given)


def examine(judge: Callable[..., str], function: Callable[..., Any], k: int) -> None:
    """Send what a look at the way an answer works has to say."""
    with seeded(seed_of_case(k)):
        _send(lambda: judge(function), (), ())


class _Beginning(io.StringIO):
    """A text that keeps its beginning only: an answer may print without end."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, TEXT - self.tell())])
        return len(text)


def _send(work: Callable[[], Any], case: tuple[Any, ...], given: tuple[Any, ...]) -> Any:
    printed, error, value = _Beginning(), None, None
    with redirect_stdout(printed), warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        try:
            value = work()
        except Exception as problem:
            error = [type(problem).__name__, str(problem)[:TEXT]]
    content = {
        "value": encoded(value),
        "error": error,
        "printed": printed.getvalue(),
        "warned": [str(doubt.message)[:TEXT] for doubt in doubts[:1]],
        "changed": [i for i, pair in enumerate(zip(case, given, strict=True)) if _changed(*pair)],
        "noted": [numbers_of(part) for part in given],
    }
    display({MIME: json.dumps(content)}, raw=True)
    return value


def _changed(before: Any, after: Any) -> bool:
    return before is not after and not _unchanged(before, after)


def numbers_of(argument: Any) -> dict[str, float]:
    """What an argument counts (calls, for example): numbers that are its attributes."""
    if not isinstance(argument, types.FunctionType) and copy.deepcopy(argument) is not argument:
        return {}
    found = getattr(argument, "__dict__", {})
    return {k: v for k, v in found.items() if isinstance(v, int | float)}

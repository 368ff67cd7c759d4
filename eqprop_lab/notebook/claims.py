"""Checks a reader can see: one line when a number is as claimed, else an error with a hint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np


class CheckFailed(AssertionError):
    """A notebook's claim does not hold on this run; the message says what was found, and a hint."""


def check_at_least(what: str, value: Any, bound: float, hint: str = "") -> None:
    """`value >= bound`; prints `ok: cosine 0.9999 >= 0.999`, else raises CheckFailed; not NaN."""
    number, limit = _numbers(what, value=value, bound=bound)
    _report(
        number >= limit,
        f"{what} {_text(number)} >= {_text(limit)}",
        f"{what} = {number:.8g}, expected at least {limit:.8g}",
        hint,
    )


def check_at_most(what: str, value: Any, bound: float, hint: str = "") -> None:
    """`value <= bound`; prints `ok: residual 1e-07 <= 1e-05`, else raises CheckFailed; not NaN."""
    number, limit = _numbers(what, value=value, bound=bound)
    _report(
        number <= limit,
        f"{what} {_text(number)} <= {_text(limit)}",
        f"{what} = {number:.8g}, expected at most {limit:.8g}",
        hint,
    )


def check_close(what: str, value: Any, target: float, tol: float, hint: str = "") -> None:
    """`|value - target| <= tol`; prints `ok: slope 2.01 = 2 +- 0.15`, else raises CheckFailed."""
    number, aim, width = _numbers(what, value=value, target=target, tol=tol)
    if not width >= 0:
        raise ValueError(f"tol = {tol!r} in the check of {what}: a tolerance is zero or positive")
    _report(
        abs(number - aim) <= width,
        f"{what} {_text(number)} = {_text(aim)} +- {_text(width)}",
        f"{what} = {number:.8g}, expected {aim:.8g} within {width:.3g}",
        hint,
    )


def check_equal(what: str, value: Any, expected: Any, hint: str = "") -> None:
    """`value == expected`, element by element for arrays and tensors; else raises CheckFailed."""
    if hasattr(value, "shape") or hasattr(expected, "shape"):
        left, right = (
            np.asarray(v.detach().cpu() if hasattr(v, "detach") else v) for v in (value, expected)
        )
        same = np.array_equal(left, right)
        shown = f"{what}: {left.size} equal numbers of shape {left.shape}"
        wrong = f"{what}: shapes {left.shape} and {right.shape}"
        if left.shape == right.shape:
            wrong = f"{what}: {int((left != right).sum())} of {left.size} numbers differ"
    else:
        same = bool(value == expected)
        shown = f"{what} {value!r} == {expected!r}"
        wrong = f"{what} = {value!r}, expected {expected!r}"
    _report(same, shown, wrong, hint)


def _numbers(what: str, **values: Any) -> Iterator[float]:
    """Floats out of Python, NumPy or torch numbers."""
    for name, value in values.items():
        try:
            yield float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{name} of the check of {what} is a {type(value).__name__}; one number is needed"
            ) from error


def _text(number: float) -> str:
    return f"{number:.4g}" if math.isfinite(number) else str(number)


def _report(holds: bool, good: str, bad: str, hint: str) -> None:
    if not holds:
        raise CheckFailed(bad + (f". Hint: {hint}" if hint else ""))
    print(f"ok: {good}")

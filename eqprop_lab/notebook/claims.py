"""Checks a reader can see: one line when a number is as claimed, an error with a hint when it is
not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class CheckFailed(AssertionError):
    """A notebook's claim does not hold on this run; the message carries what was found and a hint."""


def check_at_least(what: str, value: Any, bound: float, hint: str = "") -> None:
    """`value >= bound`; prints `ok: cosine 0.9999 >= 0.999`. Raises CheckFailed otherwise, NaN
    included.
    """
    number, limit = _number(what, "value", value), _number(what, "bound", bound)
    _report(
        number >= limit,
        f"{what} {_text(number)} >= {_text(limit)}",
        f"{what} = {number:.8g}, expected at least {limit:.8g}",
        hint,
    )


def check_at_most(what: str, value: Any, bound: float, hint: str = "") -> None:
    """`value <= bound`; prints `ok: residual 1e-07 <= 1e-05`. Raises CheckFailed otherwise, NaN
    included.
    """
    number, limit = _number(what, "value", value), _number(what, "bound", bound)
    _report(
        number <= limit,
        f"{what} {_text(number)} <= {_text(limit)}",
        f"{what} = {number:.8g}, expected at most {limit:.8g}",
        hint,
    )


def check_close(what: str, value: Any, target: float, tol: float, hint: str = "") -> None:
    """`|value - target| <= tol`; prints `ok: slope 2.01 = 2 +- 0.15`. Raises CheckFailed otherwise."""
    number, aim, width = (
        _number(what, name, v) for name, v in (("value", value), ("target", target), ("tol", tol))
    )
    if not width >= 0:
        raise ValueError(f"tol = {tol!r} in the check of {what}: a tolerance is zero or positive")
    _report(
        abs(number - aim) <= width,
        f"{what} {_text(number)} = {_text(aim)} +- {_text(width)}",
        f"{what} = {number:.8g}, expected {aim:.8g} within {width:.3g}",
        hint,
    )


def check_equal(what: str, value: Any, expected: Any, hint: str = "") -> None:
    """`value == expected`, element by element for arrays and tensors. Raises CheckFailed otherwise."""
    if hasattr(value, "shape") or hasattr(expected, "shape"):
        left, right = _array(value), _array(expected)
        same = left.shape == right.shape and bool(np.array_equal(left, right))
        shown = f"{what}: {left.size} equal numbers of shape {left.shape}"
        wrong = f"{what}: shapes {left.shape} and {right.shape}"
        if left.shape == right.shape:
            wrong = f"{what}: {int((left != right).sum())} of {left.size} numbers differ"
    else:
        same = bool(value == expected)
        shown, wrong = (
            f"{what} {value!r} == {expected!r}",
            f"{what} = {value!r}, expected {expected!r}",
        )
    _report(same, shown, wrong, hint)


def _array(value: Any) -> np.ndarray[Any, Any]:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _number(what: str, name: str, value: Any) -> float:
    """One float out of a Python, NumPy or torch number."""
    try:
        return float(value)
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

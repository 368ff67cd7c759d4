"""Clear errors for bad arguments: each names the argument, the value it got and what is accepted."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


def positive_int(name: str, value: object) -> int:
    """Return `value` if it is an integer >= 1, else raise TypeError or ValueError naming `name`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer >= 1, got {value!r} ({type(value).__name__})")
    if value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value}")
    return value


def real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return `value` as a finite float inside the given bounds, else raise TypeError or ValueError naming `name`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    limits = [
        (above, ">", lambda v, b: v > b),
        (at_least, ">=", lambda v, b: v >= b),
        (below, "<", lambda v, b: v < b),
        (at_most, "<=", lambda v, b: v <= b),
    ]
    accepted = " and ".join(f"{sign} {bound:g}" for bound, sign, _ in limits if bound is not None)
    number = float(value)
    if not math.isfinite(number) or any(b is not None and not holds(number, b) for b, _, holds in limits):
        raise ValueError(f"{name} must be a finite number {accepted}".rstrip() + f", got {value}")
    return number


def one_of(name: str, value: object, options: Iterable[str]) -> str:
    """Return `value` if it is among `options`, else raise ValueError with the nearest known name."""
    known = list(options)
    if isinstance(value, str) and value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}{hint}")


def known_keys(name: str, given: Iterable[str], options: Iterable[str]) -> None:
    """Raise ValueError for the first key of `given` that is not among `options`."""
    options = list(options)
    for key in given:
        if key not in options:
            one_of(f"key of {name}", key, options)

"""Clear errors for bad arguments: each names the argument, the value it got and what is accepted.

Numbers may be Python's or NumPy's; what is returned is Python's. A switch is True or False and no
text or number that could be taken for one. Values are shown shortened, so that no error is larger
than a screen.
"""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
LARGEST_INT = 2**31 - 1  # sizes and counts; torch itself overflows at 2^63
LARGEST_SEED = 2**32 - 1  # what Python, NumPy and torch all accept


class _Short(reprlib.Repr):
    """repr of about a hundred characters at most, whatever the value: endless, huge or broken."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 2, 60, 60, 40
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 4

    def repr_int(self, x: int, level: int) -> str:
        """Digits as far as they fit; Python itself refuses to write very long ones."""
        if abs(x) < 10**self.maxlong:
            return repr(x)
        return f"an integer of about {int(x.bit_length() * math.log10(2)) + 1} digits"


_SHORT = _Short()


def shown(value: object) -> str:
    """repr(value), shortened."""
    text = _SHORT.repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _kind(value: object) -> str:
    return f"{shown(value)} ({type(value).__name__})"


def integer(
    name: str, value: object, *, at_least: int = 1, at_most: int = LARGEST_INT, accepted: str = ""
) -> int:
    """`value` as an int within the bounds, else TypeError or ValueError naming `name`."""
    wanted = accepted or f"an integer >= {at_least}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {wanted}, got {_kind(value)}")
    number = int(value)
    if number > at_most and not accepted:
        wanted += f" and <= {at_most}"
    if not at_least <= number <= at_most:
        raise ValueError(f"{name} must be {wanted}, got {shown(number)}")
    return number


def positive_int(name: str, value: object) -> int:
    """Return `value` if it is an integer >= 1, else raise TypeError or ValueError naming `name`."""
    return integer(name, value)


def a_seed(name: str, value: object) -> int:
    """`value` if it can seed every generator, else TypeError or ValueError naming `name`."""
    return integer(
        name, value, at_least=0, at_most=LARGEST_SEED, accepted="an integer from 0 to 2^32 - 1"
    )


def switch(name: str, value: object) -> bool:
    """Return `value` as a bool if it is True or False, else raise TypeError naming `name`."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    # bool("no") is True: a text or a number here is a mistake that would stay unseen.
    raise TypeError(f"{name} must be True or False, got {_kind(value)}")


def real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """`value` as a finite float inside the bounds, else TypeError or ValueError naming `name`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {_kind(value)}")
    limits = [
        (above, ">", lambda v, b: v > b),
        (at_least, ">=", lambda v, b: v >= b),
        (below, "<", lambda v, b: v < b),
        (at_most, "<=", lambda v, b: v <= b),
    ]
    accepted = " and ".join(f"{sign} {bound:g}" for bound, sign, _ in limits if bound is not None)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or any(
        b is not None and not holds(number, b) for b, _, holds in limits
    ):
        text = shown(int(value)) if isinstance(value, numbers.Integral) else f"{number:g}"
        raise ValueError(f"{name} must be a finite number {accepted}".rstrip() + f", got {text}")
    return number


def one_of(name: str, value: object, options: Iterable[str]) -> str:
    """`value` if it is among `options`, else ValueError with the nearest known name."""
    known = list(options)
    if isinstance(value, str) and value in known:
        return value
    near = (
        difflib.get_close_matches(value, known, n=1)
        if isinstance(value, str) and len(value) < 100
        else []
    )
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{name} must be one of {', '.join(map(repr, known))}, got {shown(value)}{hint}"
    )


def known_keys(name: str, given: Iterable[str], options: Iterable[str]) -> None:
    """Raise ValueError for the first key of `given` that is not among `options`."""
    options = list(options)
    for key in given:
        if not options:
            raise ValueError(f"{name} takes no keys, got {shown(key)}")
        if key not in options:
            one_of(f"key of {name}", key, options)


def adding(
    table: dict[str, Any],
    name: object,
    what: str,
    fits: Callable[[object], bool] = callable,
    wanted: str = "a class or a function",
) -> Callable[[T], T]:
    """What puts an entry into `table` under a new name and returns it: the body of a registry's
    decorator.

    Raises: TypeError for a name that is no text, at once, and for an entry that does not fit;
    ValueError for a name that another entry has already.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a non-empty string, got {shown(name)}")

    def add(entry: T) -> T:
        if not fits(entry):
            raise TypeError(f"{what} must be {wanted}, got {shown(entry)}")
        if table.get(name, entry) is not entry:
            raise ValueError(f"name must be new, {name!r} is already {shown(table[name])}")
        table[name] = entry
        return entry

    return add


def arguments(function: Callable[..., object]) -> dict[str, inspect.Parameter] | None:
    """The named arguments a function or class takes; None when it takes any (``**kwargs``)."""
    taken = inspect.signature(function).parameters.values()
    return None if any(p.kind is p.VAR_KEYWORD for p in taken) else named_arguments(function)


def named_arguments(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """The arguments that the signature of a function or class names."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = inspect.signature(function).parameters
    return {key: p for key, p in taken.items() if p.kind in named}


def a_path(name: str, value: object) -> Path:
    """`value` as a Path, `~` the home folder, else TypeError or ValueError naming `name`."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name} must be a path, as text or pathlib.Path, got {_kind(value)}")
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError(f"{name} must be a path that a file can have, got {shown(value)}")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # ~somebody, whom this machine does not know
        raise ValueError(
            f"{name} must be a path that exists here, got {shown(value)}: {error}"
        ) from error


def sizes(name: str, value: object) -> int | list[int]:
    """One integer >= 1 or a list of them, else TypeError or ValueError naming `name`."""
    if isinstance(value, numbers.Integral):
        return positive_int(name, value)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"{name} must be an integer >= 1 or a list of them, got {_kind(value)}")
    if len(value) == 0:
        raise ValueError(f"{name} must be an integer >= 1 or a list of them, got {shown(value)}")
    return [positive_int(f"{name}[{i}]", v) for i, v in enumerate(value)]


def repeated(name: str, value: object, count: int, each: str) -> list[int]:
    """`sizes` for `count` places: one integer stands for all of them.

    each: what a place is, for the message.
    """
    found = sizes(name, value)
    if isinstance(found, int):
        return [found] * count
    if len(found) != count:
        raise ValueError(
            f"{name} must be one integer or one for each of the {count} {each}, got {shown(value)}"
        )
    return found


def shape(name: str, value: object) -> tuple[int, ...]:
    """`sizes` as the shape of one sample: one integer stands for a vector."""
    found = sizes(name, value)
    return (found,) if isinstance(found, int) else tuple(found)

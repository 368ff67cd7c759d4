"""The numbers in an answer by name, and what kind of thing an answer is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Named = dict[str, Tensor]
"""{"": x} for one tensor or number, {"[0]": a, "[1]": b} for a tuple, {"['W']": w} for a dict."""


def named(value: Any, place: str = "") -> dict[str, Any]:
    """What an answer is made of, by place; a list of numbers counts as one array."""
    if isinstance(value, Mapping):
        pairs = [(f"{place}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, tuple) or (isinstance(value, list) and _tensor(value) is None):
        pairs = [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {place: value}
    return {name: part for where, item in pairs for name, part in named(item, where).items()}


def numbers(value: Any) -> Named:
    """`named` for an answer of numbers alone. Raises TypeError where something is no number."""
    found = {name: _tensor(item) for name, item in named(value).items()}
    strange = [describe(named(value)[name]) for name, item in found.items() if item is None]
    if strange:
        raise TypeError(strange[0])
    return {name: item for name, item in found.items() if item is not None}


def _tensor(value: Any) -> Tensor | None:
    """Any number, array or tensor in double precision, off the graph; None for what is neither."""
    arrays = isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value)
    try:
        wide = torch.as_tensor(np.asarray(value) if arrays else value).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        return None
    return wide.to(torch.complex128) if wide.is_complex() else wide.double()


def describe(value: Any) -> str:
    """`a tensor of shape (3, 4)`, `a tuple of 2`, `a number`, `a str`: for messages."""
    shape = tuple(getattr(value, "shape", ()))
    kind = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {kind} of {', '.join(map(repr, value)) or 'nothing'}"
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)}"
    if isinstance(value, (int, float)) or (hasattr(value, "shape") and shape == ()):
        return "one number"
    return f"a {kind} of shape {shape}" if shape else f"a {kind}"


def brief(value: Any) -> str:
    """An argument of a case in a few characters: a shape, a number, the name of a class."""
    shape = tuple(getattr(value, "shape", ()))
    if shape:
        return str(shape)
    if isinstance(value, (bool, str)):
        return repr(value)
    if isinstance(value, (int, float)) or hasattr(value, "shape"):
        return f"{float(value):.3g}"
    return type(value).__name__

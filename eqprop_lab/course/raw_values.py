"""Values as JSON and back: numbers, arrays, tensors, what is made of them; nothing that runs.

What comes back is what a stranger sent: shapes and types are checked, no name is looked up, nothing
is unpickled.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

WHOLE = ("bool", "uint8", "int8", "int16", "int32", "int64")
DTYPES = (*WHOLE, "float16", "float32", "float64", "complex64", "complex128")
LONGEST, DEEPEST = 100_000, 6
Json = dict[str, Any]


def encoded(value: Any, depth: int = 0) -> Json:
    """A value as JSON; what is no number, text or collection of them is told by its type alone."""
    if value is None or isinstance(value, bool | float) or _is_short(value):
        return {"kind": "plain", "value": value}
    if isinstance(value, torch.Tensor):
        return {"kind": "tensor"} | _array(_as_numpy(value))
    if isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.name in DTYPES:
        return {"kind": "array"} | _array(np.asarray(value))
    if isinstance(value, complex):
        return {"kind": "array"} | _array(np.asarray(value))
    if depth < DEEPEST and isinstance(value, Mapping):
        pairs = [[encoded(k, depth + 1), encoded(v, depth + 1)] for k, v in value.items()]
        return {"kind": "dict", "value": pairs}
    if depth < DEEPEST and isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {"kind": kind, "value": [encoded(item, depth + 1) for item in value]}
    return {"kind": "function" if callable(value) else "other", "name": type(value).__name__}


def _is_short(value: Any) -> bool:
    """A text or a whole number that JSON holds."""
    if isinstance(value, str):
        return len(value) <= LONGEST
    return isinstance(value, int) and abs(value) < 2**63


def _as_numpy(tensor: torch.Tensor) -> np.ndarray:
    wide = tensor.detach().cpu().to_dense() if tensor.is_sparse else tensor.detach().cpu()
    known = str(wide.dtype).removeprefix("torch.") in DTYPES
    return np.asarray((wide if known else wide.float()).resolve_conj().resolve_neg().numpy())


def _array(array: np.ndarray) -> Json:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def decoded(content: Any, function: Callable[..., Any] | None = None, depth: int = 0) -> Any:
    """The value in what `encoded` made. Raises ValueError for anything else.

    function: stands for a function that was sent; without one it is a thing like any other.
    """
    if not isinstance(content, dict) or depth > DEEPEST + 1:
        raise ValueError("a value that cannot be read came back")
    kind, value = content.get("kind"), content.get("value")
    if kind == "plain" and (value is None or isinstance(value, bool | int | float | str)):
        return value
    if kind in ("tensor", "array"):
        array = _array_in(content)
        return torch.from_numpy(array) if kind == "tensor" else array
    if kind in ("tuple", "list") and isinstance(value, list):
        items = [decoded(item, function, depth + 1) for item in value]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict" and isinstance(value, list):
        return dict(_pair(pair, function, depth) for pair in value)
    if kind == "function" and function is not None:
        return function
    if kind in ("function", "other"):
        return stranger(content.get("name"))
    raise ValueError("a value that cannot be read came back")


def _pair(pair: Any, function: Callable[..., Any] | None, depth: int) -> tuple[Any, Any]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("a value that cannot be read came back")
    key, value = (decoded(part, function, depth + 1) for part in pair)
    if not isinstance(key, str | int | float | bool | tuple | None):
        raise ValueError("a value that cannot be read came back")
    return key, value


def _array_in(content: Json) -> np.ndarray:
    dtype, shape, data = (content.get(key) for key in ("dtype", "shape", "data"))
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if dtype not in DTYPES or not whole or not isinstance(data, str):
        raise ValueError("an array that cannot be read came back")
    assert isinstance(shape, list)
    found = np.frombuffer(base64.b64decode(data, validate=True), dtype=dtype)
    if found.size != math.prod(shape):
        raise ValueError("an array came back whose shape is not that of its numbers")
    return found.reshape(shape).copy()


def stranger(name: object, base: type = object) -> Any:
    """A thing, or an error, of which nothing but the name of its type is known."""
    short = name[:60] if isinstance(name, str) and name.isidentifier() else "thing"
    return type(short, (base,), {})()

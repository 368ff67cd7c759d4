"""Which arrays a kernel computes on: NumPy's, CuPy's, or those of a module that is handed in.

The source is the same for all. A batch has to be of the same kind as the weights: nothing is moved
between a CPU and a GPU behind anybody's back.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from eqprop_lab.validation import one_of

Array = Any  # of the module in use
NAMES = ("numpy", "cupy")
DTYPES = ("float32", "float64")
NEEDED = ("ndarray", "matmul", "copyto", "einsum")  # what other modules lack


def array_module(arrays: object) -> Any:
    """The module of a name in `NAMES`; a module with NumPy's interface is taken as it is.

    Raises TypeError for another module, ValueError for another name, RuntimeError where CuPy or a
    GPU for it is missing.
    """
    if isinstance(arrays, ModuleType) or hasattr(arrays, "matmul"):
        if absent := [name for name in NEEDED if not hasattr(arrays, name)]:
            raise TypeError(
                f"arrays must be {' or '.join(NAMES)} or a module with NumPy's interface; "
                f"{getattr(arrays, '__name__', arrays)} has no {', '.join(absent)}"
            )
        return arrays
    return np if one_of("arrays", arrays, NAMES) == "numpy" else _cupy()


def _cupy() -> Any:
    """CuPy, if it can add: an import proves nothing."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise RuntimeError(
            f"arrays='cupy' needs CuPy, which does not import ({error}); arrays='numpy' needs no "
            "GPU"
        ) from error
    try:
        float(cupy.ones(2).sum())
    except Exception as error:  # CuPy has classes of its own for what is missing
        raise RuntimeError(
            "arrays='cupy' needs a GPU that CuPy can use, and there is none "
            f"({str(error).splitlines()[0]}); arrays='numpy' needs no GPU"
        ) from error
    return cupy


def address(array: Array) -> int:
    """Where the first number of an array lies, on its device."""
    return int(array.data.ptr if hasattr(array.data, "ptr") else array.ctypes.data)


def check_array(name: str, value: object, xp: Any) -> Array:
    """`value` if it is an array of the module, else TypeError naming both kinds."""
    if isinstance(value, xp.ndarray):
        return value
    kind = type(value)
    module, wanted = kind.__module__.partition(".")[0], xp.__name__
    if module == "cupy":
        hint = f"; hand in cupy.asnumpy({name}), or build the kernel with arrays='cupy'"
    elif isinstance(value, np.ndarray):
        hint = f"; hand in {wanted}.asarray({name})"
    elif module == "torch":
        hint = f"; hand in {name}.numpy() for a tensor on the CPU"
    else:
        hint = ""
    raise TypeError(f"{name} must be an array of {wanted}, got {module}.{kind.__name__}{hint}")


def check_inputs(x: object, xp: Any, features: int, dtype: Any) -> Array:
    """x as rows (B, features). Raises TypeError, ValueError unless it is a finite batch that fits.

    Any image shape with as many pixels will do.
    """
    array = check_array("x", x, xp)
    if array.dtype != dtype:
        raise TypeError(
            f"x has dtype {array.dtype}, the kernel computes in {np.dtype(dtype)}: convert one "
            f"(x.astype('{np.dtype(dtype)}'), or dtype=... where the kernel is made)"
        )
    if array.ndim > 0 and len(array) == 0:
        raise ValueError("x must hold at least one sample, got a batch of size 0")
    rows = array.reshape(len(array), -1) if array.ndim > 1 else array
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ValueError(
            f"x must hold a batch of {features} features each, as (B, {features}) or any image "
            f"shape with that many pixels, got shape {tuple(array.shape)}"
        )
    # The sum is finite only if every value is; it costs a third of the full look.
    if not bool(xp.isfinite(rows.sum())) and not bool(xp.isfinite(rows).all()):
        raise ValueError("x holds NaN or infinite values; every input must be finite")
    return rows


def check_dtype(dtype: object) -> Any:
    """The dtype of a name in `DTYPES`; a dtype or a NumPy type by its name. Raises ValueError."""
    if isinstance(dtype, np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic)):
        dtype = np.dtype(dtype).name
    return np.dtype(one_of("dtype", dtype, DTYPES))

"""Start of a notebook: seeds, threads, style and the validated parameters."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from eqprop_lab.notebook.style import apply_style

PROFILES = ("smoke", "full", "cuda")
"""smoke: a small real experiment; full: the published one; cuda: the published one on a GPU."""

_current: Session | None = None


@dataclass(frozen=True)
class Session:
    """What a run of a notebook was started with; its tensors live on `device`, "cpu" or "cuda"."""

    seed: int
    profile: str
    device: str
    started: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since `setup`."""
        return time.perf_counter() - self.started


def setup(seed: int = 0, profile: str = "smoke", threads: int = 1) -> Session:
    """Apply the figure style, limit torch to `threads`, seed all generators, start the clock.

    Args:
        seed: 0 <= seed < 2**32, the same for python, NumPy and torch.
        profile: "smoke", "full" or "cuda"; only "cuda" uses a GPU; the others give the same numbers
            anywhere.
        threads: CPU threads for torch; one thread makes sums reproducible and leaves a core for the
            page.
    Raises:
        TypeError, ValueError: naming the argument. RuntimeError: profile "cuda" where torch finds
        no GPU.
    """
    global _current
    require("seed", seed, kind=int, low=0, high=2**32 - 1)
    require("profile", profile, kind=str, choices=PROFILES)
    require("threads", threads, kind=int, low=1, high=1024)
    if profile == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            'profile = "cuda": torch finds no CUDA device here; use "smoke" or "full"'
        )
    apply_style()
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    _current = Session(seed, profile, "cuda" if profile == "cuda" else "cpu")
    return _current


def current_session() -> Session:
    """The session of the last `setup` in this process; RuntimeError when there was none."""
    if _current is None:
        raise RuntimeError(
            "setup(seed, profile) has not run in this notebook; run its settings cell first"
        )
    return _current


def has_session() -> bool:
    """Whether `setup` has run in this process."""
    return _current is not None


def require(
    name: str,
    value: Any,
    *,
    kind: type,
    low: float | None = None,
    high: float | None = None,
    choices: Collection[Any] | None = None,
) -> Any:
    """Validate one notebook parameter and return it (an int given for a float comes back as float).

    Args:
        name: the parameter's name, for the error.
        kind: int, float, str, bool, list, ... ; a bool is never taken for a number.
        low, high: inclusive bounds of a number, or of the length of a list or tuple.
        choices: accepted values.
    Raises:
        TypeError: wrong type. ValueError: NaN, infinite, out of range, or not among the choices.
    """
    accepts_int = kind is float and isinstance(value, int) and not isinstance(value, bool)
    wanted = _wanted(kind, low, high, choices)
    a_number = kind in (int, float)
    if not (accepts_int or isinstance(value, kind)) or (type(value) is bool and kind is not bool):
        yaml = "; in YAML write 1.0e-3 or 0.001, not 1e-3"
        hint = yaml if isinstance(value, str) and a_number else ""
        raise TypeError(f"{name} = {value!r} is a {type(value).__name__}; {wanted}{hint}")
    if a_number and not math.isfinite(value):
        raise ValueError(f"{name} = {value!r} is not finite; {wanted}")
    measured = len(value) if isinstance(value, (list, tuple)) else value
    below = low is not None and measured < low
    above = high is not None and measured > high
    if below or above or (choices is not None and value not in choices):
        raise ValueError(f"{name} = {value!r} is not accepted; {wanted}")
    return float(value) if accepts_int else value


def _wanted(
    kind: type, low: float | None, high: float | None, choices: Collection[Any] | None
) -> str:
    """What `require` accepts, in words."""
    if choices is not None:
        return f"one of {', '.join(repr(c) for c in choices)} is needed"
    subject = f"{'an' if kind is int else 'a'} {kind.__name__}"
    bounds = "" if low is None else f" of at least {low}"
    if high is not None:
        bounds = f" of at most {high}" if low is None else f" from {low} to {high}"
    length = " with a length" if bounds and kind in (list, tuple) else ""
    return f"{subject}{length}{bounds} is needed"

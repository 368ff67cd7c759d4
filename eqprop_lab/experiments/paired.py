"""Means with intervals, and differences of pairs.

    mean +- t_(n-1) s / sqrt(n)        95 % interval of a mean, normal errors
    p = share of the 2^n sign patterns whose |mean difference| is at least as large (two-sided)

With five pairs the smallest p there can be is 2/32 = 0.06: then the interval says more.

    p'_(k) = max over j <= k of (m - j + 1) p_(j), at most 1       Holm's, of m sorted p-values

keeps the chance of any false claim among m below the level (https://www.jstor.org/stable/4615733).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

EXACT_UP_TO = 16
DRAWS = 20_000


@dataclass(frozen=True)
class Mean:
    """mean, and the ends of its 95 % interval (nan for one value), of n values."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and 95 % interval. Raises ValueError for no values."""
    n = len(values)
    if n == 0:
        raise ValueError("values must hold at least one number, got none")
    mean, half = float(np.mean(values)), half_width(values)
    return Mean(mean, mean - half, mean + half, n)


def half_width(values: Sequence[float] | np.ndarray, outside: float = 0.05) -> float:
    """Half the interval of a mean that misses with chance `outside`; nan for one value."""
    n = len(values)
    if n < 2:
        return math.nan
    return float(student.ppf(1 - outside / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


@dataclass(frozen=True)
class Paired:
    """a - b over pairs: its mean with an interval, and p of the sign-flip test."""

    difference: Mean
    p: float


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """The difference of equally many values, pair by pair. Raises ValueError."""
    if len(a) != len(b):
        raise ValueError(f"a and b must be pairs, got {len(a)} and {len(b)} values")
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    found = mean_of(gaps.tolist())
    if len(gaps) <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(gaps))))
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(DRAWS, len(gaps)))
    means = np.abs(signs @ gaps) / len(gaps)
    # a pattern that is equal up to rounding counts
    return Paired(found, float(np.mean(means >= abs(found.mean) - 1e-12)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's p-values (M), in the order of those given. nan counts as the largest."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    left = np.arange(len(p), 0, -1)
    found = np.empty_like(p)
    found[order] = np.minimum(np.maximum.accumulate(left * p[order]), 1.0)
    return [float(value) for value in found]

"""Ablations: a function that names a grid becomes a study over it, seeds and intervals included.

    @ablation_study
    def depth_ablation():
        return {"depths": [20, 32, 44], "other_params": {"width": 8}}

    depth_ablation()                                   the grid, a mapping a point
    depth_ablation.run(train, seeds=5, path="...")     trained, compared with the first point

A list is a factor, `other_params` and all else are the same at every point. What is stored in
`path` is not trained again. Differences are seed by seed; the k-th smallest of m p-values (paired t
test) is multiplied by m - k + 1, and its interval widened to match (Holm 1979,
https://www.jstor.org/stable/4615733).
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from eqprop_lab.experiments.paired import Mean, half_width, holm, mean_of
from eqprop_lab.experiments.study_figures import ablation_figure
from eqprop_lab.files import replace_text
from eqprop_lab.tables import csv_text, text_table
from eqprop_lab.validation import a_path, arguments, positive_int, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIXED = "other_params"
Point = dict[str, Any]


@dataclass(frozen=True)
class Effect:
    """A point against the first: mean difference, ends of its interval, Holm's p."""

    point: Point
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Ablation:
    """name; grid: the points; rows: {"point", "seed", "value"}, one a training."""

    name: str
    grid: tuple[Point, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def factors(self) -> list[str]:
        """The settings that vary over the grid."""
        return [n for n in self.grid[0] if len({shown(p.get(n)) for p in self.grid}) > 1]

    def values(self, point: Point) -> list[float]:
        """One value a seed. Raises ValueError for a point that is not in the grid."""
        if point not in self.grid:
            raise ValueError(f"point must be one of the grid, got {shown(point)}")
        rows = sorted((r for r in self.rows if r["point"] == point), key=lambda r: r["seed"])
        return [row["value"] for row in rows]

    def mean(self, point: Point) -> Mean:
        """Mean over the seeds with its 95 % interval."""
        return mean_of(self.values(point))

    def effects(self, level: float = 0.95) -> list[Effect]:
        """Every point but the first against the first, in the order of the grid."""
        first = np.asarray(self.values(self.grid[0]))
        found = [(p, np.asarray(self.values(p)) - first) for p in self.grid[1:]]
        p_values = [_p(gaps) for _, gaps in found]
        corrected = holm(p_values)
        ranks = np.argsort(np.argsort(p_values, kind="stable"))
        effects = []
        for (point, gaps), p, rank in zip(found, corrected, ranks, strict=True):
            half = half_width(gaps, (1 - level) / (len(found) - int(rank)))
            mean = float(gaps.mean())
            effects.append(Effect(point, mean, mean - half, mean + half, p))
        return effects

    def table(self) -> str:
        """Means, and what each point changes."""
        names = self.factors
        rows = [(*names, "mean [95 %]", "change [Holm]", "p")]
        for point, effect in zip(self.grid, (None, *self.effects()), strict=True):
            change = "" if effect is None else _interval(effect)
            p = "" if effect is None else f"{effect.p:.3g}"
            rows.append((*(str(point[n]) for n in names), str(self.mean(point)), change, p))
        return "\n".join(text_table(rows))

    def figure(self) -> Figure:
        """What each point changes against the first, with Holm's intervals, one row a point."""
        effects = self.effects()
        ends = [(effect.low, effect.high) for effect in effects]
        labels = [self._label(effect.point) for effect in effects]
        means = [effect.difference for effect in effects]
        return ablation_figure(labels, means, ends, self._label(self.grid[0]))

    def describe(self) -> str:
        """What the figure shows, in words."""
        effects = self.effects()
        clear = [effect for effect in effects if effect.low > 0 or effect.high < 0]
        ordered = sorted(effects, key=lambda effect: effect.difference)
        ends = [f"{self._label(e.point)} ({e.difference:+.3g})" for e in (ordered[0], ordered[-1])]
        return (
            f"{len(effects)} rows, each a mean change against {self._label(self.grid[0])} with its "
            f"interval; {len(clear)} of the intervals exclude zero. Lowest {ends[0]}, highest "
            f"{ends[1]}."
        )

    def _label(self, point: Point) -> str:
        return ", ".join(f"{name} {point[name]}" for name in self.factors)

    def to_csv(self, path: str | Path) -> Path:
        """A row a training, tidy, whole or not at all."""
        names = list(self.grid[0])
        head = ("study", *names, "seed", "value")
        rows = [
            (self.name, *(row["point"][name] for name in names), row["seed"], row["value"])
            for row in self.rows
        ]
        return replace_text(a_path("path", path), csv_text([head, *rows]))


def _interval(effect: Effect) -> str:
    return f"{effect.difference:+.4g} [{effect.low:+.4g}, {effect.high:+.4g}]"


def _p(gaps: np.ndarray) -> float:
    """Two-sided, of a mean of zero; nan for one pair."""
    if len(gaps) < 2:
        return math.nan
    spread = float(gaps.std(ddof=1))
    if spread == 0:
        return 0.0 if gaps.any() else 1.0
    return float(2 * student.sf(abs(gaps.mean()) * math.sqrt(len(gaps)) / spread, len(gaps) - 1))


class AblationStudy:
    """What `ablation_study` makes of a function: called, the grid; `run`, the study."""

    def __init__(self, function: Callable[[], Mapping[str, Any]]) -> None:
        if not callable(function) or inspect.signature(function).parameters:
            raise TypeError(f"ablation_study takes a function without arguments, got {function!r}")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = str(getattr(function, "__name__", "ablation"))

    def __call__(self, names: Sequence[str] | None = None) -> list[Point]:
        """The grid. names: what the settings may be called; "depths" then stands for "depth".

        Raises TypeError, ValueError naming the factor.
        """
        given = self.function()
        if not isinstance(given, Mapping):
            raise TypeError(f"{self.name} must return a mapping, got {shown(given)}")
        fixed = given.get(FIXED, {})
        if not isinstance(fixed, Mapping):
            raise TypeError(f"{self.name}: {FIXED} must be a mapping, got {shown(fixed)}")
        rest = {key: value for key, value in given.items() if key != FIXED}
        factors = {k: list(v) for k, v in rest.items() if isinstance(v, list | tuple)}
        empty = [key for key, values in factors.items() if not values]
        if not factors or empty:
            what = f"the factor {empty[0]!r} has no values" if empty else "it names no list"
            raise ValueError(f"{self.name} must return at least one factor with values: {what}")
        named = {_name(key, names): values for key, values in factors.items()}
        same = {k: v for k, v in rest.items() if k not in factors} | dict(fixed)
        if twice := sorted(named.keys() & same.keys()):
            raise ValueError(f"{self.name} names {twice[0]!r} twice, as a factor and as fixed")
        return [
            dict(zip(named, point, strict=True)) | same
            for point in itertools.product(*named.values())
        ]

    def run(
        self,
        train: Callable[..., float],
        seeds: int = 5,
        path: str | Path | None = None,
        names: Sequence[str] | None = None,
    ) -> Ablation:
        """Train every point with every seed: ``train(**point, seed=seed) -> value``.

        path: a JSON file that keeps the trainings; names: as in the call (None: the arguments of
        `train`, where it names them). Raises TypeError, ValueError before any training for a grid
        that `train` does not take, or a file of another study.
        """
        if not callable(train):
            raise TypeError(f"train must be a function of a point and a seed, got {train!r}")
        count = positive_int("seeds", seeds)
        known = arguments(train)
        if names is None and known is not None:
            names = [name for name in known if name != "seed"]
        grid = self(names)
        if known is not None and (unknown := sorted(grid[0].keys() - known.keys())):
            raise ValueError(
                f"train must take the settings of {self.name}: it has no {unknown[0]!r}, "
                f"only {', '.join(known)}"
            )
        file = None if path is None else a_path("path", path)
        rows = _stored(self.name, grid, file)
        done = {(json.dumps(r["point"], sort_keys=True), r["seed"]) for r in rows}
        for seed, point in itertools.product(range(count), grid):
            if (json.dumps(point, sort_keys=True), seed) in done:
                continue
            value = float(train(**point, seed=seed))
            if not math.isfinite(value):
                raise ValueError(f"train must give a finite value, got {value} at {shown(point)}")
            rows.append({"point": point, "seed": seed, "value": value})
            if file is not None:
                content = {"study": self.name, "grid": grid, "rows": rows}
                replace_text(file, json.dumps(content, indent=1) + "\n")
        return Ablation(self.name, tuple(grid), tuple(r for r in rows if r["seed"] < count))


def _name(key: str, names: Sequence[str] | None) -> str:
    """`key`, or its singular where only that is known."""
    single = key.removesuffix("s")
    return single if names is not None and key not in names and single in names else key


def _stored(name: str, grid: list[Point], file: Path | None) -> list[dict[str, Any]]:
    """The rows of a file, their points those of the grid, which JSON may spell otherwise (a tuple
    is a list there). Raises ValueError for a file of another study or grid.
    """
    if file is None or not file.exists():
        return []
    content = json.loads(file.read_text(encoding="utf-8"))
    plain = json.loads(json.dumps(grid))
    if content.get("study") != name or content.get("grid") != plain:
        raise ValueError(
            f"path holds the study {content.get('study')!r} with another grid than {name!r} has: "
            "give another path, or remove the file"
        )
    return [row | {"point": grid[plain.index(row["point"])]} for row in content["rows"]]


def ablation_study(function: Callable[[], Mapping[str, Any]]) -> AblationStudy:
    """Decorator: a function without arguments that returns lists of settings becomes a study.

    Raises TypeError for anything else.
    """
    return AblationStudy(function)

"""Pictures of a sweep and of an ablation. Without a ground of their own: colours of the style's
cycle and a grey, which light and dark pages show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#767676"
MOST = 3  # settings that get a panel
WIDE = 20.0  # a positive setting whose ends lie further apart has a log axis
LOOKS: dict[str, dict[str, Any]] = {
    "COMPLETE": {"marker": "o", "color": "C0", "label": "complete"},
    "PRUNED": {"marker": "x", "color": GREY, "label": "pruned"},
}


def sweep_figure(
    rows: Sequence[Mapping[str, Any]], best_so_far: Sequence[float], names: Sequence[str]
) -> Figure:
    """rows: trials; best_so_far: (T,), nan before the first value; names: of the settings."""
    from matplotlib.figure import Figure

    shown = list(names)[:MOST]
    figure = Figure(figsize=(2.3 * (1 + len(shown)), 2.5), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(shown), sharey=True, squeeze=False).flat
    numbers = [row["number"] for row in rows]
    first.step(numbers, best_so_far, where="post", color="C1", label="best so far")
    first.set(xlabel="trial", ylabel="value")
    _points(first, rows, numbers)
    for axes, name in zip(others, shown, strict=True):
        values = [row["params"].get(name) for row in rows]
        _points(axes, rows, _setting(axes, name, values))
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _points(axes: Axes, rows: Sequence[Mapping[str, Any]], places: Sequence[float]) -> None:
    for state, look in LOOKS.items():
        kept = [k for k, row in enumerate(rows) if row["state"] == state]
        there = [k for k in kept if rows[k]["value"] is not None]
        if there:
            heights = [rows[k]["value"] for k in there]
            axes.scatter([places[k] for k in there], heights, s=18, zorder=3, **look)


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _setting(axes: Axes, name: str, values: Sequence[Any]) -> list[float]:
    """Where the values lie on the axis: at themselves, or at their number among the levels (of
    texts, switches and the like: as they came up).
    """
    axes.set_xlabel(name)
    if not _numeric(values):
        levels = list(dict.fromkeys(values))
        axes.set_xticks(range(len(levels)), [str(v) for v in levels])
        return [float(levels.index(v)) for v in values]
    if min(values) > 0 and max(values) / min(values) > WIDE:
        axes.set_xscale("log")
    return [float(v) for v in values]


def ablation_figure(
    labels: Sequence[str], means: Sequence[float], ends: Sequence[tuple[float, float]], first: str
) -> Figure:
    """labels, means, ends of the intervals: a row a point, from the top; first: the point they are
    compared with. An interval without zero is filled.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.9 + 0.24 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.0, color=GREY, linewidth=0.8, linestyle=":")
    for row, (mean, (low, high)) in enumerate(zip(means, ends, strict=True)):
        clear = low > 0 or high < 0
        colour = "C0" if clear else GREY
        axes.plot([low, high], [row, row], "-", color=colour, linewidth=1.5)
        axes.plot(mean, row, "o", color=colour, fillstyle="full" if clear else "none")
    axes.set_yticks(range(len(labels)), list(labels))
    axes.set(ylim=(len(labels) - 0.5, -0.5), xlabel=f"change against {first}")
    axes.grid(False, axis="y")
    return figure


def running_best(values: Sequence[float | None], direction: str) -> np.ndarray:
    """(T,) best of the values up to each, None left out; nan before the first."""
    better = np.fmax if direction == "maximize" else np.fmin
    plain = np.array([np.nan if v is None else v for v in values], dtype=float)
    return np.asarray(better.accumulate(plain))

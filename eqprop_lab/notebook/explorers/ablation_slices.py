"""Explorer: one factor of an ablation, at chosen levels of the others, over the same seeds.

mean +- t_(n-1) s / sqrt(n)        at every level of the factor, 95 %, not corrected
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqprop_lab.experiments.ablations import Ablation, Point
from eqprop_lab.notebook.controls import Choice, Control
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import Show, limit, line, panels, round_limits, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

AT = "at_"  # begins the name of a control that holds a factor at a level


@dataclass(frozen=True)
class Slice:
    """Along `factor`: seeds (L, S) of the chosen slice, others (K, L) means of all other slices.

    levels: L texts; held: where the slice lies; limits: of the metric over the whole study.
    """

    metric: str
    factor: str
    levels: tuple[str, ...]
    held: str
    seeds: np.ndarray
    ends: np.ndarray
    others: np.ndarray
    limits: tuple[float, float]


class AblationSlices(Explorer):
    """Pick a metric and a factor; the other factors are held at the levels beside them.

    Args:
        studies: {metric: Ablation}, all over one grid of two factors or more.
        **values: start values of metric, factor and at_NAME for every factor.
    Raises: ValueError for no study, one factor, or studies over different grids.
    """

    title = "Slices of an ablation"
    size = (6.8, 3.5)

    def __init__(self, studies: Mapping[str, Ablation], **values: Any) -> None:
        self.studies = dict(studies)
        if not self.studies:
            raise ValueError("studies must hold at least one ablation, got none")
        first, *rest = self.studies.values()
        if any(study.grid != first.grid for study in rest):
            raise ValueError("studies must be over one grid, got different ones")
        self.factors = first.factors
        if len(self.factors) < 2:
            raise ValueError(f"studies must have two factors or more, got {self.factors}")
        self.grid = first.grid
        self.levels = {f: tuple(dict.fromkeys(p[f] for p in self.grid)) for f in self.factors}
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        held = [
            Choice(AT + name, levels, levels[0], f"{name} held at")
            for name, levels in self.levels.items()
        ]
        metrics = tuple(self.studies)
        return (
            Choice("metric", metrics, metrics[0], "Metric"),
            Choice("factor", tuple(self.factors), self.factors[0], "Along"),
            *held,
        )

    def compute(self, metric: str, factor: str, **held: Any) -> Slice:
        study, levels = self.studies[metric], self.levels[factor]
        fixed = {name: held[AT + name] for name in self.factors if name != factor}
        lines: dict[tuple[Any, ...], list[Point]] = {}
        for point in self.grid:
            lines.setdefault(tuple(point[name] for name in fixed), []).append(point)
        chosen = lines.pop(tuple(fixed.values()))
        found = [study.mean(point) for point in chosen]
        means = [[study.mean(point).mean for point in points] for points in lines.values()]
        return Slice(
            metric,
            factor,
            tuple(map(str, levels)),
            ", ".join(f"{name} {level}" for name, level in fixed.items()),
            np.array([study.values(point) for point in chosen]),
            np.array([(mean.low, mean.high) for mean in found]),
            np.array(means).reshape(-1, len(levels)),
            round_limits([row["value"] for row in study.rows]),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        (axes,) = panels(figure, "A", (0.85, 0.15, 0.95, 0.35))
        points, most = len(self.grid), max(map(len, self.levels.values()))
        seeds = len(next(iter(self.studies.values())).values(self.grid[0]))
        grey = [line(axes, "-", color=NEUTRAL, linewidth=0.8) for _ in range(points)]
        grey[0].set_label("all other slices")
        dots = [line(axes, ".", color=PALETTE[0], alpha=0.5, markersize=6) for _ in range(seeds)]
        dots[0].set_label("a seed each")
        bars = [line(axes, "-", color=PALETTE[1], linewidth=2.5) for _ in range(most)]
        mean = line(axes, "o-", color=PALETTE[1], markersize=7, linewidth=1, label="mean, 95 %")
        figure.legend(handles=[mean, dots[0], grey[0]], loc="lower center", ncols=3)

        def show(data: Slice) -> None:
            _frame(axes, data)
            at = np.arange(len(data.levels))
            mean.set_data(at, data.seeds.mean(1))
            for number, dot in enumerate(dots):
                dot.set_data(at, data.seeds[:, number])
            for number, bar in enumerate(bars):
                there = number < len(at)
                bar.set_data([number, number] if there else [], data.ends[number] if there else [])
            for number, other in enumerate(grey):
                there = number < len(data.others)
                other.set_data(at if there else [], data.others[number] if there else [])

        return [show]

    def describe(self, data: Slice, **values: Any) -> str:
        means = zip(data.levels, data.seeds.mean(1), data.ends, strict=True)
        said = "; ".join(f"{x}: {m:.3g} [{low:.3g}, {high:.3g}]" for x, m, (low, high) in means)
        rise = data.others[:, -1] - data.others[:, 0]
        return (
            f"Mean {data.metric} with its interval along {data.factor}, at {data.held}: {said}. "
            f"Of the other {len(rise)} slices {int((rise > 0).sum())} end higher than they begin."
        )


def _frame(axes: Axes, data: Slice) -> None:
    """Ticks, labels and limits, where they differ."""
    if axes.get_xlabel() != data.factor:
        axes.set_xticks(range(len(data.levels)), list(data.levels))
        axes.set_xlabel(data.factor)
    if axes.get_ylabel() != data.metric:
        axes.set_ylabel(data.metric)
    limit(axes, "xlim", (-0.4, len(data.levels) - 0.6))
    limit(axes, "ylim", data.limits)
    titled(axes, f"at {data.held}")

"""Explorer: time and memory of a training step over the number of steps, from a stored table, and
any point of it measured on the machine where it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eqprop_lab.instruments.kernel_costs import Run, Size, step_costs
from eqprop_lab.notebook.background import TrainingWorker
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE
from eqprop_lab.notebook.working import WorkingExplorer
from eqprop_lab.validation import real

Row = Mapping[str, Any]
Measure = Callable[[Size, int, Run], Row]
REPEATS = 3
TIMES = {
    "kernel_ms": ("kernel", "-", "o"),
    "products_ms": ("its products", ":", "s"),
    "torch_ms": ("torch", "--", "^"),
    "bptt_ms": ("BPTT", "-.", "D"),
}
SPACES = {"kernel_mib": TIMES["kernel_ms"], "bptt_mib": TIMES["bptt_ms"]}
"""Quantities of both panels: label, line style, marker."""
COLOURS = dict(zip((label for label, _, _ in TIMES.values()), PALETTE, strict=False))


@dataclass(frozen=True)
class Point:
    """The rows of one hidden size, by steps; the point between them; what was measured of it."""

    rows: tuple[Row, ...]
    read: Row
    measured: Row | None

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one quantity."""
        return [row["steps"] for row in self.rows], [row[name] for row in self.rows]


class KernelCosts(WorkingExplorer):
    """Args:
        rows: of the table, each with hidden, steps and the names of `TIMES` and `SPACES`; of every
            hidden size the same steps, two or more.
        measure: (size, repeats, pause) -> such a row; pause() is called between runs.
        **values: start values of hidden_dim and free_steps.
    Raises: TypeError, ValueError naming what does not fit.
    """

    title = "What a step costs: time and memory"
    size = (7.6, 3.5)
    begin = "Measure this point", "Take the step here, a few times, and draw what it cost"
    end = "End the measurement"
    done = "Measured"

    def __init__(self, rows: Sequence[Row], measure: Measure = step_costs, **values: Any) -> None:
        self.rows = _checked(rows)
        self.limits = {
            tuple(names): _powers([row[name] for row in rows for name in names])
            for names in (TIMES, SPACES)
        }
        self.measure, self.measured = measure, dict[tuple[int, int], Row]()
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        sizes = tuple(self.rows)
        steps = [row["steps"] for row in self.rows[sizes[0]]]
        start = sizes[min(3, len(sizes) - 1)]
        step = steps[0]
        return (
            Choice("hidden_dim", sizes, start, "Hidden units"),
            Slider("free_steps", step, steps[-1], min(3 * step, steps[-1]), step, "Free steps"),
        )

    def work(self, worker: TrainingWorker, **values: Any) -> None:
        hidden, steps = values["hidden_dim"], values["free_steps"]
        worker.message = f"Measuring {hidden} hidden units, {steps} free steps."
        row = self.measure(Size(hidden, steps), REPEATS, worker.checkpoint)
        self.measured[hidden, steps] = row
        self.redraw()

    def compute(self, hidden_dim: int, free_steps: int) -> Point:
        rows = self.rows[hidden_dim]
        at = [row["steps"] for row in rows]
        # Time and memory are straight lines in the steps: between two rows nothing is guessed.
        read = {
            name: float(np.interp(free_steps, at, [row[name] for row in rows]))
            for name in (*TIMES, *SPACES)
        }
        point = {"hidden": hidden_dim, "steps": free_steps}
        return Point(rows, point | read, self.measured.get((hidden_dim, free_steps)))

    def build(self, figure: Figure) -> Sequence[Show]:
        left, right = panels(figure, "AB", (0.6, 0.15, 0.95, 0.3), wspace=0.2)
        titled(left, "CPU time of a step [ms]")
        titled(right, "Memory at its peak [MiB]")
        ticks = [row["steps"] for row in next(iter(self.rows.values()))]
        shows: list[Show] = []
        for axes, names in ((left, TIMES), (right, SPACES)):
            _scales(axes, ticks, self.limits[tuple(names)])
            shows += _curves(axes, names)
        shown = [*left.lines[: len(TIMES)], _hollow(left, "measured here")]
        figure.legend(handles=shown, loc="lower center", ncols=5)
        return shows

    def describe(self, data: Point, **values: Any) -> str:
        said = f"At {values['hidden_dim']} hidden units and {values['free_steps']} free steps"
        text = f"{said}, by the stored table: {_told(data.read)}."
        return text if data.measured is None else f"{text} Measured here: {_told(data.measured)}."


def _told(row: Row) -> str:
    """One row in words."""
    times = row["kernel_ms"] / row["products_ms"]
    return (
        f"the kernel takes {row['kernel_ms']:.3g} ms, {times:.2f} times its products, torch "
        f"{row['torch_ms']:.3g} ms, BPTT {row['bptt_ms']:.3g} ms; the kernel holds "
        f"{row['kernel_mib']:.3g} MiB, BPTT {row['bptt_mib']:.3g} MiB"
    )


def _checked(rows: object) -> dict[int, tuple[Row, ...]]:
    """{hidden: its rows by steps}."""
    if not isinstance(rows, Sequence) or not rows or isinstance(rows, str):
        raise TypeError("rows must be a list of rows, each with hidden, steps and what they cost")
    for row in rows:
        for name in ("hidden", "steps", *TIMES, *SPACES):
            real(f"{name} of a row", row.get(name), above=0.0)
    found: dict[int, tuple[Row, ...]] = {}
    for row in sorted(rows, key=lambda row: (row["hidden"], row["steps"])):
        found[row["hidden"]] = (*found.get(row["hidden"], ()), row)
    steps = {tuple(row["steps"] for row in each) for each in found.values()}
    if len(steps) > 1 or len(set(next(iter(steps)))) < 2:
        raise ValueError(
            f"rows must hold the same steps for every hidden size, two or more; got {steps}"
        )
    return found


def _scales(axes: Axes, ticks: Sequence[int], powers: tuple[int, int]) -> None:
    """Log axes over the steps of the table and so many powers of ten."""
    low, high = powers
    axes.set(xscale="log", yscale="log", ylim=(10.0**low, 10.0**high), xlabel="free steps")
    axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    decades(axes.yaxis, low, high)


def _powers(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around all values."""
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def _hollow(axes: Axes, label: str = "", color: str = NEUTRAL) -> Line2D:
    """The mark of what was measured."""
    look: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 2, "markersize": 13}
    return line(axes, "o", color=color, label=label, **look)


def _curves(axes: Axes, names: Mapping[str, tuple[str, str, str]]) -> list[Show]:
    """Lines of the table, a guide at the point, and rings where it was measured."""
    curves = {
        name: line(axes, style, color=COLOURS[label], marker=marker, markersize=5, label=label)
        for name, (label, style, marker) in names.items()
    }
    guide = axes.axvline(1.0, **REFERENCE)
    rings = {name: _hollow(axes, color=COLOURS[label]) for name, (label, _, _) in names.items()}

    def show(data: Point) -> None:
        steps = data.read["steps"]
        guide.set_xdata([steps, steps])
        for name, curve in curves.items():
            curve.set_data(*data.curve(name))
            here = data.measured
            rings[name].set_data(*(([], []) if here is None else ([steps], [here[name]])))

    return [show]

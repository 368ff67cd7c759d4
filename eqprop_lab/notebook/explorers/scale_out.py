"""Explorer: what more processes gain, by a model: ranks, bandwidth, latency, batch, parameters.

The step of one process is measured elsewhere and given; its time a sample grows with the
parameters, as that of matrix products does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqprop_lab.instruments.scaling import Link, StepTime, message_bytes, speed_up, step_parts
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, line, panels, titled
from eqprop_lab.notebook.style import DASHES, MARKERS, PALETTE
from eqprop_lab.validation import positive_int

MOST = 256
RANKS = np.unique(np.geomspace(1, MOST, 33).round().astype(int))
BATCHES = (64, 256, 1024, 4096, 16384)
GIGABIT = 1e9 / 8  # bytes


@dataclass(frozen=True)
class Modelled:
    """By rule: gain (ranks,) over `RANKS`, here (gain at the chosen ranks), message (its share)."""

    ranks: int
    gain: Mapping[str, np.ndarray]
    here: Mapping[str, float]
    message: Mapping[str, float]
    size: int


class ScaleOut(Explorer):
    """Choose ranks, a network between them, batch and parameters: the modelled speed-up.

    Args:
        steps: {rule: its measured step of one process}, at most four.
        parameters, outputs: of the network that was measured.
        **values: start values of the controls.
    Raises: TypeError, ValueError naming the argument.
    """

    title = "A model: what more processes gain"
    size = (7.4, 3.3)

    def __init__(
        self, steps: Mapping[str, StepTime], parameters: int, outputs: int, **values: Any
    ) -> None:
        if not 1 <= len(steps) <= len(PALETTE):
            raise ValueError(f"steps must hold 1 to {len(PALETTE)} rules, got {len(steps)}")
        self.steps = dict(steps)
        self.measured = positive_int("parameters", parameters)
        self.outputs = positive_int("outputs", outputs)
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        return (
            Slider("ranks", 1, MOST, 8, 0.3, "Processes", log=True),  # 1, 2, 4, ...
            Slider("bandwidth", 0.1, 1000.0, 10.0, 0.25, "Bandwidth", "Gbit/s", log=True),
            Slider("latency", 1.0, 1000.0, 31.6, 0.25, "Latency of a message", "µs", log=True),
            Choice("batch", BATCHES, 1024, "Batch, all ranks together"),
            Slider("parameters", 1e4, 1e9, 1e6, 0.25, "Parameters", log=True),
        )

    def compute(
        self, *, ranks: float, bandwidth: float, latency: float, batch: int, parameters: float
    ) -> Modelled:
        count = round(ranks)
        link = Link(latency * 1e-6, bandwidth * GIGABIT)
        size = message_bytes(round(parameters), batch, self.outputs)
        grown = {
            rule: StepTime(step.fixed, step.sample * parameters / self.measured)
            for rule, step in self.steps.items()
        }
        parts = {r: step_parts(step, link, batch, size, count) for r, step in grown.items()}
        return Modelled(
            count,
            {rule: speed_up(step, link, batch, size, RANKS) for rule, step in grown.items()},
            {r: float(speed_up(step, link, batch, size, count)) for r, step in grown.items()},
            {rule: float(sent / (work + sent)) for rule, (work, sent) in parts.items()},
            size,
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        left, right = panels(
            figure, "AB", (0.6, 0.15, 0.75, 0.3), width_ratios=(1.6, 1), wspace=0.4
        )
        return [_gains(left, list(self.steps)), _shares(right, list(self.steps))]

    def describe(self, data: Modelled, **values: Any) -> str:
        told = "; ".join(
            f"{rule} {data.here[rule]:.3g} times as quick, {data.message[rule]:.0%} of the step "
            "in messages"
            for rule in self.steps
        )
        best = {rule: int(RANKS[np.argmax(gain)]) for rule, gain in data.gain.items()}
        most = ", ".join(f"{rule} at {count}" for rule, count in best.items())
        return (
            f"Modelled, not measured: {data.ranks} processes, {data.size / 1e6:.3g} MB a step: "
            f"{told}. Quickest of up to {MOST}: {most}."
        )


def _gains(axes: Axes, rules: Sequence[str]) -> Show:
    titled(axes, "Modelled speed-up")
    axes.set(xscale="log", yscale="log", xlim=(0.9, MOST * 1.1), ylim=(0.05, MOST * 1.2))
    axes.set(xlabel="processes")
    axes.set_xticks([1, 4, 16, 64, 256], labels=["1", "4", "16", "64", "256"])
    axes.set_yticks([0.1, 1, 10, 100], labels=["0.1", "1", "10", "100"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([], minor=True)
    axes.plot(RANKS, RANKS, **REFERENCE)
    guide = axes.axvline(1.0, **REFERENCE)
    curves = {
        rule: line(axes, DASHES[i % 4], color=PALETTE[i], label=rule)
        for i, rule in enumerate(rules)
    }
    marks = {
        rule: line(axes, MARKERS[i], color=PALETTE[i], markersize=7) for i, rule in enumerate(rules)
    }
    axes.legend(loc="upper left")

    def show(data: Modelled) -> None:
        guide.set_xdata([data.ranks, data.ranks])
        for rule, curve in curves.items():
            curve.set_data(RANKS, data.gain[rule])
            marks[rule].set_data([data.ranks], [data.here[rule]])

    return show


def _shares(axes: Axes, rules: Sequence[str]) -> Show:
    titled(axes, "Share of a step in messages")
    axes.set(xlim=(0, 1), ylim=(-0.6, len(rules) - 0.4), xlabel="share of the time")
    axes.set_yticks(range(len(rules)), labels=rules)
    axes.invert_yaxis()
    bars = axes.barh(range(len(rules)), 0.0, color=PALETTE[: len(rules)], height=0.5)

    def show(data: Modelled) -> None:
        for bar, rule in zip(bars, rules, strict=True):
            bar.set_width(data.message[rule])

    return show

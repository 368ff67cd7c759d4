"""Explorer of a trained network in the plane: its decision boundary epoch by epoch, and its EqProp gradient.

    beside the map:   -(1/(2 beta B)) (dPhi/dtheta(s+) - dPhi/dtheta(s-))   against   backpropagation through time

The weights of every epoch are kept once; a slider only picks among them, so that no redraw has to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from eqprop_lab.datasets import Split, build_dataset
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.models import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.style import MARKERS, NEUTRAL, PALETTE, fading, outlined

Array = NDArray[np.float32]
WINDOW = (-2.2, 2.2, -1.5, 1.5)
"""The part of the plane that is shown: left, right, bottom, top."""

COLOURS = (PALETTE[0], PALETTE[1])
"""Colour of class 0 and of class 1."""

_SHADES = fading(*COLOURS, strength=0.55, name="classes")
_GRID = (88, 60)
_PROBABILITY = "probability of class 1"
_UNITS = 4
_SETTLE_STEPS = 60
_EDGE = 1.15


def plane_values(model: LoopedMLP, unit: int | None = None) -> Array:
    """The free equilibrium over the plane, rows from bottom to top: p(class 1), or the state of one hidden unit.

    Returns: (rows, columns) over `WINDOW`; probabilities in [0, 1], states in [-1, 1].
    Raises: ValueError for a model that does not map the plane to two classes, or a unit it does not have.
    """
    if (model.input_dim, model.output_dim) != (2, 2):
        raise ValueError(f"model maps {model.input_dim} inputs to {model.output_dim} classes; 2 to 2 is needed")
    if unit is not None and not 0 <= unit < model.hidden_dim:
        raise ValueError(f"unit = {unit!r} is out of range; 0 to {model.hidden_dim - 1} is needed")
    left, right, bottom, top = WINDOW
    columns, rows = (torch.linspace(a, b, n) for a, b, n in zip((left, bottom), (right, top), _GRID, strict=True))
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 2)
    state = relax(model, points).state
    with torch.no_grad():
        values = model.readout(state).softmax(1)[:, 1] if unit is None else state[0][:, unit]
    return np.asarray(values.reshape(_GRID[1], _GRID[0]))


def draw_plane(axes: Axes, values: Array, split: Split, predicted: Tensor, border: Array | None = None) -> None:
    """`values` as shades, the border p = 1/2 as a black line, the samples of `split`, wrong ones with a cross.

    Args: values (rows, columns) from `plane_values`; predicted: class indices (B,); border: the probabilities the
    line is drawn from where `values` are something else.
    """
    bands = np.linspace(0.0 if border is None else -1.0, 1.0, 13)
    axes.contourf(values, levels=bands, cmap=_SHADES, extent=WINDOW)
    lines = values if border is None else border
    dark = outlined(1.6)
    line = axes.contour(lines, levels=[0.5], extent=WINDOW, colors=dark["color"], linewidths=1.6, zorder=2)
    line.set_path_effects(dark["path_effects"])
    x, y = split.x.numpy(), split.y.numpy()
    for index, colour in enumerate(COLOURS):
        x1, x2 = x[y == index].T
        axes.scatter(x1, x2, s=15, color=colour, marker=MARKERS[index], edgecolors="white", linewidths=0.5, zorder=3)
    x1, x2 = x[predicted.numpy() != y].T
    axes.scatter(x1, x2, s=26, marker="x", linewidths=1.1, zorder=4, **outlined(1.1))
    left, right, bottom, top = WINDOW
    for x1, side, label, colour in ((left, "left", "● class 0", COLOURS[0]), (right, "right", "■ class 1", COLOURS[1])):
        edge = 0.04 * (right - left) * (1 if side == "left" else -1)
        axes.text(
            x1 + edge / 2,
            bottom + 0.1,
            label,
            ha=side,
            va="bottom",
            weight="bold",
            zorder=5,
            **outlined(1.0) | {"color": colour},
        )
    axes.set(xlabel="$x_1$", ylabel="$x_2$", xlim=WINDOW[:2], ylim=WINDOW[2:], xticks=range(-2, 3), yticks=range(-1, 2))
    axes.grid(False)


@dataclass(frozen=True)
class Scene:
    """What one picture shows. `exact` and `estimated` are the gradients of all weights the beta matters for, (P,)."""

    values: Array
    border: Array | None
    split: Split
    predicted: Tensor
    exact: Tensor
    estimated: Tensor
    epoch: int

    @property
    def accuracy(self) -> float:
        """Share of the samples on their side of the border."""
        return float((self.predicted == self.split.y).float().mean())

    @property
    def error(self) -> float:
        """||estimated - exact|| / ||exact||."""
        return float((self.estimated - self.exact).norm() / self.exact.norm())

    @property
    def ratio(self) -> float:
        """||estimated|| / ||exact||."""
        return float(self.estimated.norm() / self.exact.norm())


class DecisionBoundary(Explorer):
    """Scrub through the training of a network that tells two moons apart.

    Args:
        snapshots: the network before training and after every epoch, at least two models.
        seed: of the fresh samples drawn for every noise level.
        **values: start values of the controls epoch, noise, beta, view.
    Raises: ValueError naming the argument.
    """

    title = "Two moons, epoch by epoch"
    size = (8.2, 3.7)

    def __init__(self, snapshots: Sequence[LoopedMLP], seed: int = 0, **values: Any) -> None:
        if len(snapshots) < 2:
            raise ValueError(f"snapshots holds {len(snapshots)} models; one before training and one after are needed")
        self.snapshots, self.seed = list(snapshots), seed
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        """The number of epochs and of hidden units depends on the snapshots."""
        last = len(self.snapshots) - 1
        units = [f"state of hidden unit {i + 1}" for i in range(min(_UNITS, self.snapshots[0].hidden_dim))]
        return (
            # Inside the range, where the border is about to bend: a key press in either direction shows something.
            Slider("epoch", 0, last, last // 6, 1, "epoch"),
            Slider("noise", 0.0, 0.5, 0.15, 0.05, "noise of fresh samples", unit="sd"),
            # A start value on the slider's own grid: the page would round any other one.
            Slider("beta", 0.001, 10.0, 0.01, 0.25, "nudging strength beta", log=True),
            Choice("view", (_PROBABILITY, *units), _PROBABILITY, "colour shows"),
        )

    def compute(self, **values: Any) -> Scene:
        """Accuracy on fresh samples, the map, and both gradients on those samples."""
        model, view = self.snapshots[values["epoch"]], values["view"]
        split = build_dataset({"name": "two_moons", "noise": values["noise"], "seed": self.seed + 1}).test
        x, y, steps = split.x, split.y, _SETTLE_STEPS
        with torch.no_grad():
            predicted = model(x).argmax(1)
        gradients = (
            estimate_gradients(model, x, y, "bptt", free_steps=steps),
            estimate_gradients(model, x, y, "centered", values["beta"], free_steps=steps, nudged_steps=steps),
        )
        # The readout learns from the free state alone: its gradient says nothing about beta.
        exact, estimated = (
            torch.cat([g.flatten() for name, g in found.items() if not name.startswith("W_out")]) for found in gradients
        )
        probability, border = plane_values(model), None
        if view != _PROBABILITY:
            probability, border = plane_values(model, int(view.rsplit(" ", 1)[1]) - 1), probability
        return Scene(probability, border, split, predicted, exact, estimated, values["epoch"])

    def draw(self, figure: Figure, data: Scene) -> None:
        """Left the plane, right every weight's EqProp gradient against the exact one, both in units of the largest."""
        plane, agreement = figure.subplots(1, 2, width_ratios=[1.4, 1.0])
        draw_plane(plane, data.values, data.split, data.predicted, data.border)
        plane.set_title(f"Epoch {data.epoch}: {100 * data.accuracy:.1f} % right (× wrong)")
        largest, ticks = data.exact.abs().max(), (-1.0, -0.5, 0.0, 0.5, 1.0)
        estimated = (data.estimated / largest).clamp(-_EDGE, _EDGE)
        agreement.plot([-_EDGE, _EDGE], [-_EDGE, _EDGE], color=NEUTRAL, lw=1.2, ls="-", zorder=1)
        agreement.scatter(data.exact / largest, estimated, s=11, color=PALETTE[2], alpha=0.6, zorder=2)
        agreement.set(xlim=(-_EDGE, _EDGE), ylim=(-_EDGE, _EDGE), xticks=ticks, yticks=ticks)
        agreement.set(xlabel="exact gradient / its largest", ylabel="EqProp gradient")
        agreement.set_title(f"Every weight: error {_percent(data.error)}")

    def describe(self, data: Scene, **values: Any) -> str:
        """Accuracy, what the colour means, and how far the gradients agree."""
        verdict = "on the diagonal" if data.error < 0.05 else "near the diagonal" if data.error < 0.5 else "scattered"
        return (
            f"Two moons after {values['epoch']} epochs, colour showing the {values['view']}: "
            f"{100 * data.accuracy:.1f} % of {len(data.split)} fresh samples with noise {values['noise']:.2f} are on "
            f"the right side of the border. At beta {values['beta']:.3g} the EqProp gradients lie {verdict}: "
            f"error {_percent(data.error)}, {data.ratio:.2f} times as long as the exact ones."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"

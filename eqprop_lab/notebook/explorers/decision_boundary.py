"""Explorer of a trained network in the plane: its decision boundary epoch by epoch, and its EqProp
gradient.

    beside the map:   -(1/(2 beta B)) (dPhi/dtheta(s+) - dPhi/dtheta(s-))   against   backpropagation through time

The weights of every epoch are kept once; a slider only picks among them, so that no redraw has to
train.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from eqprop_lab.datasets import Split, build_dataset
from eqprop_lab.equilibrium.gradients import Gradients, Settings, estimate
from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.models import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import line, margins, ticks_below, titled
from eqprop_lab.notebook.style import MARKERS, NEUTRAL, PALETTE, fading, outlined

Array = NDArray[np.float32]
WINDOW = (-2.2, 2.2, -1.5, 1.5)
"""The part of the plane that is shown: left, right, bottom, top."""

COLOURS = (PALETTE[0], PALETTE[1])
"""Colour of class 0 and of class 1."""

_SHADES = fading(*COLOURS, strength=0.55, name="classes")
_GRID = (88, 60)
_PROBABILITY = "probability of class 1"
_UNITS, _KEPT = 4, 64
_SETTLE_STEPS = 60
_EDGE = 1.15


def plane_values(model: LoopedMLP, unit: int | None = None) -> Array:
    """The free equilibrium over the plane, rows from bottom to top: p(class 1), or the state of one
    hidden unit.

    Returns: (rows, columns) over `WINDOW`; probabilities in [0, 1], states in [-1, 1].
    Raises: ValueError for a model that does not map the plane to two classes, or a unit it does not
    have.
    """
    if (model.input_dim, model.output_dim) != (2, 2):
        raise ValueError(
            f"model maps {model.input_dim} inputs to {model.output_dim} classes; 2 to 2 is needed"
        )
    if unit is not None and not 0 <= unit < model.hidden_dim:
        raise ValueError(f"unit = {unit!r} is out of range; 0 to {model.hidden_dim - 1} is needed")
    left, right, bottom, top = WINDOW
    columns, rows = (
        torch.linspace(a, b, n) for a, b, n in zip((left, bottom), (right, top), _GRID, strict=True)
    )
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 2)
    state = relax(model, points).state
    with torch.no_grad():
        values = model.readout(state).softmax(1)[:, 1] if unit is None else state[0][:, unit]
    return np.asarray(values.reshape(_GRID[1], _GRID[0]))


def draw_plane(
    axes: Axes, values: Array, split: Split, predicted: Tensor, border: Array | None = None
) -> None:
    """`values` as shades, the border p = 1/2 as a black line, the samples of `split`, wrong ones
    with a cross.

    Args: values (rows, columns) from `plane_values`; predicted: class indices (B,); border: the
    probabilities the line is drawn from where `values` are something else.
    """
    _Plane(axes).show(values, border, split, predicted)


class _Plane:
    """The part of the plane that is shown, its shades, its border, its samples."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.maps: list[ContourSet] = []
        dots: dict[str, Any] = {"s": 15, "edgecolors": "white", "linewidths": 0.5, "zorder": 3}
        self.samples = [
            axes.scatter([], [], color=colour, marker=MARKERS[index], **dots)
            for index, colour in enumerate(COLOURS)
        ]
        # A rim as a path effect is drawn cross by cross, a line of crosses below is not.
        self.wrong = [
            line(axes, "x", markersize=5.1, markeredgewidth=width, color=colour, zorder=4)
            for width, colour in ((2.5, "white"), (1.1, "black"))
        ]
        left, right, bottom, top = WINDOW
        for x1, side, label, colour in (
            (left, "left", "● class 0", COLOURS[0]),
            (right, "right", "■ class 1", COLOURS[1]),
        ):
            edge = 0.04 * (right - left) * (1 if side == "left" else -1)
            look = outlined(1.0) | {
                "ha": side,
                "va": "bottom",
                "weight": "bold",
                "color": colour,
                "zorder": 5,
            }
            axes.text(x1 + edge / 2, bottom + 0.1, label, **look)
        axes.set(xlabel="$x_1$", ylabel="$x_2$", xlim=WINDOW[:2], ylim=WINDOW[2:])
        axes.set(xticks=range(-2, 3), yticks=range(-1, 2))
        axes.grid(False)

    def show(self, values: Array, border: Array | None, split: Split, predicted: Tensor) -> None:
        for drawn in self.maps:
            drawn.remove()
        bands = np.linspace(0.0 if border is None else -1.0, 1.0, 13)
        shades = self.axes.contourf(values, levels=bands, cmap=_SHADES, extent=WINDOW, zorder=0)
        lines, dark = values if border is None else border, outlined(1.6)
        half = self.axes.contour(
            lines, [0.5], extent=WINDOW, colors=dark["color"], linewidths=1.6, zorder=2
        )
        half.set_path_effects(dark["path_effects"])
        self.maps = [shades, half]
        x, y = split.x.numpy(), split.y.numpy()
        for index, samples in enumerate(self.samples):
            samples.set_offsets(x[y == index])
        for crosses in self.wrong:
            crosses.set_data(x[predicted.numpy() != y].T)


@dataclass(frozen=True)
class Scene:
    """What one picture shows. `exact` and `estimated` are the gradients of all weights the beta
    matters for, (P,).
    """

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
        snapshots: the network before training and after every epoch, at least two models. They are
            copied: training them further changes nothing here.
        seed: of the fresh samples drawn for every noise level.
        **values: start values of the controls epoch, noise, beta, view.
    Raises: ValueError naming the argument.
    """

    title = "Two moons, epoch by epoch"
    size = (8.2, 3.7)

    def __init__(self, snapshots: Sequence[LoopedMLP], seed: int = 0, **values: Any) -> None:
        if len(snapshots) < 2:
            raise ValueError(
                f"snapshots holds {len(snapshots)} models; one before training and one after are needed"
            )
        self.snapshots, self.seed = [deepcopy(model) for model in snapshots], seed
        # What a slider leaves alone is not computed again.
        self._plane = lru_cache(maxsize=_KEPT)(self._plane_of)
        self._exact = lru_cache(maxsize=_KEPT)(self._exact_of)
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        """The number of epochs and of hidden units depends on the snapshots."""
        last = len(self.snapshots) - 1
        units = [
            f"state of hidden unit {i + 1}"
            for i in range(min(_UNITS, self.snapshots[0].hidden_dim))
        ]
        return (
            # Inside the range, where the border is about to bend: a key press in either direction
            # shows something.
            Slider("epoch", 0, last, last // 6, 1, "epoch"),
            Slider("noise", 0.0, 0.5, 0.15, 0.05, "noise of fresh samples", unit="sd"),
            # A start value on the slider's own grid: the page would round any other one.
            Slider("beta", 0.001, 10.0, 0.01, 0.25, "nudging strength beta", log=True),
            Choice("view", (_PROBABILITY, *units), _PROBABILITY, "colour shows"),
        )

    def _plane_of(self, epoch: int, unit: int | None) -> Array:
        return plane_values(self.snapshots[epoch], unit)

    def _exact_of(self, epoch: int, noise: float) -> tuple[Split, Tensor, Tensor]:
        """Fresh samples, the classes the network gives them, and the exact gradient on them."""
        model = self.snapshots[epoch]
        split = build_dataset({"name": "two_moons", "noise": noise, "seed": self.seed + 1}).test
        with torch.no_grad():
            predicted = model(split.x).argmax(1)
        exact = estimate(model, split.x, split.y, "bptt", Settings(free_steps=_SETTLE_STEPS))[
            0
        ].gradients
        return split, predicted, _flat(exact)

    def compute(self, **values: Any) -> Scene:
        """Accuracy on fresh samples, the map, and both gradients on those samples."""
        epoch, view, steps = values["epoch"], values["view"], _SETTLE_STEPS
        split, predicted, exact = self._exact(epoch, values["noise"])
        # Not estimate_gradients: at a large beta it would warn of what the picture shows.
        settings = Settings(values["beta"], steps, steps)
        found = estimate(self.snapshots[epoch], split.x, split.y, "centered", settings)[0].gradients
        shown, border = self._plane(epoch, None), None
        if view != _PROBABILITY:
            shown, border = self._plane(epoch, int(view.rsplit(" ", 1)[1]) - 1), shown
        return Scene(shown, border, split, predicted, exact, _flat(found), epoch)

    def build(self, figure: Figure) -> tuple[_Plane, Axes, PathCollection]:
        """Left the plane, right every weight's EqProp gradient against the exact one, both in units
        of the largest.
        """
        places = margins(figure, 0.6, 0.15, 0.55, 0.35, wspace=0.25)
        left, right = figure.subplots(1, 2, width_ratios=[1.4, 1.0], gridspec_kw=places)
        plane, ticks = _Plane(left), (-1.0, -0.5, 0.0, 0.5, 1.0)
        ticks_below(left)
        right.plot([-_EDGE, _EDGE], [-_EDGE, _EDGE], color=NEUTRAL, lw=1.2, ls="-", zorder=1)
        weights = right.scatter([], [], s=11, color=PALETTE[2], alpha=0.6, zorder=2)
        right.set(xlim=(-_EDGE, _EDGE), ylim=(-_EDGE, _EDGE), xticks=ticks, yticks=ticks)
        right.set(xlabel="exact gradient / its largest", ylabel="EqProp gradient")
        return plane, right, weights

    def move(self, parts: tuple[_Plane, Axes, PathCollection], data: Scene) -> None:
        """Another border, other samples, every weight at its gradients."""
        plane, agreement, weights = parts
        plane.show(data.values, data.border, data.split, data.predicted)
        titled(plane.axes, f"Epoch {data.epoch}: {100 * data.accuracy:.1f} % right (× wrong)")
        largest = data.exact.abs().max()
        estimated = (data.estimated / largest).clamp(-_EDGE, _EDGE)
        weights.set_offsets(torch.stack([data.exact / largest, estimated], 1).numpy())
        titled(agreement, f"Every weight: error {_percent(data.error)}")

    def describe(self, data: Scene, **values: Any) -> str:
        """Accuracy, what the colour means, and how far the gradients agree."""
        verdict = (
            "on the diagonal"
            if data.error < 0.05
            else "near the diagonal"
            if data.error < 0.5
            else "scattered"
        )
        return (
            f"Two moons after {values['epoch']} epochs, colour showing the {values['view']}: "
            f"{100 * data.accuracy:.1f} % of {len(data.split)} fresh samples with noise {values['noise']:.2f} are on "
            f"the right side of the border. At beta {values['beta']:.3g} the EqProp gradients lie {verdict}: "
            f"error {_percent(data.error)}, {data.ratio:.2f} times as long as the exact ones."
        )


def _flat(gradients: Gradients) -> Tensor:
    """Without the readout, which learns from the free state alone: its gradient says nothing about
    beta.
    """
    return torch.cat([g.flatten() for name, g in gradients.items() if not name.startswith("W_out")])


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"

"""Explorer: a decision boundary in the plane, epoch by epoch, and the gradient that bends it.

    beside the map:   -(1/(2 beta B)) (dPhi/dtheta(s+) - dPhi/dtheta(s-))
    against           backpropagation through time

The weights of every epoch are kept once; a slider only picks among them: no redraw has to train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
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
from eqprop_lab.notebook.moving_axes import Show, line, panels, ticks_below, titled
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
    """p(class 1) over the plane at the free equilibrium, or the state of one hidden unit.

    Returns: (rows from bottom to top, columns) over `WINDOW`.
    Raises: ValueError for a model that does not map the plane to two classes, or a unit it lacks.
    """
    if (model.input_dim, model.output_dim) != (2, 2):
        raise ValueError(
            f"model maps {model.input_dim} inputs to {model.output_dim} classes; 2 to 2 is needed"
        )
    if unit is not None and not 0 <= unit < model.hidden_dim:
        raise ValueError(f"unit = {unit!r} is out of range; 0 to {model.hidden_dim - 1} is needed")
    left, right, bottom, top = WINDOW
    columns = torch.linspace(left, right, _GRID[0])
    rows = torch.linspace(bottom, top, _GRID[1])
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 2)
    state = relax(model, points).state
    with torch.no_grad():
        values = model.readout(state).softmax(1)[:, 1] if unit is None else state[0][:, unit]
    return np.asarray(values.reshape(_GRID[1], _GRID[0]))


def draw_plane(
    axes: Axes, values: Array, split: Split, predicted: Tensor, border: Array | None = None
) -> None:
    """`values` as shades, the border p = 1/2 as a line, `split` as dots, a cross on the wrong ones.

    Args: values (rows, columns) from `plane_values`; predicted: class indices (B,); border: the
    probabilities the line is drawn from where `values` are something else.
    """
    _plane(axes)(values, border, split, predicted)


def _plane(axes: Axes) -> Callable[[Array, Array | None, Split, Tensor], None]:
    """The part of the plane that is shown; returns what shows values, border and samples on it."""
    maps: list[ContourSet] = []
    dots: dict[str, Any] = {"s": 15, "edgecolors": "white", "linewidths": 0.5, "zorder": 3}
    samples = [
        axes.scatter([], [], color=colour, marker=MARKERS[index], **dots)
        for index, colour in enumerate(COLOURS)
    ]
    # A rim as a path effect is drawn cross by cross, a line of crosses below is not.
    wrong = [
        line(axes, "x", markersize=5.1, markeredgewidth=width, color=colour, zorder=4)
        for width, colour in ((2.5, "white"), (1.1, "black"))
    ]
    _name_classes(axes)
    axes.set(xlabel="$x_1$", ylabel="$x_2$", xlim=WINDOW[:2], ylim=WINDOW[2:])
    axes.set(xticks=range(-2, 3), yticks=range(-1, 2))
    axes.grid(False)

    def show(values: Array, border: Array | None, split: Split, predicted: Tensor) -> None:
        while maps:
            maps.pop().remove()
        bands = np.linspace(0.0 if border is None else -1.0, 1.0, 13)
        maps.append(axes.contourf(values, bands, cmap=_SHADES, extent=WINDOW, zorder=0))
        dark, lines = outlined(1.6), values if border is None else border
        look: dict[str, Any] = {"colors": dark["color"], "linewidths": 1.6, "zorder": 2}
        maps.append(axes.contour(lines, [0.5], extent=WINDOW, **look))
        maps[-1].set_path_effects(dark["path_effects"])
        x, y = split.x.numpy(), split.y.numpy()
        for index, drawn in enumerate(samples):
            drawn.set_offsets(x[y == index])
        for crosses in wrong:
            crosses.set_data(x[predicted.numpy() != y].T)

    return show


def _name_classes(axes: Axes) -> None:
    """The names of both classes in their colours, in the lower corners."""
    left, right, bottom, _ = WINDOW
    edge = 0.02 * (right - left)
    look = outlined(1.0) | {"va": "bottom", "weight": "bold", "zorder": 5}
    for x1, side, label, colour in (
        (left + edge, "left", "● class 0", COLOURS[0]),
        (right - edge, "right", "■ class 1", COLOURS[1]),
    ):
        axes.text(x1, bottom + 0.1, label, **look | {"ha": side, "color": colour})


@dataclass(frozen=True)
class Scene:
    """One picture. exact, estimated: gradients (P,) of all the weights for which beta matters."""

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
                f"snapshots holds {len(snapshots)} models; one before training and one after are "
                "needed"
            )
        self.snapshots = [deepcopy(model) for model in snapshots]
        self.seed = seed
        # What a slider leaves alone is not computed again.
        self._plane = lru_cache(maxsize=_KEPT)(self._plane_of)
        self._exact = lru_cache(maxsize=_KEPT)(self._exact_of)
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        last = len(self.snapshots) - 1
        units = range(1, 1 + min(_UNITS, self.snapshots[0].hidden_dim))
        views = (_PROBABILITY, *(f"state of hidden unit {unit}" for unit in units))
        return (
            # Inside the range, where the border is about to bend: a key press either way shows it.
            Slider("epoch", 0, last, last // 6, 1, "epoch"),
            Slider("noise", 0.0, 0.5, 0.15, 0.05, "noise of fresh samples", unit="sd"),
            # A start value on the slider's own grid: the page would round any other one.
            Slider("beta", 0.001, 10.0, 0.01, 0.25, "nudging strength beta", log=True),
            Choice("view", views, _PROBABILITY, "colour shows"),
        )

    def _plane_of(self, epoch: int, unit: int | None) -> Array:
        return plane_values(self.snapshots[epoch], unit)

    def _exact_of(self, epoch: int, noise: float) -> tuple[Split, Tensor, Tensor]:
        """Fresh samples, the classes the network gives them, and the exact gradient on them."""
        model = self.snapshots[epoch]
        split = build_dataset({"name": "two_moons", "noise": noise, "seed": self.seed + 1}).test
        with torch.no_grad():
            predicted = model(split.x).argmax(1)
        settings = Settings(free_steps=_SETTLE_STEPS)
        exact = estimate(model, split.x, split.y, "bptt", settings)[0].gradients
        return split, predicted, _flat(exact)

    def compute(self, epoch: int, noise: float, beta: float, view: str) -> Scene:
        split, predicted, exact = self._exact(epoch, noise)
        # Not estimate_gradients: at a large beta it would warn of what the picture shows.
        settings = Settings(beta, _SETTLE_STEPS, _SETTLE_STEPS)
        found = estimate(self.snapshots[epoch], split.x, split.y, "centered", settings)[0].gradients
        shown, border = self._plane(epoch, None), None
        if view != _PROBABILITY:
            unit = int(view.rsplit(" ", 1)[1]) - 1
            shown, border = self._plane(epoch, unit), shown
        return Scene(shown, border, split, predicted, exact, _flat(found), epoch)

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.6, 0.15, 0.55, 0.35)
        left, right = panels(figure, "AB", inches, width_ratios=(1.4, 1.0), wspace=0.25)
        plane = _plane(left)
        ticks_below(left)

        def show(data: Scene) -> None:
            plane(data.values, data.border, data.split, data.predicted)
            titled(left, f"Epoch {data.epoch}: {100 * data.accuracy:.1f} % right (× wrong)")

        return [show, _agreement(right)]

    def describe(self, data: Scene, **values: Any) -> str:
        where = "scattered"
        if data.error < 0.5:
            where = "on the diagonal" if data.error < 0.05 else "near the diagonal"
        return (
            f"Two moons after {values['epoch']} epochs, colour showing the {values['view']}: "
            f"{100 * data.accuracy:.1f} % of {len(data.split)} fresh samples with noise "
            f"{values['noise']:.2f} are on the right side of the border. At beta "
            f"{values['beta']:.3g} the EqProp gradients lie {where}: error "
            f"{_percent(data.error)}, {data.ratio:.2f} times as long as the exact ones."
        )


def _agreement(axes: Axes) -> Show:
    """Every weight's EqProp gradient against the exact one, both in units of the largest."""
    span, ticks = (-_EDGE, _EDGE), (-1.0, -0.5, 0.0, 0.5, 1.0)
    axes.plot(span, span, color=NEUTRAL, lw=1.2, ls="-", zorder=1)
    weights = axes.scatter([], [], s=11, color=PALETTE[2], alpha=0.6, zorder=2)
    axes.set(xlim=span, ylim=span, xticks=ticks, yticks=ticks)
    axes.set(xlabel="exact gradient / its largest", ylabel="EqProp gradient")

    def show(data: Scene) -> None:
        largest = data.exact.abs().max()
        estimated = (data.estimated / largest).clamp(*span)
        weights.set_offsets(torch.stack([data.exact / largest, estimated], 1).numpy())
        titled(axes, f"Every weight: error {_percent(data.error)}")

    return show


def _flat(gradients: Gradients) -> Tensor:
    """Without the readout: it learns from the free state alone, whatever beta is."""
    return torch.cat([g.flatten() for name, g in gradients.items() if not name.startswith("W_out")])


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"

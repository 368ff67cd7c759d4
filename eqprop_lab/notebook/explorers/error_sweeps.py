"""Explorer: the errors of a predictive coding network sweep by sweep, and the gradient they make.

    carried    e_l as the sweep hands it down     after one sweep those of backpropagation
    read off   e_l = s_l - p_l(s_(l-1))           wrong until the states have followed

Both end at the settled phases, beta^2 away from the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from torch import Tensor

from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.models.predictive_coding import PredictiveMLP, Sweep, sweeping
from eqprop_lab.models.predictive_layer import back_pair
from eqprop_lab.notebook.controls import Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import digits, relative_error
from eqprop_lab.notebook.moving_axes import Show, decades, line, panels, titled
from eqprop_lab.notebook.style import DASHES, PALETTE

WIDTH, DIGITS, DEEPEST, LONGEST = 24, 16, 6, 16
LIMITS = (1e-6, 10.0)


@lru_cache(maxsize=DEEPEST)
def network(depth: int) -> PredictiveMLP:
    """An untrained network for the digits with so many hidden layers, in float64."""
    return PredictiveMLP(64, [WIDTH] * depth, 10, seed=0).double()


def read_off(model: PredictiveMLP, sweep: Sweep, drive: tuple[Tensor, ...]) -> Sweep:
    """The same sweep with the errors that its last state shows: s_l - p_l(s_(l-1))."""
    first = sweep.state[0] - torch.cat([drive[1], torch.zeros_like(drive[1])])
    errors, layers = [first], model._layers()
    scaled = [torch.cat([layers[0].back(e, drive[1], drive[0]) for e in first.chunk(2)])]
    for layer, s, below in zip(layers[1:], sweep.state[1:], sweep.state, strict=False):
        p, slopes = layer.pair(below)
        errors.append(s - p)
        scaled.append(back_pair(errors[-1], slopes))
    return Sweep((drive[0], *sweep.state[:-1]), errors, scaled, sweep.state)


@dataclass(frozen=True)
class Errors:
    """layers (L, T): distance of each layer's read-off errors from backpropagation's after each
    sweep, relative; carried, read (T,): of the gradients.
    """

    beta: float
    layers: np.ndarray
    carried: np.ndarray
    read: np.ndarray


@lru_cache(maxsize=256)
@torch.no_grad()
def errors_of(beta: float, depth: int, sweeps: int) -> Errors:
    """The errors and gradients after each of so many sweeps."""
    x, y = digits(DIGITS)
    model, cost = network(depth), make_cost("cross_entropy", y, 10, x)
    drive, free = model.drive(x), relax(model, x).state
    wanted = model.contrasted(drive, free, cost.grad, (beta, -beta), 1)
    exact = list(wanted.gradients(1.0).values())
    layers: list[list[float]] = []
    carried: list[float] = []
    read: list[float] = []
    run = sweeping(model._layers(), drive, free, cost.grad, (beta, -beta))
    for sweep in islice(run, sweeps):
        seen = read_off(model, sweep, drive)
        halves = [e.chunk(2)[1] for e in seen.errors]
        layers.append(
            [relative_error([e], [w]) for e, w in zip(halves, wanted.difference, strict=True)]
        )
        for found, into in ((sweep, carried), (seen, read)):
            gradients = found.gradients(model._layers())(1.0)
            into.append(relative_error(gradients.values(), exact))
    return Errors(beta, np.array(layers).T, np.array(carried), np.array(read))


class ErrorSweeps(Explorer):
    """A few digits, a deep network: what the errors are after every sweep."""

    title = "Sweeps: errors layer by layer, carried or read off"
    size = (7.4, 3.5)
    controls = (
        Slider("beta", 0.001, 1.0, 0.05, 0.1, "Nudging strength beta", log=True),
        Slider("depth", 1, DEEPEST, 3, 1, "Hidden layers"),
        Slider("sweeps", 1, LONGEST, 8, 1, "Sweeps from the top down"),
    )

    def compute(self, beta: float, depth: int, sweeps: int) -> Errors:
        return errors_of(beta, depth, sweeps)

    def build(self, figure: Figure) -> Sequence[Show]:
        left, right = panels(figure, "AB", (0.65, 0.15, 0.85, 0.3), wspace=0.22)
        for axes in (left, right):
            axes.set(yscale="log", ylim=LIMITS, xlim=(0.5, LONGEST + 0.5), xlabel="sweep")
            decades(axes.yaxis, -6, 1)
            axes.set_xticks([1, 4, 8, 12, 16])
        titled(left, "Errors read off, by layer")
        return [_by_layer(figure, left), _gradient(figure, right)]

    def describe(self, data: Errors, **values: Any) -> str:
        return (
            f"After {values['sweeps']} sweep(s) at beta {data.beta:.3g} the gradient of the "
            f"carried errors is {data.carried[-1]:.1e} from backpropagation's, that of errors read "
            f"off the state {data.read[-1]:.1e}. After the first sweep these were "
            f"{data.carried[0]:.1e} and {data.read[0]:.1e}; the worst of {len(data.layers)} layers "
            f"was {data.layers[:, 0].max():.0%} off."
        )


def _by_layer(figure: Figure, axes: Axes) -> Show:
    """One line a layer, the first at the bottom of the network."""
    lines = [
        line(axes, DASHES[k % len(DASHES)], color=PALETTE[k % len(PALETTE)], label=str(k + 1))
        for k in range(DEEPEST + 1)
    ]
    look: dict[str, Any] = {"loc": "lower left", "columnspacing": 0.7, "handlelength": 1.4}
    legends: list[Legend] = []

    def show(data: Errors) -> None:
        steps, layers = np.arange(1, data.layers.shape[1] + 1), len(data.layers)
        if not legends or len(legends[0].get_texts()) != layers:  # only layers that are drawn
            for legend in legends:
                legend.remove()
            legends[:] = [figure.legend(handles=lines[:layers], ncols=layers, **look)]
        for number, curve in enumerate(lines):
            there = number < layers
            values = np.clip(data.layers[number], *LIMITS) if there else []
            curve.set_data(steps if there else [], values)

    return show


def _gradient(figure: Figure, axes: Axes) -> Show:
    """Distance of the gradient from backpropagation's."""
    carried = line(axes, "-", color=PALETTE[0], marker="o", markersize=4, label="carried")
    read = line(axes, "--", color=PALETTE[1], marker="s", markersize=4, label="read off")
    figure.legend(handles=[carried, read], loc="lower right", ncols=2)

    def show(data: Errors) -> None:
        steps = np.arange(1, len(data.carried) + 1)
        titled(axes, f"Gradient, carried: {data.carried[-1]:.1e} off")
        carried.set_data(steps, np.clip(data.carried, *LIMITS))
        read.set_data(steps, np.clip(data.read, *LIMITS))

    return show

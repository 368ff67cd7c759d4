"""Explorer: the energy of two coupled units as a landscape, and a relaxation that walks on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.instruments.probes import energy_curve, increases
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import recurrent
from eqprop_lab.notebook.moving_axes import (
    Show,
    limit,
    line,
    panels,
    round_limits,
    ticks_below,
    titled,
)
from eqprop_lab.notebook.style import INK, PALETTE

EDGE = 0.995
STEPS = 40


def two_unit_network(w11: float = 0.0, w22: float = 0.0, w12: float = 0.6) -> LoopedMLP:
    """h <- tanh(W h + x), W = [[w11, w12], [w12, w22]]: a LoopedMLP in float64 driven by its input.

    W is taken as it is: below norm 1 a single fixed point is certified, beyond there is no
    certificate.
    """
    model = LoopedMLP(2, 2, 2, use_spectral_norm=False, seed=0).double()
    recurrent(model).copy_(torch.tensor([[w11, w12], [w12, w22]]))
    torch.nn.init.eye_(model.W_in.weight)
    for bias in (model.W_in.bias, model.W_rec.bias):
        torch.nn.init.zeros_(bias)
    return model


@torch.no_grad()
def energy_surface(model: LoopedMLP, x: Tensor, points: int = 81) -> tuple[np.ndarray, np.ndarray]:
    """(axis, E) of two units for one input x (1, 2): E[i, j] lies at h1 = axis[j], h2 = axis[i]."""
    axis = torch.linspace(-EDGE, EDGE, points, dtype=x.dtype)
    h2, h1 = torch.meshgrid(axis, axis, indexing="ij")
    states = torch.stack([h1.flatten(), h2.flatten()], dim=1)
    drive = tuple(block.expand(len(states), -1) for block in model.drive(x))
    return axis.numpy(), model.energy((states,), drive).reshape(points, points).numpy()


@torch.no_grad()
def stable_states(model: LoopedMLP, x: Tensor) -> Tensor:
    """The minima of E for one input x (1, 2), (number, 2), sorted by h1.

    They are the ends of damped relaxations from a grid of starts at which the curvature of E,
    diag(1/(1-h^2)) - W, is positive.
    """
    # Not symmetric about 0: a start on the ridge between two valleys would stay on it.
    axis = torch.linspace(-0.93, 0.88, 6, dtype=x.dtype)
    grid = torch.cartesian_prod(axis, axis)
    ends = relax(model, x.expand(len(grid), -1), 300, solver="damped", start=(grid,)).state[0]
    curvature = torch.diag_embed(1 / (1 - ends.square()).clamp_min(1e-12)) - model.W_rec.weight
    minima = ends[torch.linalg.eigvalsh(curvature)[:, 0] > 1e-3]
    return torch.unique(minima.mul(1e3).round() / 1e3 + 0.0, dim=0)


def draw_bands(axes: Axes, surface: tuple[np.ndarray, np.ndarray]) -> ContourSet:
    """Bands of equal E, grey where it is high, under all else that the axes show."""
    axis, energy = surface
    # Valleys are shallow and walls are steep: bands follow the energy's quantiles, each one a
    # stronger grey.
    heights = np.unique(np.quantile(energy, np.linspace(0.0, 1.0, 14) ** 1.3))
    greys = INK(np.linspace(0.0, 0.75, max(1, len(heights) - 1)))
    return axes.contourf(axis, axis, energy, heights, colors=greys, zorder=0)


def _square(axes: Axes) -> None:
    """The square of states of two units."""
    ticks = [-1, -0.5, 0, 0.5, 1]
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="$h_1$", ylabel="$h_2$", aspect="equal")
    axes.set(xticks=ticks, yticks=ticks)
    axes.grid(False)


def draw_landscape(
    axes: Axes,
    surface: tuple[np.ndarray, np.ndarray],
    paths: Sequence[np.ndarray],
    minima: np.ndarray,
) -> None:
    """Bands of equal E, trajectories (T + 1, 2) from a hollow circle on, stars on the minima."""
    draw_bands(axes, surface)
    for index, path in enumerate(paths):
        _walk(axes, PALETTE[index % len(PALETTE)])(path)
    _stars(axes).set_data(minima.T)
    _square(axes)


def _walk(axes: Axes, colour: str) -> Show:
    """A trajectory and its start; returns what shows another one."""
    hollow = {"markersize": 10, "markerfacecolor": "white", "markeredgewidth": 2}
    walk = line(axes, "-", marker="o", markersize=3.5, color=colour, linewidth=1.6)
    start = line(axes, "o", markeredgecolor=colour, **hollow)

    def show(path: np.ndarray) -> None:
        walk.set_data(path.T)
        start.set_data(path[:1].T)

    return show


def _stars(axes: Axes) -> Line2D:
    look = {"color": PALETTE[5], "markeredgecolor": "black", "linestyle": "none"}
    return line(axes, "*", markersize=15, **look)


@dataclass(frozen=True)
class Landscape:
    """One setting, computed: surface, trajectory (T + 1, 2), energies (T + 1,), minima, norm of W,
    the steps that raise the energy, residual at the end.
    """

    surface: tuple[np.ndarray, np.ndarray]
    path: np.ndarray
    energies: np.ndarray
    minima: np.ndarray
    norm: float
    rises: np.ndarray
    residual: float


class EnergyLandscape(Explorer):
    """Two units: move weights, input, start and step size; the relaxation goes downhill or not."""

    title = "Energy landscape of two coupled units"
    size = (7.4, 3.7)
    controls = (
        Slider("w12", -2.0, 2.0, 0.6, 0.05, "Coupling of the two units w12", parameter="coupling"),
        Slider("w11", -2.0, 2.0, 0.0, 0.05, "Self-coupling of unit 1 w11"),
        Slider("w22", -2.0, 2.0, 0.0, 0.05, "Self-coupling of unit 2 w22"),
        Slider("u1", -1.5, 1.5, 0.3, 0.05, "Input to unit 1 u1"),
        Slider("u2", -1.5, 1.5, -0.1, 0.05, "Input to unit 2 u2"),
        Slider("start1", -0.95, 0.95, -0.8, 0.05, "Start h1"),
        Slider("start2", -0.95, 0.95, 0.8, 0.05, "Start h2"),
        Slider("step_size", 0.05, 1.0, 0.9, 0.05, "Step size (1: full step)"),
    )

    def compute(self, step_size: float, **values: float) -> Landscape:
        model = two_unit_network(values["w11"], values["w22"], values["w12"])
        x = torch.tensor([[values["u1"], values["u2"]]], dtype=torch.float64)
        start = (torch.tensor([[values["start1"], values["start2"]]], dtype=torch.float64),)
        damped: dict[str, Any] = {"solver": "damped", "damping": step_size}
        end = relax(model, x, STEPS, start=start, trajectory=True, **damped)
        assert end.trajectory is not None
        energies = energy_curve(model, x, end.trajectory)
        return Landscape(
            surface=energy_surface(model, x, 61),
            path=torch.cat([h for (h,) in end.trajectory]).numpy(),
            energies=energies[:, 0].numpy(),
            minima=stable_states(model, x).numpy(),
            norm=model.contraction_bound(),
            rises=np.flatnonzero(increases(energies)[:, 0].numpy()) + 1,
            residual=end.residual,
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.7, 0.15, 0.55, 0.35)
        left, right = panels(figure, "AB", inches, width_ratios=(1.0, 1.05), wspace=0.32)
        return [_landscape(left), _energies(right)]

    def describe(self, data: Landscape, **values: Any) -> str:
        h1, h2 = data.path[-1]
        settled = data.residual < 1e-3
        end = (
            f"settles at h = ({h1:.2f}, {h2:.2f})"
            if settled
            else f"has not settled after {STEPS} steps"
        )
        promise = "a single fixed point is certified" if data.norm < 1 else "nothing is certified"
        return (
            f"Bands of equal energy of two units: the walk from ({values['start1']:.2f}, "
            f"{values['start2']:.2f}) with step size {values['step_size']:.2f} {end}, energy "
            f"{data.energies[0]:.2f} to {data.energies[-1]:.2f} with {len(data.rises)} rises; "
            f"{len(data.minima)} {'minimum' if len(data.minima) == 1 else 'minima'} found; norm of "
            f"W {data.norm:.2f}, {promise}."
        )


def _landscape(axes: Axes) -> Show:
    """The walk on bands that are drawn anew where the energy is another one."""
    _square(axes)
    ticks_below(axes)
    titled(axes, "Energy E (grey: high)")
    walk = _walk(axes, PALETTE[0])
    stars = _stars(axes)
    bands: list[ContourSet] = []
    energy = np.empty(0)

    def show(data: Landscape) -> None:
        nonlocal energy
        if not np.array_equal(energy, data.surface[1]):
            energy = data.surface[1]
            while bands:
                bands.pop().remove()
            bands.append(draw_bands(axes, data.surface))
        walk(data.path)
        stars.set_data(data.minima.T)

    return show


def _energies(axes: Axes) -> Show:
    """The energy step by step, a triangle where it rises."""
    axes.set(xlabel="step", ylabel="E", xlim=(-0.5, STEPS + 0.5))
    energy = line(axes, "-", marker="o", markersize=3.5, color=PALETTE[0])
    rises = line(axes, "^", markersize=7, color=PALETTE[1])

    def show(data: Landscape) -> None:
        energy.set_data(np.arange(len(data.energies)), data.energies)
        rises.set_data(data.rises, data.energies[data.rises])
        limit(axes, "ylim", round_limits(data.energies))
        titled(axes, f"Energy{' (triangle: a rise)' if len(data.rises) else ' along the walk'}")

    return show

"""Explorer: the energy of two coupled units as a landscape, and a relaxation that walks on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
from eqprop_lab.notebook.controls import Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import limit, line, margins, round_limits, ticks_below, titled
from eqprop_lab.notebook.style import INK, PALETTE

EDGE = 0.995
STEPS = 40


def two_unit_network(w11: float = 0.0, w22: float = 0.0, w12: float = 0.6) -> LoopedMLP:
    """h <- tanh(W h + x), W = [[w11, w12], [w12, w22]], in float64: a LoopedMLP whose input is its
    drive.

    W is taken as it is. Below norm 1 the fixed point is certified to be the only one; beyond there
    is no certificate.
    """
    model = LoopedMLP(2, 2, 2, use_spectral_norm=False, seed=0).double()
    with torch.no_grad():
        model.W_rec.parametrizations["weight"].original.copy_(
            torch.tensor([[w11, w12], [w12, w22]])
        )  # type: ignore[union-attr, index]
        model.W_in.weight.copy_(torch.eye(2))
        for bias in (model.W_in.bias, model.W_rec.bias):
            bias.zero_()
    return model


@torch.no_grad()
def energy_surface(model: LoopedMLP, x: Tensor, points: int = 81) -> tuple[np.ndarray, np.ndarray]:
    """(axis, E) of a two-unit network for one input x (1, 2): E[i, j] is the energy at h1 =
    axis[j], h2 = axis[i].
    """
    axis = torch.linspace(-EDGE, EDGE, points, dtype=x.dtype)
    h2, h1 = torch.meshgrid(axis, axis, indexing="ij")
    states = torch.stack([h1.flatten(), h2.flatten()], dim=1)
    drive = tuple(block.expand(len(states), -1) for block in model.drive(x))
    return axis.numpy(), model.energy((states,), drive).reshape(points, points).numpy()


@torch.no_grad()
def stable_states(model: LoopedMLP, x: Tensor, starts: int = 6, steps: int = 300) -> Tensor:
    """The minima of E for one input x (1, 2), (number, 2), sorted by h1: ends of damped relaxations
    from a grid of starts, kept where the curvature diag(1/(1-h^2)) - W of E is positive.
    """
    # Not symmetric about 0: a start on the ridge between two valleys would stay on it.
    axis = torch.linspace(-0.93, 0.88, starts, dtype=x.dtype)
    grid = torch.cartesian_prod(axis, axis)
    ends = relax(model, x.expand(len(grid), -1), steps, solver="damped", start=(grid,)).state[0]
    curvature = torch.diag_embed(1 / (1 - ends.square()).clamp_min(1e-12)) - model.W_rec.weight
    minima = ends[torch.linalg.eigvalsh(curvature)[:, 0] > 1e-3]
    return torch.unique(minima.mul(1e3).round() / 1e3 + 0.0, dim=0)


def draw_bands(axes: Axes, surface: tuple[np.ndarray, np.ndarray], bands: int = 13) -> ContourSet:
    """Bands of equal E, grey where it is high, under all else that the axes show."""
    axis, energy = surface
    # Valleys are shallow and walls are steep: bands follow the energy's quantiles, each one a
    # stronger grey.
    heights = np.unique(np.quantile(energy, np.linspace(0.0, 1.0, bands + 1) ** 1.3))
    greys = INK(np.linspace(0.0, 0.75, max(1, len(heights) - 1)))
    return axes.contourf(axis, axis, energy, heights, colors=greys, zorder=0)


def square(axes: Axes) -> None:
    """The square of states of two units."""
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="$h_1$", ylabel="$h_2$", aspect="equal")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.grid(False)


def draw_landscape(
    axes: Axes,
    surface: tuple[np.ndarray, np.ndarray],
    paths: Sequence[np.ndarray],
    minima: np.ndarray,
    bands: int = 13,
) -> None:
    """Bands of equal E with trajectories (T + 1, 2) on them: a hollow circle where each starts,
    stars on the minima.
    """
    draw_bands(axes, surface, bands)
    for index, path in enumerate(paths):
        walk, start = _walk(axes, PALETTE[index % len(PALETTE)])
        walk.set_data(path.T)
        start.set_data(path[:1].T)
    _stars(axes).set_data(minima.T)
    square(axes)


def _walk(axes: Axes, colour: str) -> tuple[Line2D, Line2D]:
    return (
        line(axes, "-", marker="o", markersize=3.5, color=colour, linewidth=1.6),
        line(
            axes,
            "o",
            markersize=10,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=2,
        ),
    )


def _stars(axes: Axes) -> Line2D:
    return line(
        axes, "*", markersize=15, color=PALETTE[5], markeredgecolor="black", linestyle="none"
    )


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


@dataclass
class _Parts:
    """Axes, and what moves in them; `shown` is the energy that `bands` are drawn of."""

    left: Axes
    right: Axes
    walk: Line2D
    start: Line2D
    minima: Line2D
    energy: Line2D
    rises: Line2D
    bands: ContourSet | None = None
    shown: np.ndarray | None = None


class EnergyLandscape(Explorer):
    """Two units: move weights, input, start and step size, and watch the relaxation go downhill (or
    not).
    """

    title = "Energy landscape of two coupled units"
    size: ClassVar[tuple[float, float]] = (7.4, 3.7)
    controls: ClassVar[Sequence[Control]] = (
        Slider("w12", -2.0, 2.0, 0.6, 0.05, "Coupling of the two units w12", parameter="coupling"),
        Slider("w11", -2.0, 2.0, 0.0, 0.05, "Self-coupling of unit 1 w11"),
        Slider("w22", -2.0, 2.0, 0.0, 0.05, "Self-coupling of unit 2 w22"),
        Slider("u1", -1.5, 1.5, 0.3, 0.05, "Input to unit 1 u1"),
        Slider("u2", -1.5, 1.5, -0.1, 0.05, "Input to unit 2 u2"),
        Slider("start1", -0.95, 0.95, -0.8, 0.05, "Start h1"),
        Slider("start2", -0.95, 0.95, 0.8, 0.05, "Start h2"),
        Slider("step_size", 0.05, 1.0, 0.9, 0.05, "Step size (1: full step)"),
    )

    def compute(self, **values: Any) -> Landscape:
        """Relax the two units and evaluate their energy on a grid."""
        model = two_unit_network(values["w11"], values["w22"], values["w12"])
        x = torch.tensor([[values["u1"], values["u2"]]], dtype=torch.float64)
        start = torch.tensor([[values["start1"], values["start2"]]], dtype=torch.float64)
        end = relax(
            model,
            x,
            STEPS,
            solver="damped",
            damping=values["step_size"],
            start=(start,),
            trajectory=True,
        )
        assert end.trajectory is not None
        energies = energy_curve(model, x, end.trajectory)
        return Landscape(
            surface=energy_surface(model, x, 61),
            path=torch.cat([state[0] for state in end.trajectory]).numpy(),
            energies=energies[:, 0].numpy(),
            minima=stable_states(model, x).numpy(),
            norm=model.contraction_bound(),
            rises=np.flatnonzero(increases(energies)[:, 0].numpy()) + 1,
            residual=end.residual,
        )

    def build(self, figure: Figure) -> _Parts:
        """Left the landscape with the walk, right the energy step by step; a rise is marked."""
        places = margins(figure, 0.7, 0.15, 0.55, 0.35, wspace=0.32)
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.05), gridspec_kw=places)
        square(left)
        ticks_below(left)
        titled(left, "Energy E (grey: high)")
        right.set(xlabel="step", ylabel="E", xlim=(-0.5, STEPS + 0.5))
        return _Parts(
            left,
            right,
            *_walk(left, PALETTE[0]),
            _stars(left),
            line(right, "-", marker="o", markersize=3.5, color=PALETTE[0]),
            line(right, "^", markersize=7, color=PALETTE[1]),
        )

    def move(self, parts: _Parts, data: Landscape) -> None:
        """Another walk; other bands where the energy is another one."""
        if (
            parts.bands is None
            or parts.shown is None
            or not np.array_equal(parts.shown, data.surface[1])
        ):
            if parts.bands is not None:
                parts.bands.remove()
            parts.bands, parts.shown = draw_bands(parts.left, data.surface), data.surface[1]
        parts.walk.set_data(data.path.T)
        parts.start.set_data(data.path[:1].T)
        parts.minima.set_data(data.minima.T)
        parts.energy.set_data(np.arange(len(data.energies)), data.energies)
        parts.rises.set_data(data.rises, data.energies[data.rises])
        limit(parts.right, y=round_limits(data.energies))
        titled(
            parts.right,
            "Energy" + (" (triangle: a rise)" if len(data.rises) else " along the walk"),
        )

    def describe(self, data: Landscape, **values: Any) -> str:
        """Where the walk ends, whether the energy rose, how many minima there are, and what is
        certified.
        """
        h1, h2 = data.path[-1]
        walk = (
            f"settles at h = ({h1:.2f}, {h2:.2f})"
            if data.residual < 1e-3
            else f"has not settled after {STEPS} steps"
        )
        rises = (
            f"energy {data.energies[0]:.2f} to {data.energies[-1]:.2f} with {len(data.rises)} rises"
        )
        count = f"{len(data.minima)} {'minimum' if len(data.minima) == 1 else 'minima'} found"
        promise = "a single fixed point is certified" if data.norm < 1 else "nothing is certified"
        start = f"({values['start1']:.2f}, {values['start2']:.2f})"
        return (
            f"Bands of equal energy of two units: the walk from {start} with step size {values['step_size']:.2f} "
            f"{walk}, {rises}; {count}; norm of W {data.norm:.2f}, {promise}."
        )

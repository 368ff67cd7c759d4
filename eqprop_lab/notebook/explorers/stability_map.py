"""Explorer: where a relaxation forgets its start, over norm and input gain, and the certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from torch import Tensor

from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.instruments.probes import distances, local_spectral_radius
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.convergence import HIDDEN, network_of_norm
from eqprop_lab.notebook.explorers.small_networks import digits, random_state, recurrent
from eqprop_lab.notebook.moving_axes import (
    REFERENCE,
    Show,
    decades,
    line,
    panels,
    ticks_below,
    titled,
)
from eqprop_lab.notebook.style import AMOUNT, PALETTE, outlined

STEPS, WATCHED, TOLERANCE = 200, 60, 1e-3
"""How long a relaxation is followed, how much of it is drawn, and the root mean square distance per
unit below which two states are one."""

RHOS = np.arange(30) * 0.1 + 0.05
GAINS = np.arange(25) * 0.2
"""The stored map: norms 0 to 3 (cells of 0.1, one ends at norm 1), gains 0 to 4.8."""

WEIGHTS = ("mixed", "excitatory", "inhibitory")
"""Signs of W's eigenvalues: both, none negative, none positive."""

ONE, SEVERAL, MOVING = 0, 1, 2
"""Fates of two copies: they meet at one point, settle apart, or still move after `STEPS` steps."""

FATES = ("one end", "two different ends", f"not settled after {STEPS} steps")
_COLOURS = (PALETTE[6], PALETTE[5], PALETTE[3])


def signed_network(weights: str, rho: float) -> LoopedMLP:
    """As `network_of_norm(rho)`, the eigenvalues of W_rec with the signs of `WEIGHTS`."""
    model = network_of_norm(1.0)
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    matrix = model.W_rec.weight.detach()
    if weights != "mixed":
        matrix = (matrix @ matrix) * (1 if weights == "excitatory" else -1)
    recurrent(model).copy_(rho * matrix)
    return model


def _two_starts() -> Tensor:
    """Opposite states, (2, HIDDEN): the two that a symmetric pair of minima pulls apart."""
    start = random_state(HIDDEN)
    return torch.cat([start, -start])


def _verdict(apart: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(fates, steps) from apart (T + 1, n) of the copies and moved (n,) last, both per unit."""
    ends_apart = apart[-1] > TOLERANCE
    # Near norm 1 copies creep: only what no longer approaches has ended apart.
    creeping = ends_apart & (apart[-1] < 0.9 * apart[-21])
    moving = (moved > TOLERANCE) | creeping
    fates = np.where(moving, MOVING, np.where(ends_apart, SEVERAL, ONE))
    return fates, len(apart) - np.argmax((apart > TOLERANCE)[::-1], axis=0)


@lru_cache(maxsize=len(WEIGHTS))
@torch.no_grad()
def stability_grid(weights: str) -> tuple[np.ndarray, np.ndarray]:
    """(fates, steps until the copies have met), both (gains, rhos): the whole map in one batch."""
    model = signed_network(weights, 1.0)
    gains, rhos = (torch.as_tensor(v).flatten() for v in np.meshgrid(GAINS, RHOS, indexing="ij"))
    drive = model.drive(gains[:, None] * digits(1)[0])[0]
    scaled, matrix = rhos[:, None], model.W_rec.weight
    # Every row has its own norm, which one model cannot give: the step of LoopedMLP with rho_row W.
    former = pair = torch.stack([start.expand_as(drive) for start in _two_starts()])
    apart = [(pair[0] - pair[1]).norm(dim=1)]
    for _ in range(STEPS):
        former, pair = pair, torch.tanh(scaled * (pair @ matrix) + drive)
        apart.append((pair[0] - pair[1]).norm(dim=1))
    moved = (pair - former).norm(dim=2).amax(0)
    unit = HIDDEN**0.5
    fates, steps = _verdict(torch.stack(apart).numpy() / unit, moved.numpy() / unit)
    return fates.reshape(len(GAINS), len(RHOS)), steps.reshape(len(GAINS), len(RHOS))


@dataclass(frozen=True)
class Measured:
    """One point, measured with the package: apart (STEPS + 1,) per unit, fate, step of meeting,
    certified norm, local radius where the first copy ended; the point, and the map it lies on.
    """

    apart: np.ndarray
    fate: int
    steps: int
    norm: float
    radius: float
    grid: tuple[np.ndarray, np.ndarray]
    point: tuple[float, float]


class StabilityMap(Explorer):
    """Norm x input gain: do two opposite starts meet? A stored map, and one point measured."""

    title = "Stability map: what is measured, and what is certified"
    size = (7.6, 3.9)
    controls = (
        Slider("rho", 0.1, 3.0, 0.9, 0.01, "Measured at norm of W", parameter="cap"),
        Slider("gain", 0.0, 4.8, 1.0, 0.1, "Measured at input gain"),
        Choice("weights", WEIGHTS, "mixed", "Eigenvalues of W"),
    )

    def __init__(self, **values: Any) -> None:
        for weights in WEIGHTS:
            stability_grid(weights)
        super().__init__(**values)

    def compute(self, rho: float, gain: float, weights: str) -> Measured:
        model = signed_network(weights, rho)
        x = (gain * digits(1)[0]).expand(2, -1)
        path = relax(model, x, STEPS, start=(_two_starts(),), trajectory=True).trajectory
        assert path is not None
        unit = HIDDEN**0.5
        apart = np.array([float((h[0] - h[1]).norm()) for (h,) in path]) / unit
        moved = float(distances(path[-1], path[-2]).max()) / unit
        fates, steps = _verdict(apart[:, None], np.array([moved]))
        return Measured(
            apart=apart,
            fate=int(fates[0]),
            steps=int(steps[0]),
            norm=model.contraction_bound(),
            radius=float(local_spectral_radius(model, x[:1], (path[-1][0][:1],))),
            grid=stability_grid(weights),
            point=(rho, gain),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.6, 0.15, 0.9, 0.3)
        left, right = panels(figure, "AB", inches, width_ratios=(1.25, 1.0), wspace=0.18)
        grid = stability_grid(WEIGHTS[0])
        images = draw_map(figure, left, grid)
        ticks_below(left)
        hollow = {"markerfacecolor": "white", "markeredgecolor": "black", "markeredgewidth": 2}
        point = line(left, "o", markersize=11, **hollow)
        right.set(xlabel="step", yscale="log", ylim=(1e-6, 5), xlim=(0, WATCHED))
        titled(right, "Distance of two copies")
        decades(right.yaxis, -6, 0)
        measured = line(right, "-", color=PALETTE[0], linewidth=2.4, label="measured")
        certificate = line(right, "--", color=PALETTE[1], label="certificate")
        right.axhline(TOLERANCE, **REFERENCE)
        patches = [Patch(color=_COLOURS[fate], label=FATES[fate]) for fate in (SEVERAL, MOVING)]
        figure.legend(handles=[*patches, measured, certificate], loc="lower center", ncols=4)

        def show(data: Measured) -> None:
            nonlocal grid
            if grid is not data.grid:
                grid = data.grid
                for image, shown in zip(images, _masked(grid), strict=True):
                    image.set_data(shown)
            point.set_data(*([value] for value in data.point))
            steps = np.arange(WATCHED + 1)
            measured.set_data(steps, np.maximum(data.apart[: WATCHED + 1], 1e-9))
            promised = steps[: len(steps) if data.norm < 1 else 0]
            certificate.set_data(promised, data.apart[0] * data.norm**promised)

        return [show]

    def describe(self, data: Measured, **values: Any) -> str:
        meets = {
            ONE: f"meet after {data.steps} steps",
            SEVERAL: f"reach {FATES[SEVERAL]}",
            MOVING: f"have {FATES[MOVING]}",
        }[data.fate]
        promise = "nothing is certified"
        if data.norm < 1:
            promise = f"the certificate promises a factor of {data.norm:.2f} a step"
        return (
            f"Map of norm against input gain for {values['weights']} eigenvalues, certified left "
            f"of norm 1; at norm {values['rho']:.2f} and gain {values['gain']:.1f} two opposite "
            f"starts {meets}, the local radius is {data.radius:.2f}, and {promise}."
        )


def _masked(grid: tuple[np.ndarray, np.ndarray]) -> tuple[Any, Any]:
    """Where the copies do not meet, their fate; where they do, after how many steps."""
    fates, steps = grid
    return np.ma.masked_equal(fates, ONE), np.ma.masked_where(fates != ONE, steps)


def draw_map(
    figure: Figure, axes: Axes, grid: tuple[np.ndarray, np.ndarray]
) -> tuple[AxesImage, AxesImage]:
    """Steps to meet in blue where both copies do, flat colours for other fates, a line at norm 1.

    Returns: the images of the fates and of the steps.
    """
    unmet, steps = _masked(grid)
    half = (RHOS[1] - RHOS[0]) / 2, (GAINS[1] - GAINS[0]) / 2
    extent = (RHOS[0] - half[0], RHOS[-1] + half[0], GAINS[0] - half[1], GAINS[-1] + half[1])
    common: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    common["extent"] = extent
    fates = axes.imshow(unmet, cmap=ListedColormap(_COLOURS), vmin=0, vmax=2, **common)
    image = axes.imshow(steps, cmap=AMOUNT, norm=LogNorm(2, STEPS), **common)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("steps until both copies meet")
    bar.set_ticks([3, 10, 30, 100], labels=["3", "10", "30", "100"])
    bar.minorticks_off()
    axes.axvline(1.0, linestyle="--", linewidth=1.5, **outlined(1.5))
    axes.text(0.97, extent[3] * 0.97, "certified", ha="right", va="top")
    axes.set(xlabel="norm of W", ylabel="input gain", xlim=extent[:2], ylim=extent[2:])
    titled(axes, "Two opposite starts")
    axes.grid(False)
    return fates, image

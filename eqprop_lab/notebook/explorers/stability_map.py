"""Explorer: where a relaxation forgets its start. Norm of W against input gain, measured, next to
the certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.instruments.probes import distances, local_spectral_radius
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.convergence import HIDDEN, network_of_norm
from eqprop_lab.notebook.moving_axes import decades, line, margins, ticks_below, titled
from eqprop_lab.notebook.style import AMOUNT, NEUTRAL, PALETTE, outlined

STEPS, WATCHED, TOLERANCE = 200, 60, 1e-3
"""How long a relaxation is followed, how much of it is drawn, and the root mean square distance per unit below which
two states are one."""

RHOS = np.arange(30) * 0.1 + 0.05
GAINS = np.arange(25) * 0.2
"""The stored map: norms 0 to 3 (cells of 0.1, one ends at norm 1), gains 0 to 4.8."""

WEIGHTS = ("mixed", "excitatory", "inhibitory")
"""Signs of W's eigenvalues: both, none negative, none positive."""

ONE, SEVERAL, MOVING = 0, 1, 2
"""Fates of two copies: they meet at one point; they settle apart; they have not settled after `STEPS` steps."""

FATES = ("one end", "two different ends", f"not settled after {STEPS} steps")
_COLOURS = (PALETTE[6], PALETTE[5], PALETTE[3])


def signed_network(weights: str, rho: float) -> LoopedMLP:
    """A LoopedMLP for 8x8 digits in float64 with ||W_rec|| = rho whose eigenvalues have the signs
    of `WEIGHTS`.
    """
    model = network_of_norm(1.0)
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    matrix = model.W_rec.weight.detach()
    if weights != "mixed":
        matrix = (matrix @ matrix) * (1 if weights == "excitatory" else -1)
    with torch.no_grad():
        model.W_rec.parametrizations["weight"].original.copy_(rho * matrix)  # type: ignore[union-attr, index]
    return model


@lru_cache(maxsize=1)
def _digit() -> Tensor:
    return build_dataset("digits").train.x[:1].flatten(1).double()


def _two_starts() -> Tensor:
    """Opposite states, (2, HIDDEN): the two that a symmetric pair of minima pulls apart."""
    start = (
        torch.rand(1, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
        - 1
    )
    return torch.cat([start, -start])


def _verdict(apart: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(fates, steps): apart (T + 1, n) between the copies, moved (n,) in the last step, both per
    unit.
    """
    # Near norm 1 copies creep: only what no longer approaches has ended apart.
    creeping = (apart[-1] > TOLERANCE) & (apart[-1] < 0.9 * apart[-21])
    fates = np.where(
        (moved > TOLERANCE) | creeping, MOVING, np.where(apart[-1] > TOLERANCE, SEVERAL, ONE)
    )
    last_apart = len(apart) - 1 - np.argmax((apart > TOLERANCE)[::-1], axis=0)
    return fates, last_apart + 1


@lru_cache(maxsize=len(WEIGHTS))
@torch.no_grad()
def stability_grid(weights: str) -> tuple[np.ndarray, np.ndarray]:
    """(fates, steps until the copies have met), both (gains, rhos), of the whole map in one batch."""
    model, (start, opposite) = signed_network(weights, 1.0), _two_starts()
    gains, rhos = (torch.as_tensor(v).flatten() for v in np.meshgrid(GAINS, RHOS, indexing="ij"))
    drive = model.drive(gains[:, None] * _digit())[0]
    scaled, matrix = rhos[:, None], model.W_rec.weight
    # Every row has its own norm, which one model cannot give: the step of LoopedMLP with rho_row W.
    a, b = start.expand_as(drive), opposite.expand_as(drive)
    apart, moved = [(a - b).norm(dim=1)], drive
    for _ in range(STEPS):
        new_a, new_b = (torch.tanh(scaled * (h @ matrix) + drive) for h in (a, b))
        moved = torch.maximum((new_a - a).norm(dim=1), (new_b - b).norm(dim=1))
        a, b = new_a, new_b
        apart.append((a - b).norm(dim=1))
    unit = HIDDEN**0.5
    fates, steps = _verdict(torch.stack(apart).numpy() / unit, moved.numpy() / unit)
    return fates.reshape(len(GAINS), len(RHOS)), steps.reshape(len(GAINS), len(RHOS))


@dataclass(frozen=True)
class Measured:
    """One point, measured with the package: apart (STEPS + 1,) per unit, fate, step of meeting,
    certified norm, local radius where the first copy ended, and the map it lies on.
    """

    apart: np.ndarray
    fate: int
    steps: int
    norm: float
    radius: float
    grid: tuple[np.ndarray, np.ndarray]
    point: tuple[float, float]


@dataclass
class _Parts:
    """What moves; `shown` is the map that the images show."""

    images: tuple[AxesImage, AxesImage]
    point: Line2D
    measured: Line2D
    certificate: Line2D
    shown: tuple[np.ndarray, np.ndarray]


class StabilityMap(Explorer):
    """Radius x input gain: do two opposite starts meet? A stored map, and the chosen point measured
    exactly.
    """

    title = "Stability map: what is measured, and what is certified"
    size: ClassVar[tuple[float, float]] = (7.6, 3.9)
    controls: ClassVar[Sequence[Control]] = (
        Slider("rho", 0.1, 3.0, 0.9, 0.01, "Measured at norm of W", parameter="cap"),
        Slider("gain", 0.0, 4.8, 1.0, 0.1, "Measured at input gain"),
        Choice("weights", WEIGHTS, "mixed", "Eigenvalues of W"),
    )

    def __init__(self, **values: Any) -> None:
        for weights in WEIGHTS:
            stability_grid(weights)
        super().__init__(**values)

    def compute(self, **values: Any) -> Measured:
        """Relax both starts at the chosen point; the map around it is stored."""
        model, starts = signed_network(values["weights"], values["rho"]), _two_starts()
        x = (values["gain"] * _digit()).expand(2, -1)
        path = relax(model, x, STEPS, start=(starts,), trajectory=True).trajectory
        assert path is not None
        unit = HIDDEN**0.5
        apart = np.array([float((h[0] - h[1]).norm()) for (h,) in path]) / unit
        moved = float(distances(path[-1], path[-2]).max()) / unit
        fates, steps = _verdict(apart[:, None], np.array([moved]))
        radius = float(local_spectral_radius(model, x[:1], (path[-1][0][:1],)))
        return Measured(
            apart=apart,
            fate=int(fates[0]),
            steps=int(steps[0]),
            norm=model.contraction_bound(),
            radius=radius,
            grid=stability_grid(values["weights"]),
            point=(values["rho"], values["gain"]),
        )

    def build(self, figure: Figure) -> _Parts:
        """Left the map with the certified region and the point, right the distance of the two
        copies at the point.
        """
        places = margins(figure, 0.6, 0.15, 0.9, 0.3, wspace=0.18)
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1.0), gridspec_kw=places)
        images = draw_map(figure, left, stability_grid(WEIGHTS[0]))
        ticks_below(left)
        circle: dict[str, Any] = {
            "markersize": 11,
            "markerfacecolor": "white",
            "markeredgecolor": "black",
        }
        point = line(left, "o", markeredgewidth=2, **circle)
        right.set(xlabel="step", yscale="log", ylim=(1e-6, 5), xlim=(0, WATCHED))
        titled(right, "Distance of two copies")
        decades(right.yaxis, -6, 0)
        measured = line(right, "-", color=PALETTE[0], linewidth=2.4, label="measured")
        certificate = line(right, "--", color=PALETTE[1], label="certificate")
        right.axhline(TOLERANCE, color=NEUTRAL, linewidth=0.8, linestyle=":")
        patches = [Patch(color=_COLOURS[fate], label=FATES[fate]) for fate in (SEVERAL, MOVING)]
        figure.legend(handles=[*patches, measured, certificate], loc="lower center", ncols=4)
        return _Parts(images, point, measured, certificate, stability_grid(WEIGHTS[0]))

    def move(self, parts: _Parts, data: Measured) -> None:
        """Another point; another map where the weights are others."""
        if parts.shown is not data.grid:
            for image, shown in zip(parts.images, _masked(data.grid), strict=True):
                image.set_data(shown)
            parts.shown = data.grid
        parts.point.set_data([data.point[0]], [data.point[1]])
        steps = np.arange(WATCHED + 1)
        parts.measured.set_data(steps, np.maximum(data.apart[: WATCHED + 1], 1e-9))
        promised = (
            data.apart[0] * data.norm**steps if data.norm < 1 else np.full(len(steps), np.nan)
        )
        parts.certificate.set_data(steps, promised)

    def describe(self, data: Measured, **values: Any) -> str:
        """Fate, speed and certificate of the point."""
        meets = (
            f"meet after {data.steps} steps"
            if data.fate == ONE
            else ("have " if data.fate == MOVING else "reach ") + FATES[data.fate]
        )
        promise = (
            f"the certificate promises a factor of {data.norm:.2f} a step"
            if data.norm < 1
            else "nothing is certified"
        )
        return (
            f"Map of norm against input gain for {values['weights']} eigenvalues, certified left of norm 1; at norm "
            f"{values['rho']:.2f} and gain {values['gain']:.1f} two opposite starts {meets}, the local radius is "
            f"{data.radius:.2f}, and {promise}."
        )


def _masked(grid: tuple[np.ndarray, np.ndarray]) -> tuple[Any, Any]:
    """Where the copies do not meet, their fate; where they do, after how many steps."""
    fates, steps = grid
    return np.ma.masked_equal(fates, ONE), np.ma.masked_where(fates != ONE, steps)


def draw_map(
    figure: Figure, axes: Axes, grid: tuple[np.ndarray, np.ndarray]
) -> tuple[AxesImage, AxesImage]:
    """Steps to meet in blue where both copies meet, a flat colour for the other fates, a line at
    norm 1.

    Returns: the images of the fates and of the steps.
    """
    unmet, steps = _masked(grid)
    half = (RHOS[1] - RHOS[0]) / 2, (GAINS[1] - GAINS[0]) / 2
    extent = (RHOS[0] - half[0], RHOS[-1] + half[0], GAINS[0] - half[1], GAINS[-1] + half[1])
    common: dict[str, Any] = {
        "origin": "lower",
        "aspect": "auto",
        "extent": extent,
        "interpolation": "nearest",
    }
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

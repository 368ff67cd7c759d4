"""Explorer: how fast a relaxation converges, next to what the certificate and the local radius say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.instruments.probes import convergence_curve, step_jacobian
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import decades, line, margins, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

HIDDEN, LONGEST = 48, 80
TARGET, FLOOR = 1e-6, 1e-9
_TOL, _SETTLE_STEPS = 1e-12, 5000


def network_of_norm(norm: float, hidden: int = HIDDEN, seed: int = 0) -> LoopedMLP:
    """A LoopedMLP for 8x8 digits in float64 whose symmetric W_rec has the given operator norm."""
    model = LoopedMLP(64, hidden, 10, use_spectral_norm=False, seed=seed).double()
    with torch.no_grad():
        scale = norm / exact_norm(model.W_rec.weight)
        model.W_rec.parametrizations["weight"].original.mul_(scale)  # type: ignore[union-attr, index]
    return model


@lru_cache(maxsize=1)
def _digit() -> Tensor:
    """One handwritten digit of the training set, (1, 64)."""
    return build_dataset("digits").train.x[:1].flatten(1).double()


@dataclass(frozen=True)
class Convergence:
    """distances (T + 1,) to the fixed point; norm of W; eigenvalues of W and of the step at the
    fixed point.
    """

    distances: np.ndarray
    norm: float
    radius: float
    eigenvalues: np.ndarray
    local: np.ndarray
    first_below: int | None


class RelaxationExplorer(Explorer):
    """One digit, one recurrent layer: move norm, input strength and length, and compare three
    speeds.
    """

    title = "Relaxation: how fast, and how fast for certain"
    size: ClassVar[tuple[float, float]] = (7.4, 3.5)
    controls: ClassVar[Sequence[Control]] = (
        Slider("rho", 0.1, 0.99, 0.9, 0.01, "Norm of W (spectral radius) rho"),
        Slider("strength", 0.0, 10.0, 1.0, 0.1, "Input strength (times the digit)"),
        Slider("steps", 5, LONGEST, 40, 1, "Steps of the relaxation"),
    )

    def compute(self, **values: Any) -> Convergence:
        """Relax from a random state, and once more until nothing moves."""
        model, x = network_of_norm(values["rho"]), values["strength"] * _digit()
        start = (
            torch.rand(1, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            * 2
            - 1,
        )
        exact = relax(model, x, _SETTLE_STEPS, tol=_TOL, start=start).state
        path = relax(model, x, values["steps"], start=start, trajectory=True).trajectory
        assert path is not None
        curve = convergence_curve(path, exact)[:, 0].numpy()
        local = torch.linalg.eigvals(step_jacobian(model, x, exact)[0]).real
        below = np.flatnonzero(curve < TARGET)
        return Convergence(
            distances=curve,
            norm=model.contraction_bound(),
            radius=float(local.abs().max()),
            eigenvalues=torch.linalg.eigvalsh(model.W_rec.weight.detach()).numpy(),
            local=local.sort().values.numpy(),
            first_below=int(below[0]) if len(below) else None,
        )

    def build(self, figure: Figure) -> dict[str, Line2D]:
        """Left the distance and its two forecasts, right the eigenvalues of W and of the step at
        the fixed point.
        """
        places = margins(figure, 0.6, 0.15, 0.85, 0.3, wspace=0.22)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1.0), gridspec_kw=places)
        left.set(yscale="log", ylim=(FLOOR, 30), xlim=(0, LONGEST), xlabel="step")
        titled(left, "Distance to the fixed point")
        decades(left.yaxis, -9, 1, 2)
        left.axhline(TARGET, color=NEUTRAL, linewidth=0.8, linestyle=":")
        titled(right, "Eigenvalues")
        right.set(xlabel="number, sorted", xlim=(-1, HIDDEN + 2), ylim=(-1.05, 1.05))
        lines = {
            "certificate": line(left, "--", color=PALETTE[1], label="certificate"),
            "local radius": line(left, "-.", color=PALETTE[2], label="local radius"),
            "measured": line(left, "-", color=PALETTE[0], linewidth=2.4, label="measured"),
        }
        figure.legend(handles=list(lines.values()), loc="lower left", ncols=3)
        lines["W"] = line(right, "--", color=PALETTE[1], label="W")
        lines["step"] = line(right, "-.", color=PALETTE[2], label="step at h*")
        figure.legend(handles=[lines["W"], lines["step"]], loc="lower right", ncols=2)
        return lines

    def move(self, parts: dict[str, Line2D], data: Convergence) -> None:
        """Every curve from its start."""
        steps, first = np.arange(len(data.distances)), data.distances[0]
        parts["certificate"].set_data(steps, first * data.norm**steps)
        parts["local radius"].set_data(steps, first * data.radius**steps)
        parts["measured"].set_data(steps, data.distances)
        units = np.arange(1, len(data.local) + 1)
        parts["W"].set_data(units, data.eigenvalues)
        parts["step"].set_data(units, data.local)

    def describe(self, data: Convergence, **values: Any) -> str:
        """The two rates, and when a distance of one millionth is reached."""
        passed = (
            f", below 1e-6 from step {data.first_below} on" if data.first_below is not None else ""
        )
        return (
            f"The distance to the fixed point, on a log axis, falls to {data.distances[-1]:.1e} in "
            f"{len(data.distances) - 1} steps{passed}; the local radius {data.radius:.3f} gives its slope in the end, "
            f"and the certificate, factor {data.norm:.3f} a step, lies above it."
        )

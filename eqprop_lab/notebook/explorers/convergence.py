"""Explorer: how fast a relaxation converges, beside its certificate and its local radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.instruments.probes import convergence_curve, step_jacobian
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import (
    digits,
    first_true,
    random_state,
    recurrent,
)
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import PALETTE

HIDDEN, LONGEST = 48, 80
TARGET, FLOOR = 1e-6, 1e-9
_TOL, _SETTLE_STEPS = 1e-12, 5000


def network_of_norm(norm: float, hidden: int = HIDDEN, seed: int = 0) -> LoopedMLP:
    """A LoopedMLP for 8x8 digits in float64 whose symmetric W_rec has the given operator norm."""
    model = LoopedMLP(64, hidden, 10, use_spectral_norm=False, seed=seed).double()
    recurrent(model).mul_(norm / exact_norm(model.W_rec.weight))
    return model


@dataclass(frozen=True)
class Convergence:
    """distances (T + 1,) to the fixed point; norm of W; eigenvalues (H,) of W and, as `local`, of
    the step at the fixed point, the largest in size being `radius`.
    """

    distances: np.ndarray
    norm: float
    radius: float
    eigenvalues: np.ndarray
    local: np.ndarray
    first_below: int | None


class RelaxationExplorer(Explorer):
    """One digit, one recurrent layer: three speeds side by side."""

    title = "Relaxation: how fast, and how fast for certain"
    size = (7.4, 3.5)
    controls = (
        Slider("rho", 0.1, 0.99, 0.9, 0.01, "Norm of W (spectral radius) rho"),
        Slider("strength", 0.0, 10.0, 1.0, 0.1, "Input strength (times the digit)"),
        Slider("steps", 5, LONGEST, 40, 1, "Steps of the relaxation"),
    )

    def compute(self, rho: float, strength: float, steps: int) -> Convergence:
        model = network_of_norm(rho)
        x = strength * digits(1)[0]
        start = (random_state(HIDDEN),)
        exact = relax(model, x, _SETTLE_STEPS, tol=_TOL, start=start).state
        path = relax(model, x, steps, start=start, trajectory=True).trajectory
        assert path is not None
        curve = convergence_curve(path, exact)[:, 0].numpy()
        local = torch.linalg.eigvals(step_jacobian(model, x, exact)[0]).real
        return Convergence(
            distances=curve,
            norm=model.contraction_bound(),
            radius=float(local.abs().max()),
            eigenvalues=torch.linalg.eigvalsh(model.W_rec.weight.detach()).numpy(),
            local=local.sort().values.numpy(),
            first_below=first_true(curve < TARGET),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.6, 0.15, 0.85, 0.3)
        left, right = panels(figure, "AB", inches, width_ratios=(1.35, 1.0), wspace=0.22)
        left.set(yscale="log", ylim=(FLOOR, 30), xlim=(0, LONGEST), xlabel="step")
        titled(left, "Distance to the fixed point")
        decades(left.yaxis, -9, 1, 2)
        left.axhline(TARGET, **REFERENCE)
        titled(right, "Eigenvalues")
        right.set(xlabel="number, sorted", xlim=(-1, HIDDEN + 2), ylim=(-1.05, 1.05))
        certificate = line(left, "--", color=PALETTE[1], label="certificate")
        local = line(left, "-.", color=PALETTE[2], label="local radius")
        measured = line(left, "-", color=PALETTE[0], linewidth=2.4, label="measured")
        figure.legend(handles=[certificate, local, measured], loc="lower left", ncols=3)
        weights = line(right, "--", color=PALETTE[1], label="W")
        step = line(right, "-.", color=PALETTE[2], label="step at h*")
        figure.legend(handles=[weights, step], loc="lower right", ncols=2)

        def show(data: Convergence) -> None:
            steps = np.arange(len(data.distances))
            first = data.distances[0]
            certificate.set_data(steps, first * data.norm**steps)
            local.set_data(steps, first * data.radius**steps)
            measured.set_data(steps, data.distances)
            units = np.arange(1, HIDDEN + 1)
            weights.set_data(units, data.eigenvalues)
            step.set_data(units, data.local)

        return [show]

    def describe(self, data: Convergence, **values: Any) -> str:
        below = data.first_below
        passed = "" if below is None else f", below 1e-6 from step {below} on"
        return (
            f"The distance to the fixed point, on a log axis, falls to {data.distances[-1]:.1e} in "
            f"{values['steps']} steps{passed}; the local radius {data.radius:.3f} gives its slope "
            f"in the end, and the certificate, factor {data.norm:.3f} a step, lies above it."
        )

"""The phases of one image in a network of feature maps, kept sweep by sweep, and what a picture
takes from them.

free phase:      s(0) = feed-forward pass, then FREE_SWEEPS sweeps
nudged phase:    NUDGED_SWEEPS sweeps with a_L - beta W_out^T (softmax(z) - y), from the free state on
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import State
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.relaxation import movement, settle
from eqprop_lab.models.layered import LayeredModel

FREE_SWEEPS, NUDGED_SWEEPS = 10, 10
SWEEPS = FREE_SWEEPS + NUDGED_SWEEPS
STATE, MOVED = "state", "state - free state"
VIEWS = (STATE, MOVED)
TINY = 1e-9
"""Smallest size that is shown as different from zero."""


@dataclass(frozen=True)
class Film:
    """Both phases of one image: states, one (T + 1, channels, height, width) per layer;
    probabilities (T + 1, K); residuals (T,), relative, of each sweep.
    """

    states: tuple[np.ndarray, ...]
    probabilities: np.ndarray
    residuals: np.ndarray


@torch.no_grad()
def relax_phases(model: LayeredModel, x: Tensor, y: Tensor, beta: float) -> Film:
    """Relax one image x (1, ...) freely, then nudged by beta towards its label y (1,)."""
    drive = model.drive(x)
    free = settle(model, model.initial_state(drive), drive, max_steps=FREE_SWEEPS, trajectory=True)
    cost = make_cost("cross_entropy", y, model.output_dim, x)
    nudge = CostNudge(model, cost.grad, (beta,))
    nudged = settle(model, free.state, drive, max_steps=NUDGED_SWEEPS, nudge=nudge, trajectory=True)
    assert free.trajectory is not None and nudged.trajectory is not None
    path: list[State] = free.trajectory + nudged.trajectory[1:]
    moved = [float(movement(new, old)[0]) for old, new in zip(path, path[1:], strict=False)]
    likely = torch.cat([model.readout(state).softmax(1) for state in path])
    states = tuple(torch.cat(layer).cpu().double().numpy() for layer in zip(*path, strict=True))
    return Film(states, likely.cpu().double().numpy(), np.array(moved))


@dataclass(frozen=True)
class Activity:
    """One picture. maps (channels, height, width): what the colours show, up to +-scale; channel:
    the one shown large,
    strongest: those of the strip; rms of the layer's state, moved: rms of its distance to the free
        state.
    """

    image: np.ndarray
    label: int
    film: Film
    layer: int
    sweep: int
    channel: int
    maps: np.ndarray
    scale: float
    strongest: np.ndarray
    rms: float
    moved: float

    @property
    def likely(self) -> np.ndarray:
        """Class probabilities at this sweep, (K,)."""
        return np.asarray(self.film.probabilities[self.sweep])


def rms(values: np.ndarray) -> float:
    """sqrt(mean(v^2))."""
    return float(np.sqrt(np.mean(np.square(values))))


def by_strength(maps: np.ndarray) -> np.ndarray:
    """Channels of (C, H, W) by their rms, the largest first."""
    return np.argsort(-np.square(maps).mean(axis=(1, 2)), kind="stable")

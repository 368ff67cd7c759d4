"""Both phases of one image in a network of feature maps, and what a picture takes from them.

free phase:      s(0) = feed-forward pass, then FREE_SWEEPS sweeps
nudged phase:    NUDGED_SWEEPS sweeps with a_L - beta W_out^T (softmax(z) - y), from the free state
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.equilibrium.relaxation import movement
from eqprop_lab.models.layered import LayeredModel
from eqprop_lab.notebook.explorers.small_networks import two_phases

FREE_SWEEPS, NUDGED_SWEEPS = 10, 10
SWEEPS = FREE_SWEEPS + NUDGED_SWEEPS
STATE, MOVED = "state", "state - free state"
VIEWS = (STATE, MOVED)
TINY = 1e-9
"""Smallest size that is shown as different from zero."""


@dataclass(frozen=True)
class Film:
    """Both phases of one image: states, one (T + 1, channels, height, width) per layer; class
    probabilities (T + 1, K); residuals (T,), relative, of each sweep.
    """

    states: tuple[np.ndarray, ...]
    probabilities: np.ndarray
    residuals: np.ndarray


def relax_phases(model: LayeredModel, x: Tensor, y: Tensor, beta: float) -> Film:
    """Relax one image x (1, ...) freely, then nudged by beta towards its label y (1,)."""
    path, likely = two_phases(model, x, y, (beta,), (FREE_SWEEPS, NUDGED_SWEEPS))
    moved = [float(movement(new, old)[0]) for old, new in pairwise(path)]
    states = tuple(torch.cat(layer).cpu().double().numpy() for layer in zip(*path, strict=True))
    return Film(states, likely[:, 0].cpu().double().numpy(), np.array(moved))


@dataclass(frozen=True)
class Activity:
    """One picture. maps (channels, height, width): what the colours show, up to +-scale; channel:
    the one shown large; strongest: those of the strip; rms of the layer's state; moved: rms of its
    distance to the free state.
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

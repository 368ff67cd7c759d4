"""What explorers look at: a few digits, a small recurrent layer, both phases of an image, how far
off something is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.relaxation import free_state, settle
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.looped_mlp import LoopedMLP


@lru_cache
def digits(count: int) -> tuple[Tensor, Tensor]:
    """The first training digits: pixels (count, 64) in float64 and classes (count,)."""
    data = build_dataset("digits").train
    return data.x[:count].flatten(1).double(), data.y[:count]


def random_state(units: int) -> Tensor:
    """One state in (-1, 1), (1, units), always the same."""
    random = torch.Generator().manual_seed(1)
    return torch.rand(1, units, generator=random, dtype=torch.float64) * 2 - 1


def recurrent(model: LoopedMLP) -> Tensor:
    """The raw weight of W_rec, to be written in place."""
    return model.W_rec.get_parameter("parametrizations.weight.original").detach()


def first_true(found: Tensor | np.ndarray) -> int | None:
    """The first index at which a vector holds, None where it never does."""
    places = np.flatnonzero(found)
    return int(places[0]) if len(places) else None


def relative_error(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> float:
    """||found - wanted|| / ||wanted|| over all parts, in float64."""
    away = size = 0.0
    for f, w in zip(found, wanted, strict=True):
        away += float((f.double() - w).square().sum())
        size += float(w.double().square().sum())
    return (away / size) ** 0.5


@torch.no_grad()
def two_phases(
    model: EquilibriumModel,
    image: Tensor,
    label: Tensor,
    betas: Sequence[float],
    steps: tuple[int, int],
) -> tuple[list[State], Tensor]:
    """Copies of one image: all free for steps[0] steps, then each nudged by its beta for steps[1].

    Returns: the states of both phases, one a step, and the class probabilities (steps, copies, K).
    """
    x = image.expand(len(betas), *image.shape[1:])
    nudge = CostNudge(model, make_cost("cross_entropy", label, model.output_dim, x).grad, betas)
    drive, free = free_state(model, x, max_steps=steps[0], trajectory=True)
    nudged = settle(model, free.state, drive, max_steps=steps[1], nudge=nudge, trajectory=True)
    assert free.trajectory is not None and nudged.trajectory is not None
    path = free.trajectory + nudged.trajectory[1:]
    return path, torch.stack([model.readout(state).softmax(1) for state in path])

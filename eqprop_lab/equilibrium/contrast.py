"""From relaxed states to dL/dtheta: the one formula every estimator ends in.

    D = (s+ - s-)/2,   M = (s+ + s-)/2,
    dL/dtheta = -(1/(beta B)) d/dtheta sum_l kappa_l <D_l, force_l(M)>  +  (1/B) d/dtheta <dC/dz, readout(s*)>

s+ and s- are the states nudged by +beta and -beta, s* the free one. For a quadratic primitive function Phi the first
term is exactly -(1/(2 beta B)) (dPhi/dtheta(s+) - dPhi/dtheta(s-)). States are relaxed without a graph; the parameters
see `model.parameter_gradients` once, at the end. L is the mean cost of the batch; the nudge is per sample and never
divided by B.

Sources: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024 (the theorem); Laborieux et al. 2021,
doi:10.3389/fnins.2021.633674 (the centered difference).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.relaxation import Equilibrium, settle
from eqprop_lab.equilibrium.solvers import make_solver
from eqprop_lab.models.base import EquilibriumModel, State

NUDGED_STEPS = 10
INPUT = "<input>"  # the key of dL/dx, present when x requires gradients
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """How the phases are relaxed.

    beta: nudging strength; free_steps, nudged_steps: at most this many steps; tol: relative residual to stop at;
    solver: one of `solvers.SOLVERS`, for every phase; points: complex nudges of the holomorphic estimator;
    relative: beta is meant relative to the largest |dC/ds| of the batch.
    """

    beta: float = 0.03
    free_steps: int = 30
    nudged_steps: int = NUDGED_STEPS
    tol: float | None = None
    solver: str = "picard"
    points: int = 4
    relative: bool = False


@dataclass(frozen=True)
class Estimate:
    """Gradients by parameter name, the free equilibrium they belong to, its logits (B, K), and the nudged residual."""

    gradients: Gradients
    free: Equilibrium
    logits: Tensor
    nudged_residual: float


def trained_parameters(model: EquilibriumModel) -> dict[str, Tensor]:
    """The parameters an optimiser sees, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def free_phase(model: EquilibriumModel, x: Tensor, settings: Settings) -> tuple[State, Equilibrium]:
    """(drive, free equilibrium) of a batch."""
    drive = model.drive(x)
    start = model.initial_state(drive)
    return drive, settle(
        model, start, drive, max_steps=settings.free_steps, tol=settings.tol, solver=make_solver(settings.solver)
    )


def stacked(states: Sequence[State]) -> State:
    """Several states of one batch as one state of a longer batch, block by block."""
    return tuple(torch.cat(blocks) for blocks in zip(*states, strict=True))


def contrast(
    model: EquilibriumModel,
    x: Tensor,
    difference: State,
    mean: State,
    free: State,
    logits: Tensor,
    cost_grad: CostGradient,
    beta: float,
    driven: Sequence[bool] = (True,),
) -> Gradients:
    """The formula above: (D, M, s*, logits of s*) -> {parameter name: dL/dparameter}.

    D and M may hold several phases along the batch; `driven` says for each whether its force has the drive or none.
    """
    batch = x.shape[0]
    with torch.no_grad():
        cotangent = tuple(d * (-k / (beta * batch)) for k, d in zip(model.kappa, difference, strict=True))
        error = cost_grad(logits) / batch
    gradients = model.parameter_gradients(x, cotangent, mean, free, error, driven)
    if x.requires_grad:
        gradients[INPUT] = model.input_gradient(x, cotangent, mean, driven)
    return gradients

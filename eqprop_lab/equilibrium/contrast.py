"""From relaxed states to dL/dtheta: the one formula every estimator ends in.

    D = (s+ - s-)/2,   M = (s+ + s-)/2,
    dL/dtheta = -(1/(beta B)) d/dtheta sum_l kappa_l <D_l, force_l(M)>
                + (1/B) d/dtheta <dC/dz, readout(s*)>

s+ and s- are the states nudged by +beta and -beta, s* the free one. For a quadratic primitive
function Phi the first term is exactly -(1/(2 beta B)) (dPhi/dtheta(s+) - dPhi/dtheta(s-)). States
are relaxed without a graph; the parameters see `model.parameter_gradients` once, at the end. L is
the mean cost of the batch; the nudge is per sample and never divided by B.

Sources: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024 (the theorem); Laborieux et al.
2021, doi:10.3389/fnins.2021.633674 (the centered difference).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.relaxation import (
    ConvergenceWarning,
    Equilibrium,
    RoundingWarning,
)
from eqprop_lab.equilibrium.settings import Settings, free_phase
from eqprop_lab.equilibrium.state import State

# expected relative error of a phase from which an estimate says that it has not settled
UNSETTLED = 0.05
ROUNDED = BENT = 0.05  # the same for rounding, and for a response that is not linear in beta
# error of a gradient by rounding, in units of eps ||s|| / ||D||: measured 0.15 to 0.45, MLP and
# conv
PER_EPS = 0.4
INPUT = "<input>"  # the key of dL/dx, present when x requires gradients
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Displacement:
    """What displaces the free state: D and M of the formula, the beta that causes D, and the
    equilibrium that D was read off.

    apart: how many betas lie between the states subtracted for D (inf: none were). drift, bend: as
    in `Estimate`. driven: D and M may hold several phases along the batch; whether the force of
    each has the drive or none. own: the model's own derivative of E, scale -> gradients.
    """

    difference: State
    mean: State
    phase: Equilibrium
    beta: float = 1.0
    apart: float = math.inf
    drift: float = 0.0
    driven: Sequence[bool] = (True,)
    bend: float = 0.0
    own: Callable[[float], Gradients] | None = None


@dataclass(frozen=True)
class Estimate:
    """Gradients by parameter name, the free equilibrium they belong to, its logits (B, K), and how
    far to trust them.

    nudged_residual: last movement of what is divided by beta, the difference of the phases (without
    a nudge: of the linear response), relative to itself, whole batch, worst block; nan where there
    is no such phase (bptt).
    nudged_error, rounding: how far off that difference is expected to be, because its phase was
    still moving and because it was rounded. drift: the same because the free phase was still
    moving, where that does not cancel (one_sided). bend: because beta is so large that the response
    is not linear in it, where that is measured (asymmetric). missed: what to say of tolerances that
    were missed.
    """

    gradients: Gradients
    free: Equilibrium
    logits: Tensor
    nudged_residual: float
    nudged_error: float = 0.0
    rounding: float = 0.0
    drift: float = 0.0
    missed: tuple[str, ...] = ()
    bend: float = 0.0

    @property
    def free_error(self) -> float:
        """How far off the gradient is expected to be because the free phase was still moving."""
        return self.free.error + self.drift

    @property
    def doubts(self) -> list[UserWarning]:
        """What a user has to be told: a phase that is off by more than 5 %, or as much rounding.
        Empty: nothing.
        """
        told: list[UserWarning] = [ConvergenceWarning(text) for text in self.missed]
        for name, residual, error in (
            ("free", self.free.residual, self.free_error),
            ("nudged", self.nudged_residual, self.nudged_error),
        ):
            if error > UNSETTLED and not self.missed:
                told.append(ConvergenceWarning(unsettled(name, residual, error)))
        if self.bend > BENT:
            told.append(ConvergenceWarning(bent(self.bend)))
        if self.rounding > ROUNDED:
            told.append(RoundingWarning(rounded(self.rounding)))
        return told


Displace = Callable[[EquilibriumModel, State, Equilibrium, CostGradient, Settings], Displacement]
Estimator = Callable[[EquilibriumModel, Tensor, CostGradient, Settings], Estimate]


def _percent(error: float) -> str:
    return f"{error:.0%}" if error < 1 else "more than 100%"


def unsettled(phase: str, residual: float, error: float) -> str:
    """What is said of a phase that still moves."""
    return (
        f"the {phase} phase has not settled: residual {residual:.1e}, which is expected to put the "
        f"gradient {_percent(error)} off; take more {phase}_steps, or bound the norm of the weights"
    )


def bent(error: float) -> str:
    """What is said of a nudge whose two phases are no mirror images."""
    return (
        f"the nudge is too strong for these weights: the states of +beta and -beta are no mirror "
        f"images, which is expected to put the gradient {_percent(error)} off; take a smaller "
        "beta, or beta='auto'"
    )


def rounded(error: float) -> str:
    """What is said of a difference of phases that is mostly rounding."""
    return (
        f"the difference of the phases is {_percent(error)} rounding; take a beta larger by "
        f"{error / 0.01:.0e} (1 % is left then), beta='auto', or estimator='response'"
    )


def trained_parameters(model: EquilibriumModel) -> dict[str, Tensor]:
    """The parameters an optimiser sees, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def stacked(states: Sequence[State]) -> State:
    """Several states of one batch as one state of a longer batch, block by block."""
    return tuple(torch.cat(blocks) for blocks in zip(*states, strict=True))


def own_phases(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
    betas: tuple[float, float],
    steps: int | None = None,
) -> Displacement | None:
    """The displacement by phases that the model relaxes itself; None where it leaves that to us."""
    taken, tol = (settings.nudged_steps, settings.tol) if steps is None else (steps, None)
    found = model.contrasted(drive, free.state, cost_grad, betas, taken, tol)
    if found is None:
        return None
    half = (betas[0] - betas[1]) / 2
    return Displacement(found.difference, found.mean, found.phase, half, own=found.gradients)


def contrast(
    model: EquilibriumModel,
    x: Tensor,
    moved: Displacement,
    free: State,
    logits: Tensor,
    cost_grad: CostGradient,
) -> Gradients:
    """The formula above: (D, M, beta), s*, logits of s* -> {parameter name: dL/dparameter}."""
    batch = len(logits)  # one row a sample, or a token
    own = None if moved.own is None else moved.own(1 / (moved.beta * batch))
    if own is not None and not x.requires_grad:
        return own
    with torch.no_grad():
        cotangent = tuple(
            d * (-k / (moved.beta * batch))
            for k, d in zip(model.kappa, moved.difference, strict=True)
        )
        error = cost_grad(logits) / batch
    gradients = own
    if gradients is None:
        gradients = model.parameter_gradients(x, cotangent, moved.mean, free, error, moved.driven)
    if x.requires_grad:
        gradients[INPUT] = model.input_gradient(x, cotangent, moved.mean, moved.driven)
    return gradients


def estimator(displace: Displace) -> Estimator:
    """The estimator of a displacement: free phase, what displaces its state, the formula above."""

    def estimate(
        model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings
    ) -> Estimate:
        with torch.no_grad(), model.frozen_weights():
            with torch.set_grad_enabled(model.drive_with_graph):
                drive = model.drive(x)
            free = free_phase(model, x, settings, drive)[1]
            moved = displace(model, drive, free, cost_grad, settings)
            logits = model.readout(free.state)
        gradients = contrast(model, x, moved, free.state, logits, cost_grad)
        phase = moved.phase
        rounding = 2 / moved.apart * PER_EPS * torch.finfo(logits.dtype).eps * phase.coarse
        missed = tuple(end.missed for end in (free, phase) if end.missed is not None)
        free = replace(free, state=tuple(block.detach() for block in free.state))
        return Estimate(
            gradients, free, logits, phase.change, phase.error, rounding, moved.drift, missed,
            moved.bend,
        )  # fmt: skip

    estimate.__doc__ = displace.__doc__
    return estimate

"""Gradient estimators: from two relaxed states to dL/dtheta, with one formula for every model.

    D = (s+ - s-)/2,   M = (s+ + s-)/2,
    dL/dtheta = -(1/(beta B)) d/dtheta sum_l kappa_l <D_l, force_l(M)>  +  (1/B) d/dtheta <dC/dz, readout(s*)>

s+ and s- are the states nudged by +beta and -beta, s* the free one. For a quadratic primitive function Phi the
first term is exactly -(1/(2 beta B)) (dPhi/dtheta(s+) - dPhi/dtheta(s-)). States are relaxed without a graph; the
parameters see one autograd call at the end. L is the mean cost of the batch; the nudge is per sample and never
divided by B.

Sources: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024 (the theorem); Laborieux et al. 2021,
doi:10.3389/fnins.2021.633674 (centered).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop_lab.equilibrium.costs import CostGradient, make_cost
from eqprop_lab.equilibrium.relaxation import Equilibrium, settle
from eqprop_lab.models.base import EquilibriumModel, Nudge, State
from eqprop_lab.validation import one_of, positive_int, real

NUDGED_STEPS = 10
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """How the phases are relaxed. beta: nudging strength; *_steps: at most this many steps; tol: relative residual
    to stop at."""

    beta: float = 0.03
    free_steps: int = 30
    nudged_steps: int = NUDGED_STEPS
    tol: float | None = None


@dataclass(frozen=True)
class Estimate:
    """Gradients by parameter name, the free equilibrium they belong to, its logits (B, K), and the nudged residual."""

    gradients: Gradients
    free: Equilibrium
    logits: Tensor
    nudged_residual: float


Estimator = Callable[[EquilibriumModel, Tensor, CostGradient, Settings], Estimate]


def cost_nudge(model: EquilibriumModel, cost_grad: CostGradient, betas: Sequence[float]) -> Nudge:
    """(beta / kappa_l) dC/ds_l at the current state, for phases stacked along the batch, one beta each.

    cost_grad: logits (B, K) -> dC/dz (B, K) of the unstacked batch.
    """

    def pull(state: State) -> tuple[Tensor | None, ...]:
        phases = model.readout(state).chunk(len(betas))
        cotangent = torch.cat([beta * cost_grad(z) for beta, z in zip(betas, phases, strict=True)])
        pulls = model.readout_vjp(state, cotangent)
        return tuple(None if p is None else p / k for p, k in zip(pulls, model.kappa, strict=True))

    return pull


def _free_phase(model: EquilibriumModel, x: Tensor, settings: Settings) -> tuple[State, Equilibrium]:
    drive = model.drive(x)
    start = model.initial_state(drive)
    return drive, settle(model, start, drive, max_steps=settings.free_steps, tol=settings.tol)


def contrast(
    model: EquilibriumModel,
    x: Tensor,
    difference: State,
    mean: State,
    free: State,
    cost_grad: CostGradient,
    beta: float,
) -> Gradients:
    """The formula above: (D, M, s*) -> {parameter name: dL/dparameter}, one autograd call on the parameters only."""
    batch = x.shape[0]
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        forces = model.force(mean, model.drive(x))
        pairs = zip(model.kappa, difference, forces, strict=True)
        work = torch.stack([k * torch.sum(d * f) for k, d, f in pairs]).sum()
        logits = model.readout(free)
        surrogate = torch.sum(cost_grad(logits.detach()) * logits) / batch - work / (beta * batch)
    grads = torch.autograd.grad(surrogate, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), grads, strict=True)}


def centered(model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings) -> Estimate:
    """States at +beta and -beta, relaxed together as one batch of 2B from the free state. Error beta^2."""
    beta = settings.beta
    with torch.no_grad():
        drive, free = _free_phase(model, x, settings)
        twice = tuple(torch.cat([block, block]) for block in drive)
        start = tuple(torch.cat([block, block]) for block in free.state)
        nudge = cost_nudge(model, cost_grad, (beta, -beta))
        nudged = settle(model, start, twice, max_steps=settings.nudged_steps, tol=settings.tol, nudge=nudge)
        plus, minus = zip(*(block.chunk(2) for block in nudged.state), strict=True)
        difference = tuple((p - m) / 2 for p, m in zip(plus, minus, strict=True))
        mean = tuple((p + m) / 2 for p, m in zip(plus, minus, strict=True))
        logits = model.readout(free.state)
    return Estimate(contrast(model, x, difference, mean, free.state, cost_grad, beta), free, logits, nudged.residual)


def bptt(model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings) -> Estimate:
    """Backpropagation through the unrolled free phase (drive hoisted). Memory grows with the steps; beta is unused."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        _, free = _free_phase(model, x, settings)
        logits = model.readout(free.state)
        surrogate = torch.sum(cost_grad(logits.detach()) * logits) / x.shape[0]
    grads = torch.autograd.grad(surrogate, list(named.values()))
    detached = Equilibrium(tuple(s.detach() for s in free.state), free.steps, free.residual, free.converged)
    return Estimate(dict(zip(named, grads, strict=True)), detached, logits.detach(), 0.0)


ESTIMATORS: dict[str, Estimator] = {"centered": centered, "bptt": bptt}


def make_settings(
    model: EquilibriumModel,
    beta: float = 0.03,
    free_steps: int | None = None,
    nudged_steps: int | None = None,
    tol: float | None = None,
) -> Settings:
    """Validated Settings. Defaults: `model.max_steps` free and 10 nudged steps.

    Raises TypeError, ValueError (beta = 0 too).
    """
    if not isinstance(model, EquilibriumModel):
        raise TypeError(
            f"{type(model).__name__} is not an EquilibriumModel; ordinary modules train with gradient='autograd'"
        )
    return Settings(
        beta=real("beta", beta, above=0.0),
        free_steps=model.max_steps if free_steps is None else positive_int("free_steps", free_steps),
        nudged_steps=NUDGED_STEPS if nudged_steps is None else positive_int("nudged_steps", nudged_steps),
        tol=None if tol is None else real("tol", tol, above=0.0),
    )


def estimate(
    model: EquilibriumModel, x: Tensor, y: Tensor, estimator: str, settings: Settings, cost: str = "cross_entropy"
) -> tuple[Estimate, Tensor]:
    """One estimate and the cost per sample (B,) at the free state: what a training step needs. Touches no `.grad`."""
    compute = ESTIMATORS[one_of("estimator", estimator, ESTIMATORS)]
    model.check_batch(x)
    if isinstance(y, Tensor) and y.shape[:1] != x.shape[:1]:
        raise ValueError(f"y must have one target per sample: x holds {x.shape[0]}, y has shape {tuple(y.shape)}")
    function = make_cost(cost, y, model.output_dim, x)
    result = compute(model, x, function.grad, settings)
    return result, function.value(result.logits)


def estimate_gradients(
    model: EquilibriumModel,
    x: Tensor,
    y: Tensor,
    estimator: str = "centered",
    beta: float = 0.03,
    free_steps: int | None = None,
    nudged_steps: int | None = None,
    tol: float | None = None,
    *,
    cost: str = "cross_entropy",
) -> Gradients:
    """{parameter name: dL/dparameter}, L the mean cost of the batch; `.grad` is not touched.

    Args:
        x (B, ...), y class indices (B,) or float targets (B, K). estimator: a name in `ESTIMATORS`.
        beta > 0: nudging strength, absolute, never divided by the batch. cost: "cross_entropy" or "mse".
        free_steps, nudged_steps: at most this many relaxation steps; tol: relative residual at which a phase stops.
    Returns: gradients with respect to the parameters an optimiser sees (the originals of a parametrisation).
    Raises: TypeError, ValueError naming the argument; DivergenceError. Warns ConvergenceWarning when tol is missed.
    """
    settings = make_settings(model, beta, free_steps, nudged_steps, tol)
    return estimate(model, x, y, estimator, settings, cost)[0].gradients

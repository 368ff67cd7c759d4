"""Estimators without a nudge: the limit beta -> 0, the adjoint, and backpropagation through time.

    response   v = N (J v - g/kappa):   how the equilibrium answers an infinitesimal nudge (J symmetric up to kappa)
    implicit   a = N (g + J^T a):       the adjoint, for any J; equals -kappa v where there is an energy
    bptt       autograd through the unrolled free phase

g = dC/ds at the free state. Both linear relaxations contract as fast as the free phase does.
Sources: Scellier and Bengio 2019, arXiv:1711.08416 (response and recurrent backpropagation); Bai et al. 2019,
arXiv:1909.01377 (implicit differentiation).
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contrast import INPUT, Estimate, Settings, contrast, free_phase, trained_parameters
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.jacobian import Product, activation_product, force_jvp, force_vjp
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, DivergenceError, Equilibrium, movement, settle
from eqprop_lab.equilibrium.solvers import make_solver
from eqprop_lab.models.base import EquilibriumModel, State


def _solve(
    model: EquilibriumModel, free: Equilibrium, drive: State, jacobian: Product, g: State, settings: Settings
) -> tuple[State, float]:
    """v = N (g + J v) by iteration from N g; (v, relative residual). Raises DivergenceError."""
    slopes, product = model.activation_slope(free.state), activation_product(model, free.state, drive)
    source = product(g)

    def apply(v: State) -> State:
        turned = jacobian(v)
        if slopes is None:
            return tuple(s + p for s, p in zip(source, product(turned), strict=True))
        return tuple(torch.addcmul(s, n, t) for s, n, t in zip(source, slopes, turned, strict=True))

    v, residual, solver = source, math.inf, make_solver(settings.solver, radius=free.radius)
    for step in range(1, settings.nudged_steps + 1):
        image = apply(v)
        last = step == settings.nudged_steps
        if settings.tol is not None or last:
            residual = float(movement(image, v)[0].max())
            if not math.isfinite(residual):
                raise DivergenceError(f"the linear relaxation diverged after {step} steps: the step is no contraction")
        last = last or (settings.tol is not None and residual <= settings.tol)
        v = image if last or solver is None else solver.advance(v, image)
        if last:
            break
    if settings.tol is not None and residual > settings.tol:
        warnings.warn(
            f"linear relaxation not converged: residual {residual:.1e} > tol {settings.tol:.1e}",
            ConvergenceWarning,
            stacklevel=5,
        )
    return v, residual


def _cost_slope(model: EquilibriumModel, free: State, cost_grad: CostGradient) -> tuple[Tensor, State]:
    logits = model.readout(free)
    pulls = model.readout_vjp(free, cost_grad(logits))
    return logits, tuple(torch.zeros_like(s) if p is None else p for p, s in zip(pulls, free, strict=True))


def response(model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings) -> Estimate:
    """v = N (J v - g/kappa), dL/dtheta = -sum_l kappa_l <v_l, d force_l/d theta>: EqProp in the limit of a weak nudge.

    No beta and no rounding floor, half the products of two phases. Exact where the force has a primitive function.
    """
    with torch.no_grad(), model.frozen_weights():
        drive, free = free_phase(model, x, settings)
        logits, g = _cost_slope(model, free.state, cost_grad)
        forward = force_jvp(model, free.state, drive)
        pull = tuple(-block / k for block, k in zip(g, model.kappa, strict=True))
        v, residual = _solve(model, free, drive, forward, pull, settings)
    return Estimate(contrast(model, x, v, free.state, free.state, logits, cost_grad, 1.0), free, logits, residual)


def implicit(model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings) -> Estimate:
    """a = N (g + J^T a), dL/dtheta = sum_l <a_l, d force_l/d theta>: the adjoint, for directed models too."""
    with torch.no_grad():
        drive, free = free_phase(model, x, settings)
        logits, g = _cost_slope(model, free.state, cost_grad)
        backward = force_vjp(model, free.state, drive)
        a, residual = _solve(model, free, drive, backward, g, settings)
        minus = tuple(-block / k for block, k in zip(a, model.kappa, strict=True))
    return Estimate(contrast(model, x, minus, free.state, free.state, logits, cost_grad, 1.0), free, logits, residual)


def _unrolled(model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, end: Equilibrium) -> Estimate:
    """The estimate of a phase that was relaxed with a graph."""
    named = trained_parameters(model) | ({INPUT: x} if x.requires_grad else {})
    logits = model.readout(end.state)
    surrogate = torch.sum(cost_grad(logits.detach()) * logits) / x.shape[0]
    grads = torch.autograd.grad(surrogate, list(named.values()))
    detached = Equilibrium(tuple(s.detach() for s in end.state), end.steps, end.residual, end.converged)
    return Estimate(dict(zip(named, grads, strict=True)), detached, logits.detach(), 0.0)


def bptt(model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings) -> Estimate:
    """Backpropagation through the unrolled free phase (drive hoisted). Memory grows with the steps; beta is unused."""
    with torch.enable_grad():
        return _unrolled(model, x, cost_grad, free_phase(model, x, settings)[1])


def truncated_bptt(model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings) -> Estimate:
    """Backpropagation through `nudged_steps` more steps from the free state only.

    What EqProp with as many nudged steps computes in the limit of a weak nudge (Ernoult et al. 2019, arXiv:1905.13633).
    """
    with torch.no_grad():
        _, free = free_phase(model, x, settings)
    with torch.enable_grad():
        end = settle(model, free.state, model.drive(x), max_steps=settings.nudged_steps)
        return _unrolled(model, x, cost_grad, end)

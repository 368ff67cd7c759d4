"""Estimators without a nudge: the limit beta -> 0, the adjoint, and backpropagation through time.

    response   v = N (J v - g/kappa)   how the equilibrium answers an infinitesimal nudge
    implicit   a = N (g + J^T a)       the adjoint
    bptt       autograd through the unrolled free phase

g = dC/ds at the free state. `response` wants a J that is symmetric up to kappa, `implicit` takes
any; where there is an energy, a = -kappa v. Both linear relaxations contract as fast as the free
phase does. Sources: Scellier and Bengio 2019, arXiv:1711.08416 (response and recurrent
backpropagation); Bai et al. 2019, arXiv:1909.01377 (implicit differentiation).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import (
    INPUT,
    Displacement,
    Estimate,
    estimator,
    own_phases,
    trained_parameters,
)
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.jacobian import (
    PartProduct,
    Product,
    activation_product,
    filled,
    force_jvp,
    force_vjp,
    leaves_of,
    pulled_back,
)
from eqprop_lab.equilibrium.relaxation import Equilibrium, settle
from eqprop_lab.equilibrium.settings import Settings, free_phase
from eqprop_lab.equilibrium.solvers import PICARD, SLOWEST, make_solver
from eqprop_lab.equilibrium.state import Nudge, State, moving
from eqprop_lab.equilibrium.view import ModelView

# the phases of a model that relaxes them itself: one sweep from the free state is linear in beta
LIMIT = (1.0, -1.0)

Group = tuple[int, ...]
Groups = tuple[Group, ...]


@dataclass
class _Linearised:
    """v -> N (g + J v), group by group: what `settle` relaxes in the place of a model. Its drive is
    N g.
    """

    jacobian: Callable[[Group, State], State]
    product: dict[Group, Product]  # v -> N v of the blocks of each group
    slopes: State | None
    groups: Groups
    products: torch.dtype | None

    def frozen_weights(self) -> AbstractContextManager[None]:
        return nullcontext()

    def step(
        self, state: State, drive: State, nudge: Nudge | None = None, out: State | None = None
    ) -> State:
        for group in self.groups:
            state = self.update(group, state, drive)
        return state

    def update(self, group: Group, state: State, drive: State, nudge: Nudge | None = None) -> State:
        turned = self.jacobian(group, state)
        moved = list(state)
        if self.slopes is None:
            for block, p in zip(group, self.product[group](turned), strict=True):
                moved[block] = drive[block] + p
        else:
            for block, t in zip(group, turned, strict=True):
                moved[block] = torch.addcmul(drive[block], self.slopes[block], t)
        return tuple(moved)


def _solve(
    model: EquilibriumModel,
    free: Equilibrium,
    drive: State,
    jacobian: Callable[[Group, State], State],
    groups: Groups,
    g: State,
    settings: Settings,
) -> Equilibrium:
    """v = N (g + J v) by iteration from N g, group by group. Raises DivergenceError."""
    slopes = model.activation_slope(free.state)
    source = activation_product(model, free.state, drive)(g)
    product = {group: activation_product(model, free.state, drive, group) for group in groups}
    # Going further than a step is for what moves in groups: all blocks at once would overshoot.
    together = settings.solver == "over_relaxed" and len(groups) == 1
    return settle(
        _Linearised(jacobian, product, slopes, groups, model.products),
        source,
        source,
        max_steps=settings.nudged_steps,
        tol=settings.tol,
        solver=PICARD if together else make_solver(settings.solver, radius=free.radius),
        name="linear relaxation",
    )


def _cost_slope(model: EquilibriumModel, free: State, cost_grad: CostGradient) -> State:
    pulls = model.readout_vjp(free, cost_grad(model.readout(free)))
    return tuple(torch.zeros_like(s) if p is None else p for p, s in zip(pulls, free, strict=True))


def _forward(
    model: EquilibriumModel, state: State, drive: State
) -> tuple[Callable[[Group, State], State], Groups]:
    """(group, v) -> J v in the blocks of the group; the groups are the model's own where its force
    is affine.
    """
    if model.affine_force and model.activation_slope(state) is not None:
        silent = tuple(torch.zeros_like(block) for block in drive)

        def product(group: Group, v: State) -> State:
            forces = model.block_forces(group, v, silent)
            return tuple(forces[block] for block in group)

        return product, model.groups
    forward = force_jvp(model, state, drive)
    return lambda group, v: forward(v), (tuple(range(len(state))),)


@estimator
def response(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
) -> Displacement:
    """v = N (J v - g/kappa), dL/dtheta = -sum_l kappa_l <v_l, d force_l/d theta>: EqProp in the
    limit of a weak nudge.

    No beta and no rounding floor, half the products of two phases. Exact where the force has a
    primitive function.
    """
    if (own := own_phases(model, drive, free, cost_grad, settings, LIMIT, steps=1)) is not None:
        return own
    g = _cost_slope(model, free.state, cost_grad)
    forward, groups = _forward(model, free.state, drive)
    pull = tuple(-block / k for block, k in zip(g, model.kappa, strict=True))
    end = _solve(model, free, drive, forward, groups, pull, settings)
    return Displacement(end.state, free.state, end)


def implicit(
    model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings
) -> Estimate:
    """a = N (g + J^T a), dL/dtheta = sum_l <a_l, d force_l/d theta>: the adjoint, for directed
    models too.
    """
    shown = model
    if isinstance(model, ModelView) and type(model).force is ModelView.force:
        shown = model.model  # a view that leaves the force as it is leaves its gradients, too
    base = EquilibriumModel
    if (
        type(shown).parameter_gradients is not base.parameter_gradients
        or type(shown).contrasted is not base.contrasted
    ):
        return _by_parts(model, x, cost_grad, settings)
    return _by_one_graph(model, x, cost_grad, settings, trained_parameters(shown))


@estimator
def _by_parts(
    model: EquilibriumModel,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    settings: Settings,
) -> Displacement:
    """`implicit`, where the model knows the gradients of its parameters."""
    if (own := own_phases(model, drive, free, cost_grad, settings, LIMIT, steps=1)) is not None:
        return own
    g = _cost_slope(model, free.state, cost_grad)
    end = _adjoint(model, free, drive, force_vjp(model, free.state, drive), g, settings)
    minus = tuple(-block / k for block, k in zip(end.state, model.kappa, strict=True))
    return Displacement(minus, free.state, end)


def _by_one_graph(
    model: EquilibriumModel,
    x: Tensor,
    cost_grad: CostGradient,
    settings: Settings,
    trained: dict[str, Tensor],
) -> Estimate:
    """`implicit`, where they are autograd's: drive, weights and force are computed once, for J^T
    and for d force/d theta.
    """
    named = trained | ({INPUT: x} if x.requires_grad else {})
    with torch.enable_grad(), model.frozen_weights():
        drive = model.drive(x)
        with torch.no_grad():
            free = free_phase(model, x, settings, drive)[1]
        leaves = leaves_of(free.state)
        forces, logits = model.force(leaves, drive), model.readout(leaves)
    with torch.no_grad():
        error = cost_grad(logits.detach())
        g = filled(torch.autograd.grad(logits, leaves, error, True, allow_unused=True), leaves)
        end = _adjoint(model, free, drive, pulled_back(forces, leaves), g, settings)
        pulls = [block / len(logits) for block in (*end.state, error)]
    wanted = list(named.values())
    ends = [*forces, logits]
    grads = torch.autograd.grad(ends, wanted, pulls, allow_unused=True) if wanted else ()
    found = dict(zip(named, filled(grads, tuple(wanted)), strict=True))
    missed = tuple(phase.missed for phase in (free, end) if phase.missed is not None)
    return Estimate(found, free, logits.detach(), end.change, end.error, missed=missed)


def _adjoint(
    model: EquilibriumModel,
    free: Equilibrium,
    drive: State,
    backward: PartProduct,
    g: State,
    settings: Settings,
) -> Equilibrium:
    """a = N (g + J^T a), from the last group to the first: J^T carries news that way."""
    groups = model.groups[::-1]
    return _solve(model, free, drive, lambda group, v: backward(v, group), groups, g, settings)


def _unrolled(
    model: EquilibriumModel,
    x: Tensor,
    cost_grad: CostGradient,
    end: Equilibrium,
    start: State | None = None,
) -> Estimate:
    """The estimate of a phase that was relaxed with a graph; start: the leaves it began with, if it
    was cut there.
    """
    named = trained_parameters(model) | ({INPUT: x} if x.requires_grad else {})
    logits = model.readout(end.state)
    surrogate = torch.sum(cost_grad(logits.detach()) * logits) / len(logits)
    wanted = [*named.values(), *(start or ()), *(end.state if start else ())]
    grads = torch.autograd.grad(surrogate, wanted, allow_unused=start is not None) if wanted else ()
    free = replace(end, state=tuple(s.detach() for s in end.state))
    change, error = math.nan, 0.0
    if start is not None:
        # What is cut off: the adjoint that is left at the start, and all that would have come
        # before it.
        left, whole = (
            math.hypot(*(float(g.norm()) for g in part if g is not None))
            for part in (
                grads[len(named) : len(named) + len(start)],
                grads[len(named) + len(start) :],
            )
        )
        change = left / whole if whole > 0 else 0.0
        rate = min(change ** (1 / end.steps), SLOWEST)
        error = change / (1 - rate)
    found = {
        n: torch.zeros_like(p) if g is None else g
        for (n, p), g in zip(named.items(), grads, strict=False)
    }
    missed = () if end.missed is None else (end.missed,)
    return Estimate(found, free, logits.detach(), change, error, missed=missed)


def bptt(
    model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings
) -> Estimate:
    """Backpropagation through the unrolled free phase (drive hoisted). Memory grows with the steps;
    beta is unused.
    """
    with torch.enable_grad():
        return _unrolled(model, x, cost_grad, free_phase(model, x, settings)[1])


def truncated_bptt(
    model: EquilibriumModel, x: Tensor, cost_grad: CostGradient, settings: Settings
) -> Estimate:
    """Backpropagation through `nudged_steps` more steps from the free state only.

    What EqProp with as many nudged steps computes in the limit of a weak nudge (Ernoult et al.
    2019, arXiv:1905.13633).
    """
    with torch.no_grad():
        _, free = free_phase(model, x, settings)
    with torch.enable_grad():
        start = tuple(block.detach().requires_grad_() for block in free.state)
        drive = model.drive(x)
        begin = moving(model.groups, start, model.initial_state(drive))
        end = settle(model, begin, drive, max_steps=settings.nudged_steps)
        return _unrolled(model, x, cost_grad, replace(end, missed=free.missed), start)

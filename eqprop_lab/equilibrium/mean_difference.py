"""The two nudged phases of an affine force as their mean and half difference, s+- = M +- D, a+- = abar +- alpha.

    abar = J M + u - beta (g+ - g-)/2,    alpha = J D - beta (g+ + g-)/2        g+- = dC/ds(M +- D) / kappa
    p, r = tanh(abar +- alpha),           M = (p + r)/2,    D = tanh(2 alpha) (1 - p r)/2

The same states as relaxing +beta and -beta, with as many products, but D never comes from subtracting two nearly equal
numbers: where a layer hardly moves (far below the readout, with a small feedback gain) float32 would keep only rounding
of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contrast import Settings, stacked
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.nudges import ReadoutNudge
from eqprop_lab.equilibrium.relaxation import Equilibrium, settle
from eqprop_lab.equilibrium.solvers import make_solver
from eqprop_lab.models.base import EquilibriumModel, State


class _Pair(EquilibriumModel):
    """A model with affine force, stepped on the mean and half difference of two states, [M; D] along the batch."""

    model: EquilibriumModel

    def __init__(self, model: EquilibriumModel) -> None:
        super().__init__(model.max_steps)
        # Not registered as a submodule: this is a view of the model for the length of one phase.
        self.__dict__["model"] = model
        self.groups, self.kappa, self.readout_blocks = model.groups, model.kappa, model.readout_blocks

    def drive(self, x: Tensor) -> State:
        drive = self.model.drive(x)
        return stacked([drive, tuple(torch.zeros_like(block) for block in drive)])

    def initial_state(self, drive: State) -> State:
        free = self.model.initial_state(tuple(block.chunk(2)[0] for block in drive))
        return stacked([free, tuple(torch.zeros_like(block) for block in free)])

    def force(self, state: State, drive: State) -> State:
        return self.model.force(state, drive)

    def block_forces(self, group: tuple[int, ...], state: State, drive: State) -> State:
        return self.model.block_forces(group, state, drive)

    def activate(self, a: Tensor) -> Tensor:
        return torch.cat(self.model.activate_pair(*a.chunk(2)))

    def readout(self, state: State) -> Tensor:
        return self.model.readout(state)


class _PairNudge(ReadoutNudge):
    """The nudges +beta and -beta, as what they do to the mean and to the half difference of the forces."""

    def __init__(self, model: EquilibriumModel, cost_grad: CostGradient, beta: float, free: State) -> None:
        self.model, self.cost_grad, self.beta = model, cost_grad, beta
        self.origin = model.readout(tuple(torch.zeros_like(block[:1]) for block in free))

    def cotangent(self, state: State) -> Tensor:
        mean, half = self.model.readout(state).chunk(2)
        half = half - self.origin
        phases = torch.stack([mean + half, mean - half])
        plus, minus = torch.broadcast_to(self.cost_grad(phases), phases.shape)
        return torch.cat([plus - minus, plus + minus]).mul_(self.beta / 2)


def relax_pair(
    model: EquilibriumModel, free: State, drive: State, cost_grad: CostGradient, beta: float, settings: Settings
) -> tuple[State, State, Equilibrium]:
    """(D, M, what the relaxation says) of the phases at +beta and -beta, from the free state.

    The residual is the worst of those of M and of D, each relative to itself.
    """
    silent = tuple(torch.zeros_like(block) for block in drive)
    start = stacked([free, tuple(torch.zeros_like(block) for block in free)])
    end = settle(
        _Pair(model),
        start,
        stacked([drive, silent]),
        max_steps=settings.nudged_steps,
        tol=settings.tol,
        nudge=_PairNudge(model, cost_grad, beta, free),
        solver=make_solver(settings.solver),
    )
    mean, half = zip(*(block.chunk(2) for block in end.state), strict=True)
    return half, mean, end

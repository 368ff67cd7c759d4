"""The two nudged phases of an affine force as their mean and half difference, s+- = M +- D, a+- =
abar +- alpha.

    abar = J M + u - beta (g+ - g-)/2,    alpha = J D - beta (g+ + g-)/2
    p, r = tanh(abar +- alpha),           M = (p + r)/2,    D = (p - r)/2

g+- = dC/ds(M +- D) / kappa; see `activations.tanh_pair` for the second line. The same states as
relaxing +beta and -beta, with as many products, but D never comes from subtracting two nearly equal
numbers: where a layer hardly moves (far below the readout, with a small feedback gain) float32
would keep only rounding of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import stacked
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.nudges import ReadoutNudge
from eqprop_lab.equilibrium.relaxation import Equilibrium
from eqprop_lab.equilibrium.settings import Settings, nudged_phase
from eqprop_lab.equilibrium.state import State
from eqprop_lab.equilibrium.view import ModelView


class _Pair(ModelView):
    """A model with affine force, stepped on the mean and half difference of two states, [M; D]
    along the batch.
    """

    def block_forces(self, group: tuple[int, ...], state: State, drive: State) -> State:
        return self.model.block_forces(group, state, drive)

    def activate(self, a: Tensor) -> Tensor:
        return self.model.activate_pair(a)


class _PairNudge(ReadoutNudge):
    """The nudges +beta and -beta, as what they do to the mean and to the half difference of the
    forces.
    """

    def __init__(
        self, model: EquilibriumModel, cost_grad: CostGradient, beta: float, free: State
    ) -> None:
        self.model, self.cost_grad, self.beta = model, cost_grad, beta
        self.origin = model.readout(tuple(torch.zeros_like(block[:1]) for block in free))

    def cotangent(self, state: State) -> Tensor:
        mean, half = self.model.readout(state).chunk(2)
        half = half - self.origin
        phases = torch.stack([mean + half, mean - half])
        plus, minus = torch.broadcast_to(self.cost_grad(phases), phases.shape)
        return torch.cat([plus - minus, plus + minus]).mul_(self.beta / 2)


def relax_pair(
    model: EquilibriumModel,
    free: State,
    drive: State,
    cost_grad: CostGradient,
    beta: float,
    settings: Settings,
) -> tuple[State, State, Equilibrium]:
    """(D, M, what the relaxation says) of the phases at +beta and -beta, from the free state.

    The residual is the worst of those of M and of D, each relative to itself; `change` and `error`
    are about D.
    """
    start = stacked([free, tuple(torch.zeros_like(block) for block in free)])
    end = nudged_phase(
        _Pair(model),
        start,
        drive if model.partial_drives else stacked([drive, tuple(map(torch.zeros_like, drive))]),
        _PairNudge(model, cost_grad, beta, free),
        settings,
        read=lambda state: tuple(block.chunk(2)[1] for block in state),
    )
    mean, half = zip(*(block.chunk(2) for block in end.state), strict=True)
    return half, mean, end

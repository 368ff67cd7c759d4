"""Nudges that act through the readout: from a cotangent of the logits to what is subtracted from
each force.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import CostGradient, Slope
from eqprop_lab.equilibrium.state import State


class ReadoutNudge(ABC):
    """(1 / kappa_l) (d readout / d s_l)^T cotangent(state), as a step of the model takes it."""

    through_readout = True
    model: EquilibriumModel

    @abstractmethod
    def cotangent(self, state: State) -> Tensor:
        """What pulls on the logits of the state, one row a sample."""

    def __call__(self, state: State) -> tuple[Tensor | None, ...]:
        """What is subtracted from each block's force."""
        return self.model.pull(state, self.cotangent(state))

    def add(self, force: State, state: State, factor: float) -> State:
        """force + factor times the above, by the model's own quickest way."""
        return self.model.add_pull(force, state, self.cotangent(state), factor)


class CostNudge(ReadoutNudge):
    """(beta / kappa_l) dC/ds_l at the current state, for phases stacked along the batch, one beta
    each.

    cost_grad: logits (phases, B, K) -> dC/dz, broadcast over the phases.
    """

    def __init__(
        self, model: EquilibriumModel, cost_grad: CostGradient, betas: Sequence[complex]
    ) -> None:
        self.model, self.cost_grad = model, cost_grad
        wide = (
            torch.complex128 if any(isinstance(beta, complex) for beta in betas) else torch.float64
        )
        self.betas = torch.tensor(betas, dtype=wide, device="cpu")
        self.pulled: CostGradient | None = None  # made for the first logits that come

    def cotangent(self, state: State) -> Tensor:
        return self.of_logits(self.model.readout(state))

    def of_logits(self, logits: Tensor) -> Tensor:
        """beta dC/dz of the logits (phases B, K)."""
        if self.pulled is None:
            self.pulled = self._pulled(logits)
        return self.pulled(logits)

    def _pulled(self, logits: Tensor) -> CostGradient:
        """Logits (phases B, K) shaped, typed and laid out as these -> beta dC/dz."""
        betas = self.betas.to(logits)
        if isinstance(self.cost_grad, Slope) and logits.stride(0) == 1 and not betas.is_complex():
            return self.cost_grad.nudges(betas)
        scale = betas.reshape(-1, *[1] * logits.ndim)

        def pulled(logits: Tensor) -> Tensor:
            phases = logits.unflatten(0, (len(betas), -1))
            return (scale * self.cost_grad(phases)).flatten(0, 1)

        return pulled

"""EquilibriumBlock: an equilibrium model as a layer of an ordinary network.

    forward   z = readout(s*(x))
    backward  v = dL/dz  ->  dL/dtheta, dL/dx by the chosen estimator, with v in the place of dC/dz

Autograd runs outside the block, the estimator inside: no graph through the relaxation. dL/dx needs
no phase of its own, it is read off the same displacement through the drive.
Source: Nest and Ernoult 2024, arXiv:2409.03306 (energy-based blocks inside feed-forward networks).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import INPUT
from eqprop_lab.equilibrium.gradients import ESTIMATORS, make_settings
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.equilibrium.requirements import check_precision, equilibrium_model
from eqprop_lab.equilibrium.settings import free_phase
from eqprop_lab.equilibrium.sigma_vector import in_tracked, tracked
from eqprop_lab.validation import one_of


class _Relaxed(torch.autograd.Function):
    """The two directions above as one differentiable function of x and the parameters."""

    @staticmethod
    def forward(ctx: Any, block: EquilibriumBlock, x: Tensor, *parameters: Tensor) -> Tensor:
        # a backward pass may run in a thread of its own
        ctx.block, ctx.tracked = block, in_tracked()
        # The parameters too: autograd says so then, when somebody has moved them before the
        # backward pass.
        ctx.save_for_backward(x, *parameters)
        free = free_phase(block.model, x, block.settings)[1]
        if free.missed is not None:
            warnings.warn(free.missed, ConvergenceWarning, stacklevel=2)
        return block.model.readout(free.state)

    @staticmethod
    # an estimate has no graph: a penalty on it would train nothing, without a word
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (x, *_), (v,), block = ctx.saved_tensors, cotangents, ctx.block
        names = [name for name, p in block.model.named_parameters()]
        size = float(v.abs().max())
        if not math.isfinite(size):
            raise ValueError(
                f"the cotangent of the block's output must be finite, its largest entry is {size}"
            )
        if size == 0:
            return (
                None,
                torch.zeros_like(x),
                *(torch.zeros_like(p) for p in block.model.parameters()),
            )
        # Linear in the cotangent only in the limit: the estimate is taken at size 1, where beta
        # means what it says.
        x = x.detach().requires_grad_(ctx.needs_input_grad[1])
        with tracked(ctx.tracked):
            estimate = ESTIMATORS[block.estimator](
                block.model, x, lambda logits: v / size, block.settings
            )
        for doubt in estimate.doubts:
            warnings.warn(doubt, stacklevel=2)
        scale = size * len(x)  # estimators give the mean over the batch, a cotangent wants the sum
        found = {name: scale * g for name, g in estimate.gradients.items()}
        return (None, found.get(INPUT), *(found.get(name) for name in names))


class EquilibriumBlock(nn.Module):
    """x (B, ...) -> readout of the relaxed state (B, K), differentiable by an estimator of EqProp.

    Args: model, any EquilibriumModel; estimator, a name in `ESTIMATORS`; beta, relative to the
        largest entry of the cotangent; free_steps, nudged_steps, tol, solver as in
        `estimate_gradients`.
    Raises: TypeError, ValueError naming the argument; in backward, what the estimator raises,
        ValueError for a cotangent that is not finite, RuntimeError when x or a parameter was
        written to after the forward pass, or when the gradient is differentiated again. Warns in
        backward as `estimate_gradients` does.
    """

    def __init__(
        self,
        model: EquilibriumModel,
        estimator: str = "centered",
        beta: float = 0.03,
        **phases: Any,
    ) -> None:
        super().__init__()
        self.model = equilibrium_model(model)
        self.estimator = one_of("estimator", estimator, ESTIMATORS)
        self.settings = make_settings(self.model, beta, estimator=estimator, **phases)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K); the gradient is estimated when it is asked for."""
        self.model.check_batch(x)
        check_precision(x, self.estimator)
        logits: Tensor = _Relaxed.apply(self, x, *self.model.parameters())
        return logits

    def extra_repr(self) -> str:
        return f"estimator={self.estimator!r}, beta={self.settings.beta}"

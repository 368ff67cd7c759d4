"""EquilibriumBlock: an equilibrium model as a layer of an ordinary network.

    forward   z = readout(s*(x))
    backward  v = dL/dz  ->  dL/dtheta, dL/dx by the chosen estimator, with v in the place of dC/dz

Autograd runs outside the block, the estimator inside: no graph through the relaxation. dL/dx needs
no phase of its own, it is read off the same displacement through the drive; the free state of the
forward pass is where the backward pass begins.
Source: Nest and Ernoult 2024, arXiv:2409.03306 (energy-based blocks inside feed-forward networks).
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import INPUT, Estimate
from eqprop_lab.equilibrium.gradients import ESTIMATORS, make_settings, own_estimator
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.equilibrium.requirements import check_precision, equilibrium_model
from eqprop_lab.equilibrium.settings import free_phase
from eqprop_lab.equilibrium.sigma_vector import in_tracked, tracked
from eqprop_lab.equilibrium.state import State
from eqprop_lab.equilibrium.view import ModelView

# these relax from where their graph begins, not from the forward pass
UNROLLED = ("bptt", "truncated_bptt")
AGAIN = 3  # steps of the free phase of a backward pass: what its movements are measured by


class _Listener(threading.local):
    told: Callable[[Estimate], object] | None = None
    ends: list[float] | None = None  # None: this is no evaluation
    tol: float | None = None


_LISTENER = _Listener()


@contextmanager
def reporting(told: Callable[[Estimate], object]) -> Iterator[None]:
    """Blocks run in the body hand each estimate to `told`, instead of warning of what it doubts."""
    before = _LISTENER.told
    _LISTENER.told = told
    try:
        yield
    finally:
        _LISTENER.told = before


@contextmanager
def evaluating(tol: float | None = None) -> Iterator[list[float]]:
    """Blocks run in the body take the free phase of an evaluation: at least `model.max_steps`
    steps, or until `tol`. Gives the residuals at which those phases end, in their order.
    """
    before, ends = (_LISTENER.ends, _LISTENER.tol), list[float]()
    _LISTENER.ends, _LISTENER.tol = ends, tol
    try:
        yield ends
    finally:
        _LISTENER.ends, _LISTENER.tol = before


class _From(ModelView):
    """A model whose free phase begins at a state that it has reached before."""

    def __init__(self, model: EquilibriumModel, start: State) -> None:
        super().__init__(model)
        self.__dict__["start"] = start

    def initial_state(self, drive: State) -> State:
        start: State = self.__dict__["start"]
        return start


class _Relaxed(torch.autograd.Function):
    """The two directions above as one differentiable function of x and the parameters."""

    @staticmethod
    def forward(ctx: Any, block: EquilibriumBlock, x: Tensor, *parameters: Tensor) -> Tensor:
        # a backward pass may run in a thread of its own
        ctx.block, ctx.tracked, ctx.told = block, in_tracked(), _LISTENER.told
        # The parameters too: autograd says so then, when somebody has moved them before the
        # backward pass.
        ctx.save_for_backward(x, *parameters)
        settings = block.settings
        if _LISTENER.ends is not None:
            steps = max(settings.free_steps, block.model.max_steps)
            settings = replace(settings, free_steps=steps, tol=_LISTENER.tol)
        free = free_phase(block.model, x, settings)[1]
        ctx.free = free.state
        if _LISTENER.ends is not None:
            _LISTENER.ends.append(free.residual)
        if free.missed is not None and ctx.told is None:
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
        model, settings = block.model, block.settings
        if block.estimator not in UNROLLED:
            model, settings = _From(model, ctx.free), replace(settings, free_steps=AGAIN)
        with tracked(ctx.tracked):
            estimate = ESTIMATORS[block.estimator](model, x, lambda logits: v / size, settings)
        if ctx.told is not None:
            ctx.told(estimate)
        else:
            for doubt in estimate.doubts:
                warnings.warn(doubt, stacklevel=2)
        scale = size * len(v)  # estimators give the mean over the rows, a cotangent wants the sum
        found = {name: scale * g for name, g in estimate.gradients.items()}
        return (None, found.get(INPUT), *(found.get(name) for name in names))


class EquilibriumBlock(nn.Module):
    """x (B, ...) -> readout of the relaxed state (B, K), differentiable by an estimator of EqProp.

    Args: model, any EquilibriumModel; estimator, a name in `ESTIMATORS` (None: the model's own);
        beta, relative to the largest entry of the cotangent; free_steps, nudged_steps, tol, solver
        as in `estimate_gradients`. A trainer takes a block as it was built, but for what it is
        asked for itself.
    Raises: TypeError, ValueError naming the argument; in backward, what the estimator raises,
        ValueError for a cotangent that is not finite, RuntimeError when x or a parameter was
        written to after the forward pass, or when the gradient is differentiated again. Warns in
        backward as `estimate_gradients` does.
    """

    def __init__(
        self,
        model: EquilibriumModel,
        estimator: str | None = None,
        beta: float | str | None = None,
        **phases: Any,
    ) -> None:
        super().__init__()
        self.model = equilibrium_model(model)
        self.use(estimator, beta, **phases)

    def use(
        self, estimator: str | None = None, beta: float | str | None = None, **phases: Any
    ) -> None:
        """Take another estimator, with phases of its own. Arguments and errors as in the class."""
        own = {"estimator": own_estimator(self.model, estimator), "beta": beta, **phases}
        self._take(own)
        self.own = own

    def ask(self, **given: Any) -> None:
        """Take these arguments of `use` in the place of the block's own, for a training: what is
        left out is as the block was built. Errors as in the class.
        """
        self._take(self.own | given)

    def _take(self, asked: dict[str, Any]) -> None:
        estimator = own_estimator(self.model, asked["estimator"])
        self.settings = make_settings(self.model, **asked)
        self.estimator = estimator

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K); the gradient is estimated when it is asked for."""
        self.model.check_batch(x)
        check_precision(x, self.estimator)
        logits: Tensor = _Relaxed.apply(self, x, *self.model.parameters())
        return logits

    def extra_repr(self) -> str:
        return f"estimator={self.estimator!r}, beta={self.settings.beta}"

"""A model seen differently for the length of a phase: everything is the model's own but what a
subclass changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from eqprop_lab.equilibrium.contract import Contrasted, EquilibriumModel
from eqprop_lab.equilibrium.costs import CostGradient
from eqprop_lab.equilibrium.state import State

_SHARED = (
    "groups", "kappa", "readout_blocks", "affine_force", "output_dim", "estimator", "limit",
    "nudged_steps", "beta", "drive_with_graph", "starts_at_rest",
)  # fmt: skip


class ModelView(EquilibriumModel):
    """Hands every question on to `model`. It has no parameters of its own."""

    model: EquilibriumModel

    def __init__(self, model: EquilibriumModel) -> None:
        super().__init__(model.max_steps)
        # Not registered as a submodule: a view has no parameters of its own.
        self.__dict__["model"] = model
        for name in _SHARED:
            setattr(self, name, getattr(model, name))

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        with self.model.frozen_weights():
            yield

    def check_batch(self, x: Tensor) -> None:
        self.model.check_batch(x)

    def targets(self, x: Tensor, y: Tensor) -> Tensor:
        return self.model.targets(x, y)

    def tokens(self, x: Tensor) -> int | None:
        return self.model.tokens(x)

    def drive(self, x: Tensor) -> State:
        return self.model.drive(x)

    def initial_state(self, drive: State) -> State:
        return self.model.initial_state(drive)

    def force(self, state: State, drive: State) -> State:
        return self.model.force(state, drive)

    def activate(self, a: Tensor) -> Tensor:
        return self.model.activate(a)

    def activation_slope(self, state: State) -> State | None:
        return self.model.activation_slope(state)

    def activation_product(self, state: State) -> Callable[[State], State] | None:
        return self.model.activation_product(state)

    def readout(self, state: State) -> Tensor:
        return self.model.readout(state)

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return self.model.readout_vjp(state, cotangent)

    def contrasted(
        self,
        drive: State,
        free: State,
        cost_grad: CostGradient,
        betas: tuple[float, float],
        steps: int,
        tol: float | None = None,
    ) -> Contrasted | None:
        return self.model.contrasted(drive, free, cost_grad, betas, steps, tol)

    def parameter_gradients(
        self,
        x: Tensor,
        cotangent: State,
        state: State,
        free: State,
        error: Tensor,
        driven: Sequence[bool] = (True,),
    ) -> dict[str, Tensor]:
        return self.model.parameter_gradients(x, cotangent, state, free, error, driven)

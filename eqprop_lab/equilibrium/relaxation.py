"""Relaxation: iterate the step of a model until its state stops moving, and say honestly whether it did.

Picard:  s <- F(s)             damped:  s <- (1 - a) s + a F(s)
residual = max over samples of ||F(s) - s|| / ||F(s)||          (relative, the worst sample of the batch)
error bound:  ||s - s*|| <= L/(1-L) ||F(s) - s||                (L the certified contraction bound, free phase)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eqprop_lab.validation import one_of, positive_int, real

if TYPE_CHECKING:
    from eqprop_lab.models.base import EquilibriumModel, Nudge, State

SETTLED = 1e-4  # relative residual below which a relaxation without a tolerance of its own is called settled
SOLVERS = ("picard", "damped")


class ConvergenceWarning(UserWarning):
    """A relaxation stopped at max_steps before it reached the tolerance it was given."""


class DivergenceError(RuntimeError):
    """A relaxation produced values that are not finite."""


@dataclass(frozen=True)
class Equilibrium:
    """Where a relaxation ended.

    state: tuple of tensors, batch first. steps: steps taken. residual: relative, worst sample. converged: residual
    <= tol (<= 1e-4 where no tol was given). error_bound: certified l2 distance to the fixed point of the worst
    sample, inf where there is no certificate. trajectory: every state from the start on, if asked for.
    """

    state: State
    steps: int
    residual: float
    converged: bool
    error_bound: float = math.inf
    trajectory: list[State] | None = None


def _rows(state: State) -> Tensor:
    """Per-sample l2 norm over all blocks, (B,)."""
    return torch.stack([block.flatten(1).norm(dim=1) for block in state]).norm(dim=0)


def movement(new: State, old: State) -> tuple[float, float]:
    """(relative residual ||new - old|| / ||new||, absolute movement), both of the worst sample."""
    moved = _rows(tuple(a - b for a, b in zip(new, old, strict=True)))
    size = _rows(new).clamp_min(torch.finfo(moved.dtype).tiny)
    worst = torch.stack([(moved / size).max(), moved.max()]).tolist()
    return worst[0], worst[1]


def settle(
    model: EquilibriumModel,
    state: State,
    drive: State,
    *,
    max_steps: int,
    tol: float | None = None,
    nudge: Nudge | None = None,
    damping: float = 1.0,
    trajectory: bool = False,
    contraction: float = math.inf,
) -> Equilibrium:
    """Relax `state` under a given drive: the loop behind `relax` and every estimator. Gradients flow if they are
    enabled.

    Without `tol` exactly `max_steps` steps are taken and only the last one is measured. Raises DivergenceError.
    """
    path = [state] if trajectory else None
    # Two sets of buffers, used in turn: a model may write its next state into the one it does not read.
    lean = path is None and damping == 1.0 and not torch.is_grad_enabled()
    spare = [tuple(torch.empty_like(block) for block in state) for _ in range(2)] if lean else [None, None]
    residual, moved = math.inf, math.inf
    steps = 0
    with model.frozen_weights():
        while steps < max_steps:
            new = model.step(state, drive, nudge, spare[steps % 2])
            if damping != 1.0:
                new = tuple(torch.lerp(a, b, damping) for a, b in zip(state, new, strict=True))
            steps += 1
            if path is not None:
                path.append(new)
            last = steps == max_steps
            if tol is not None or last:
                with torch.no_grad():
                    residual, moved = (v / damping for v in movement(new, state))
                if not math.isfinite(residual):
                    raise DivergenceError(
                        f"the relaxation diverged: values that are not finite after {steps} steps"
                        + (" of a nudged phase; lower beta" if nudge is not None else "; is the weights' norm bounded?")
                    )
            state = new
            if tol is not None and residual <= tol:
                break
    reached = residual <= (SETTLED if tol is None else tol)
    if tol is not None and not reached:
        warnings.warn(
            f"relaxation not converged: residual {residual:.1e} > tol {tol:.1e} after {steps} steps",
            ConvergenceWarning,
            stacklevel=3,
        )
    bound = contraction / (1 - contraction) * moved if contraction < 1 and nudge is None else math.inf
    return Equilibrium(state, steps, residual, reached, bound, path)


def relax(
    model: EquilibriumModel,
    x: Tensor,
    max_steps: int | None = None,
    tol: float | None = None,
    solver: str = "picard",
    *,
    damping: float = 0.5,
    start: State | None = None,
    trajectory: bool = False,
    nudge: Nudge | None = None,
) -> Equilibrium:
    """Relax a model on a batch: s <- F(s) from `start` (default: the model's initial state) until residual <= tol.

    Args:
        x: inputs (B, ...). max_steps: at most this many steps (default `model.max_steps`).
        tol: relative tolerance; None takes exactly `max_steps` steps.
        solver: "picard", or "damped" with weight `damping` in (0, 1] on the new state.
        start: a state to start from; trajectory: keep every state (memory grows with the steps).
        nudge: state -> what is subtracted inside the activation, block by block (see `phases.CostNudge`).
    Returns: Equilibrium; its residual is always measured. No graph is kept.
    Raises: TypeError, ValueError for bad arguments; DivergenceError. Warns ConvergenceWarning when tol is missed.
    """
    steps = model.max_steps if max_steps is None else positive_int("max_steps", max_steps)
    if tol is not None:
        tol = real("tol", tol, above=0.0)
    weight = real("damping", damping, above=0.0, at_most=1.0) if one_of("solver", solver, SOLVERS) == "damped" else 1.0
    model.check_batch(x)
    with torch.no_grad():
        drive = model.drive(x)
        first = model.initial_state(drive)
        if start is not None:
            shapes = [tuple(block.shape) for block in start], [tuple(block.shape) for block in first]
            if shapes[0] != shapes[1]:
                raise ValueError(f"start must be a state with block shapes {shapes[1]}, got {shapes[0]}")
            first = start
        return settle(
            model,
            first,
            drive,
            max_steps=steps,
            tol=tol,
            nudge=nudge,
            damping=weight,
            trajectory=trajectory,
            contraction=model.contraction_bound(),
        )

"""Relaxation: iterate the step of a model until its state stops moving, and say honestly whether it
did.

s <- F(s), or what a solver of `solvers` makes of it
residual = max over samples of ||F(s) - s|| / ||F(s)||          (relative, the worst sample of the batch)
error bound:  ||s - s*|| <= c (L ||F(s) - s|| + d)/(1-L)  (L the certified contraction bound of the free phase, c the
                                                         condition of the metric it holds in, 1 for
                                                         l2)
d = 8 eps (||s|| + ||u||) is allowed for the rounding of a step and of its drive u, in the dtype of
the states
expected error of what is read off the state, r(s):  q/(1-q) ||r(F(s)) - r(s)|| / ||r(F(s))||      (whole batch, worst
                                                         block; q the rate at which the last
                                                         movements shrank)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eqprop_lab.equilibrium.over_relaxation import OverRelaxed
from eqprop_lab.equilibrium.solvers import SOLVERS, Chebyshev, Damped, Solver, make_solver, rows
from eqprop_lab.validation import one_of, positive_int, real, switch

if TYPE_CHECKING:
    from eqprop_lab.equilibrium.contract import EquilibriumModel, Nudge, State

SLOWEST = 0.999  # rate beyond which a phase is not said to get anywhere
NOISE = 8.0  # movements below this many roundings of the state are taken for rounding
# relative residual below which a relaxation without a tolerance of its own is called settled
SETTLED = 1e-4
ROUNDING = 8  # units of the last place, relative to states and drive, that a step may be off by


class ConvergenceWarning(UserWarning):
    """A relaxation stopped at max_steps before it reached the tolerance it was given."""


class RoundingWarning(UserWarning):
    """What an estimator divides by beta is so small that rounding is a part of it that matters."""


class DivergenceError(RuntimeError):
    """A relaxation produced values that are not finite."""


@dataclass(frozen=True)
class Equilibrium:
    """Where a relaxation ended.

    state: tuple of tensors, batch first. steps: steps taken. residual: relative, worst sample.
    converged: residual <= tol (<= 1e-4 without one). error_bound: certified l2 distance to the
    fixed point of the worst sample, inf where there is no certificate. If asked for: trajectory,
    every state from the start on; sample_steps, (B,) int64, after how many steps each sample
    reached tol. radius: (B,), of the step's Jacobian, where the solver measured it.
    change, error: last relative movement of what is read off the state, and how far from its end it
    is expected to be (both of the whole batch, worst block; see the module). coarse: size of the
    state over what is read off it.
    missed: says that tol was missed, None where it was not.
    """

    state: State
    steps: int
    residual: float
    converged: bool
    error_bound: float = math.inf
    trajectory: list[State] | None = None
    sample_steps: Tensor | None = None
    radius: Tensor | None = None
    change: float = math.nan
    error: float = math.nan
    coarse: float = 1.0
    missed: str | None = None


def movement(new: State, old: State) -> tuple[Tensor, Tensor]:
    """(relative residual ||new - old|| / ||new||, absolute movement ||new - old||), per sample: two
    tensors (B,).
    """
    moved = rows(tuple(a - b for a, b in zip(new, old, strict=True)))
    return moved / rows(new).clamp_min(torch.finfo(moved.dtype).tiny), moved


def block_norms(*states: State) -> Any:
    """The norm of each block over the whole batch: one list of floats, or one for each state."""
    found = torch.stack(
        [torch.stack([torch.linalg.vector_norm(block) for block in s]) for s in states]
    ).tolist()
    return found if len(states) > 1 else found[0]


def relative_change(moved: Sequence[float], size: Sequence[float], steps: int) -> float:
    """Movement over size, the worst block. A block that is zero counts as 1 where nothing can have
    reached it.
    """
    lost = unreached(size, steps)
    return max(m / s if s > 0 else float(m > 0 or lost) for m, s in zip(moved, size, strict=True))


def unreached(size: Sequence[float], steps: int) -> bool:
    """Whether a block is zero only for want of steps: each carries every change one block further
    at least.
    """
    return 0.0 in size and steps < len(size)


@torch.no_grad()
def _reading(
    image: State,
    state: State,
    read: Callable[[State], State] | None,
    pace: Sequence[tuple[int, float]],
    dtype: torch.dtype,
    solver: Solver | None,
) -> tuple[float, float, float]:
    """(change, error, coarse) of an Equilibrium that ends with this step."""
    new, old = (image, state) if read is None else (read(image), read(state))
    difference = tuple(n - o for n, o in zip(new, old, strict=True))
    moved, size, whole = block_norms(difference, new, image)
    copies = math.sqrt(len(image[0]) / len(new[0]))  # phases stacked along the batch
    change = relative_change(moved, size, pace[-1][0])
    coarse = max(w / copies / s if s > 0 else 0.0 for w, s in zip(whole, size, strict=True))
    noise = NOISE * torch.finfo(dtype).eps * math.hypot(*whole)
    error = 1.0 if unreached(size, pace[-1][0]) else expected_error(change, pace, noise, solver)
    return change, error, coarse


def expected_error(
    change: float, pace: Sequence[tuple[int, float]], noise: float, solver: Solver | None = None
) -> float:
    """change q/(1-q): what plain steps, which shrink by q each, still have before them; q = 1/2 for
    the first step.

    pace: (step, movement), the last one at the end; below `noise` a movement is rounding, and
    nothing is left to come. A damped step shrinks by 1 - weight (1 - q). The movements of a
    Chebyshev relaxation may rise: q <= its radius.
    """
    step, last = pace[-1]
    earlier = [point for point in pace if point[0] <= step - 2] or list(pace[:-1])
    if last <= noise:
        return 0.0
    if not earlier:
        return change
    begin, before = earlier[-1]
    seen = (last / before) ** (1 / (step - begin)) if before > 0 else 1.0
    weight = solver.weight if isinstance(solver, Damped) else 1.0
    slowest = (
        float(solver.radius.max())
        if isinstance(solver, Chebyshev) and solver.radius.numel()
        else SLOWEST
    )
    rate = min(max(1 - (1 - seen) / weight, 0.0), slowest, SLOWEST)
    return change * rate / (1 - rate)


def settle(
    model: EquilibriumModel,
    state: State,
    drive: State,
    *,
    max_steps: int,
    tol: float | None = None,
    nudge: Nudge | None = None,
    solver: Solver | None = None,
    trajectory: bool = False,
    per_sample: bool = False,
    contraction: float = math.inf,
    read: Callable[[State], State] | None = None,
    warn: bool = True,
) -> Equilibrium:
    """Relax `state` under a given drive: the loop behind `relax` and all estimators. Gradients flow
    if enabled.

    Without `tol` exactly `max_steps` steps are taken and only the last one is measured (and one two
    steps before it, for the rate). The state returned is always an image F(s), whatever the solver,
    so that its residual and error bound mean the same. read: what `change` and `error` are about,
    of a state (None: the state). warn: False leaves a missed tolerance to the caller, in `missed`.
    Raises DivergenceError.
    """
    path = [state] if trajectory else None
    # Three sets of buffers, used in turn: the state, the one before it (solvers look back) and the
    # one being written.
    lean = path is None and not torch.is_grad_enabled()
    spare = (
        [tuple(torch.empty_like(block) for block in state) for _ in range(3)]
        if lean
        else [None] * 3
    )
    residual, moved, steps, reached = math.inf, math.inf, 0, False
    pace: list[tuple[int, float]] = []
    change = error = math.nan
    coarse = 1.0
    sample_steps = torch.full((len(state[0]),), max_steps, device="cpu") if per_sample else None
    with model.frozen_weights():
        while steps < max_steps and not reached:
            relaxed = (
                solver
                if isinstance(solver, OverRelaxed) and solver.omega > 1 and steps + 1 < max_steps
                else None
            )
            if relaxed is None:
                image = model.step(state, drive, nudge, spare[steps % 3])
            else:
                image = relaxed.sweep(model, state, drive, nudge)
            steps += 1
            if tol is not None or steps == max_steps:
                with torch.no_grad():
                    relative, absolute = movement(image, state)
                    residual, moved, total = torch.stack(
                        [relative.max(), absolute.max(), absolute.norm()]
                    ).tolist()
                pace.append((steps, total))
                if not math.isfinite(residual):
                    raise DivergenceError(_diverged(steps, nudge is not None))
                reached = residual <= (SETTLED if tol is None else tol)
                if relaxed is not None:
                    relaxed.watch(moved)
                    if reached:  # what is returned is an image of the step itself
                        relaxed.omega, reached = 1.0, False
                if sample_steps is not None and tol is not None:
                    sample_steps[(relative.cpu() <= tol) & (sample_steps == max_steps)] = steps
            elif steps == max(1, max_steps - 2):  # a second point, for the rate
                with torch.no_grad():
                    pace.append((steps, float(movement(image, state)[1].norm())))
            if reached or steps == max_steps:
                change, error, coarse = _reading(
                    image, state, read, pace, model.products or image[0].dtype, solver
                )
            state = (
                image
                if solver is None or reached or steps == max_steps
                else solver.advance(state, image)
            )
            if path is not None:
                path.append(state)
    missed = None
    if tol is not None and not reached:
        missed = (
            f"relaxation not converged: residual {residual:.1e} > tol {tol:.1e} after {steps} steps"
        )
        if warn:
            warnings.warn(missed, ConvergenceWarning, stacklevel=3)
    certified = contraction < 1 and nudge is None
    bound = _bound(model, contraction, moved, state, drive) if certified else math.inf
    radius = solver.radius if isinstance(solver, Chebyshev) and solver.radius.numel() else None
    told = {"change": change, "error": error, "coarse": coarse, "missed": missed}
    return Equilibrium(state, steps, residual, reached, bound, path, sample_steps, radius, **told)  # type: ignore[arg-type]


@torch.no_grad()
def _bound(
    model: EquilibriumModel, contraction: float, moved: float, state: State, drive: State
) -> float:
    size = float(rows(state).max()) + float(rows(drive).max())
    rounding = ROUNDING * torch.finfo(state[0].dtype).eps * size
    return model.metric_condition * (contraction * moved + rounding) / (1 - contraction)


def _diverged(steps: int, nudged: bool) -> str:
    reason = " of a nudged phase; lower beta" if nudged else "; is the weights' norm bounded?"
    return f"the relaxation diverged: values that are not finite after {steps} steps{reason}"


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
    per_sample: bool = False,
    nudge: Nudge | None = None,
) -> Equilibrium:
    """Relax a model on a batch: s <- F(s) from `start` (default: the model's initial state) until
    residual <= tol.

    Args:
        x: inputs (B, ...). max_steps: at most this many steps (default `model.max_steps`).
        tol: relative tolerance; None takes exactly `max_steps` steps.
        solver: "picard", "damped" (weight `damping` in (0, 1] on the new state), "chebyshev"
            (symmetric couplings) or "over_relaxed" (models that move in groups: red-black).
        start: a state to start from; trajectory: keep every state (memory grows with the steps);
            per_sample: count the steps each sample needed for `tol`.
        nudge: state -> what is subtracted inside the activation, block by block (see
            `nudges.CostNudge`).
    Returns: Equilibrium; its residual is always measured. No graph is kept.
    Raises: TypeError, ValueError for bad arguments; DivergenceError. Warns ConvergenceWarning when
    tol is missed.
    """
    steps = model.max_steps if max_steps is None else positive_int("max_steps", max_steps)
    if tol is not None:
        tol = real("tol", tol, above=0.0)
    method = make_solver(
        one_of("solver", solver, SOLVERS), real("damping", damping, above=0.0, at_most=1.0)
    )
    trajectory, per_sample = switch("trajectory", trajectory), switch("per_sample", per_sample)
    model.check_batch(x)
    with torch.no_grad():
        drive = model.drive(x)
        first = model.initial_state(drive)
        if start is not None:
            shapes = (
                [tuple(block.shape) for block in start],
                [tuple(block.shape) for block in first],
            )
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"start must be a state with block shapes {shapes[1]}, got {shapes[0]}"
                )
            first = start
        return settle(
            model,
            first,
            drive,
            max_steps=steps,
            tol=tol,
            nudge=nudge,
            solver=method,
            trajectory=trajectory,
            per_sample=per_sample,
            contraction=model.contraction_bound(),
        )

"""Relaxation: iterate the step of a model until its state stops moving, and say honestly whether it
did.

    s <- F(s), or what a solver of `solvers` makes of it
    residual        max over samples of ||F(s) - s|| / ||F(s)||
    error bound     ||s - s*|| <= c (L ||F(s) - s|| + d)/(1-L)
    expected error  q/(1-q) ||r(F(s)) - r(s)|| / ||r(F(s))||         whole batch, worst block

L is the certified contraction bound of the free phase, c the condition of the metric it holds in (1
for l2); d = 8 eps (||s|| + ||u||) is allowed for the rounding of a step and of its drive u, in the
dtype of the states. r(s) is what is read off the state, q the rate at which the last movements
shrank.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from eqprop_lab.equilibrium.causal import CausalHold
from eqprop_lab.equilibrium.solvers import PICARD, SOLVERS, Solver, make_solver, rows
from eqprop_lab.equilibrium.state import Nudge, Relaxable, State, Steppable, moving
from eqprop_lab.validation import one_of, positive_int, real, switch

NOISE = 8.0  # movements below this many roundings of the state are taken for rounding
# relative residual below which a relaxation without a tolerance of its own is called settled
SETTLED = 1e-4
STEPPED = ("nudge", "trajectory", "per_sample")  # what a free phase without a step cannot have
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
    fixed point of the worst sample, inf where there is no certificate. moved: of the last step,
    absolute, worst sample. If asked for: trajectory, every state from the start on; sample_steps,
    (B,) int64, after how many steps each sample reached tol. radius: (B,), of the step's Jacobian,
    where the solver measured it.
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
    moved: float = math.inf


def movement(new: State, old: State) -> tuple[Tensor, Tensor]:
    """(relative residual ||new - old|| / ||new||, absolute movement ||new - old||), per sample: two
    tensors (B,).
    """
    return relative(*lengths(new, old))


def lengths(new: State, old: State) -> tuple[Tensor, Tensor]:
    """||new - old|| and ||new||, per block and sample: two tensors (blocks, B)."""
    moved = [rows((a - b,)) for a, b in zip(new, old, strict=True)]
    return _together(moved), _together([rows((block,)) for block in new])


def relative(moved: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """`movement` from `lengths`."""
    if moved.shape[0] == 1:
        moved, size = moved[0], size[0]
    else:
        moved, size = vector_norm(moved, dim=0), vector_norm(size, dim=0)
    return moved / size.clamp_min(torch.finfo(moved.dtype).tiny), moved


@torch.no_grad()
def _reading(
    image: State,
    state: State,
    seen: tuple[Tensor, Tensor],
    read: Callable[[State], State] | None,
    pace: Sequence[tuple[int, float]],
    dtype: torch.dtype,
    solver: Solver,
    held: float = 1.0,
) -> tuple[float, float, float]:
    """(change, error, coarse) of an Equilibrium that ends with this step: of the worst block.

    seen: their `lengths`. held: the last movements of all rows over those that still moved.
    """
    parts = list(vector_norm(torch.stack(seen), dim=2))
    new = image
    if read is not None:
        new = read(image)
        parts += _together(_moved(new, read(state))), _together(_lengths(new))
    moved, size = parts[-2], parts[-1]
    moved, size, whole = torch.stack([moved, size, parts[1]]).tolist()
    # A block may be zero only for want of steps: each carries every change one block further at
    # least.
    unreached = 0.0 in size and pace[-1][0] < len(size)
    shares = zip(moved, size, strict=True)
    change = held * max(m / s if s > 0 else float(m > 0 or unreached) for m, s in shares)
    copies = math.sqrt(image[0].shape[0] / new[0].shape[0])  # phases stacked along the batch
    coarse = max(w / copies / s if s > 0 else 0.0 for w, s in zip(whole, size, strict=True))
    noise = NOISE * torch.finfo(dtype).eps * math.hypot(*whole)
    error = 1.0 if unreached else expected_error(change, pace, noise, solver)
    return change, error, coarse


def expected_error(
    change: float, pace: Sequence[tuple[int, float]], noise: float, solver: Solver = PICARD
) -> float:
    """change q/(1-q): what plain steps, which shrink by q each, still have before them; q = 1/2 for
    the first step.

    pace: (step, movement), the last one at the end; below `noise` a movement is rounding, and
    nothing is left to come. A step of which only a share is taken shrinks by 1 - share (1 - q); the
    solver also says what q cannot exceed.
    """
    step, last = pace[-1]
    earlier = [point for point in pace if point[0] <= step - 2] or list(pace[:-1])
    if last <= noise:
        return 0.0
    if not earlier:
        return change
    begin, before = earlier[-1]
    seen = (last / before) ** (1 / (step - begin)) if before > 0 else 1.0
    rate = min(max(1 - (1 - seen) / solver.share, 0.0), solver.slowest)
    return change * rate / (1 - rate)


def _moved(new: State, old: State) -> list[Tensor]:
    """||new - old|| of every block, whole batch."""
    return _lengths(tuple(n - o for n, o in zip(new, old, strict=True)))


def _lengths(state: State) -> list[Tensor]:
    return [vector_norm(block) for block in state]


def _together(parts: Sequence[Tensor]) -> Tensor:
    """One tensor (blocks, ...), without a copy of a single one."""
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def _walked(
    model: Steppable, state: State, drive: State, nudge: Nudge | None, count: int,
    spare: list[State | None],
) -> tuple[State, int, list[tuple[int, float]]]:  # fmt: skip
    """The state after the first steps, how many they were and the pace at the last but one: `count`
    where the model has a quicker way than one by one (`walk`), else none.
    """
    walk = getattr(model, "walk", None)
    buffers = spare[(count + 1) % 3], spare[count % 3]
    found = None
    if walk is not None and count >= 2 and buffers[0] is not None:
        found = walk(state, drive, nudge, count, buffers)
    return (state, 0, []) if found is None else (found[0], count, [(count - 1, found[1])])


def _buffers(state: State, wanted: bool) -> list[State | None]:
    """Three sets of buffers, used in turn: the state, the one before it (solvers look back) and the
    one being written.
    """
    return [tuple(torch.empty_like(block) for block in state) if wanted else None for _ in range(3)]


def settle(
    model: Steppable,
    state: State,
    drive: State,
    *,
    max_steps: int,
    tol: float | None = None,
    nudge: Nudge | None = None,
    solver: Solver = PICARD,
    trajectory: bool = False,
    per_sample: bool = False,
    read: Callable[[State], State] | None = None,
    name: str = "relaxation",
    tokens: int | None = None,
) -> Equilibrium:
    """Relax `state` under a given drive: the loop behind every phase. Gradients flow if enabled.

    Without `tol` exactly `max_steps` steps are taken and only the last one is measured (and one two
    steps before it, for the rate). The state returned is always an image F(s), whatever the solver,
    so that its residual and error bound mean the same. read: what `change` and `error` are about,
    of a state (None: the state). A tolerance that is missed is said in `missed`, where the
    relaxation has this name. tokens: rows of a sample in causal order (see `CausalHold`).
    Raises DivergenceError.
    """
    hold = CausalHold(tokens, tol) if tokens is not None and tol is not None else None
    path = [state] if trajectory else None
    spare = _buffers(state, wanted=not trajectory and not torch.is_grad_enabled())
    pace: list[tuple[int, float]] = []
    residual, moved, reached, told = math.inf, math.inf, False, (math.nan, math.nan, 1.0)
    sample_steps = torch.full((len(state[0]),), max_steps, device="cpu") if per_sample else None
    # A step into a buffer may round more coarsely. Which is the last, a tolerance decides later.
    exact = tol is not None and nudge is not None
    with model.frozen_weights():
        walked = 0
        if solver is PICARD and tol is None and path is None:
            state, walked, pace = _walked(model, state, drive, nudge, max_steps - 1, spare)
        for step in range(walked + 1, max_steps + 1):
            last = step == max_steps
            out = None if exact or last else spare[step % 3]
            image = solver.sweep(model, state, drive, nudge, out, last=last)
            if hold is not None:
                image = hold.keep(image, state)
            if tol is not None or last:
                with torch.no_grad():
                    seen = lengths(image, state)
                    share, absolute = relative(*seen)
                    if hold is not None:
                        share, absolute = hold.watch(share, absolute)
                    residual, moved, total = torch.stack(
                        [share.max(), absolute.max(), vector_norm(absolute)]
                    ).tolist()
                if not math.isfinite(residual):
                    raise DivergenceError(_diverged(name, step, nudge is not None))
                pace.append((step, total))
                reached = solver.watch(moved, residual <= (SETTLED if tol is None else tol))
                if sample_steps is not None and tol is not None:
                    sample_steps[(share.cpu() <= tol) & (sample_steps == max_steps)] = step
            elif step == max(1, max_steps - 2):  # a second point, for the rate
                with torch.no_grad():
                    pace.append((step, math.hypot(*_together(_moved(image, state)).tolist())))
            ends = reached or last
            if ends:
                dtype = model.products or image[0].dtype
                held = 1.0
                if hold is not None:
                    pace, held = hold.pace(), hold.share()
                told = _reading(image, state, seen, read, pace, dtype, solver, held)
            before, state = image, image if ends else solver.advance(state, image)
            if hold is not None and not ends:
                state = hold.keep(state, before)
            if path is not None:
                path.append(state)
            if ends:
                break
    missed = None
    if tol is not None and not reached:
        missed = f"{name} not converged: residual {residual:.1e} > tol {tol:.1e} after {step} steps"
    return Equilibrium(
        state,
        step,
        residual,
        reached,
        math.inf,
        path,
        sample_steps,
        solver.radius,
        *told,
        missed,
        moved,
    )


def _diverged(name: str, steps: int, nudged: bool) -> str:
    reason = " of a nudged phase; lower beta" if nudged else "; is the weights' norm bounded?"
    return f"the {name} diverged: values that are not finite after {steps} steps{reason}"


def _at_rest(state: State) -> Equilibrium:
    """A state that is the free equilibrium as it stands. Raises DivergenceError."""
    # an export knows no values
    if not torch.compiler.is_exporting() and not math.isfinite(float(state[-1].detach().sum())):
        if not bool(torch.isfinite(state[-1]).all()):
            raise DivergenceError(_diverged("free phase", 0, nudged=False))
    return Equilibrium(state, 0, 0.0, True, change=0.0, error=0.0, moved=0.0)


def free_state(
    model: Relaxable,
    x: Tensor,
    *,
    start: State | None = None,
    drive: State | None = None,
    **how: Any,
) -> tuple[State, Equilibrium]:
    """(drive, where the state of a batch settles), from `start` or the model's own initial state.

    drive: of x, where it is known. how: as `settle` takes it. x is not looked at, and gradients
    flow if enabled.
    Raises ValueError for a start that is no state of this batch; DivergenceError.
    """
    drive = model.drive(x) if drive is None else drive
    first = model.initial_state(drive)
    if model.starts_at_rest and start is None and not any(map(how.get, STEPPED)):
        return drive, _at_rest(first)
    if how.get("nudge") is None:
        how["tokens"] = model.tokens(x)
    if start is not None:
        given, wanted = ([tuple(block.shape) for block in state] for state in (start, first))
        if given != wanted:
            raise ValueError(f"start must be a state with block shapes {wanted}, got {given}")
        first = moving(model.groups, start, first)
    return drive, settle(model, first, drive, **how)


def _bound(model: Relaxable, end: Equilibrium, drive: State) -> float:
    """The certified distance of the module, inf without a certificate."""
    contraction = model.contraction_bound()
    if not contraction < 1 or math.isinf(model.metric_condition):
        return math.inf
    # block by block: those of a drive need not have the rows of the state
    size = float(rows(end.state).max()) + sum(float(rows((block,)).max()) for block in drive)
    rounding = ROUNDING * torch.finfo(end.state[0].dtype).eps * size
    return model.metric_condition * (contraction * end.moved + rounding) / (1 - contraction)


@torch.no_grad()
def relaxed(model: Relaxable, x: Tensor, max_steps: int, tol: float) -> Equilibrium:
    """`relax` by plain steps, for programs: arguments are not looked at, and a tolerance that is
    missed is said in `missed` alone.
    """
    drive, end = free_state(model, x, max_steps=max_steps, tol=tol)
    return replace(end, error_bound=_bound(model, end, drive))


def relax(
    model: Relaxable,
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
        drive, end = free_state(
            model,
            x,
            start=start,
            max_steps=steps,
            tol=tol,
            nudge=nudge,
            solver=method,
            trajectory=trajectory,
            per_sample=per_sample,
        )
        if nudge is None:
            end = replace(end, error_bound=_bound(model, end, drive))
    if end.missed is not None:
        warnings.warn(end.missed, ConvergenceWarning, stacklevel=2)
    return end

"""The three relaxations of a kernel, in place: free, nudged both ways, and linear.

    free       s <- f(s W' + u')
    nudged     s <- f([s, e] [W'; -beta W_out'] + u'),   e = +-dC/dz, both signs in one batch of 2B
    response   v <- n (v W) - n g,   n = 1 - h^2,   g = dC/dh

W' and u' hold the numbers of the units (see `units`). The slope of the cost lies beside the state,
so that force and nudge are one product. Inside the loops nothing is allocated on NumPy, and nothing
waits for a device: movements are measured at two steps and read when all phases are over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eqprop_lab.kernel.arrays import Array
from eqprop_lab.kernel.costs import Targets
from eqprop_lab.kernel.operations import Operations
from eqprop_lab.kernel.units import Steps, Units
from eqprop_lab.kernel.workspace import Buffers


@dataclass(frozen=True)
class Settled:
    """How a phase of so many steps ended.

    residual: last movement relative to the state, worst sample. change: that of what is read off
    the state (the state, or the difference of two phases), whole batch; coarse: size of the state
    over the size of what is read. size: of the state. pace: (step, movement) of the whole batch,
    the last one at the end.
    """

    steps: int
    residual: float
    change: float
    coarse: float
    size: float
    pace: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Ending:
    """How a phase ended, not read yet: numbers on its device. copies: of the state, in the size."""

    steps: int
    numbers: Array
    copies: int = 1


def read(*endings: Ending) -> list[Settled]:
    """What the numbers say, for all phases at once: a device is waited for here."""
    xp_numbers = [ending.numbers.tolist() for ending in endings]
    return [_settled(ending, found) for ending, found in zip(endings, xp_numbers, strict=True)]


def early_step(steps: int) -> int:
    """Where a movement is measured besides that of the last step, for the rate; 0: nowhere."""
    return max(1, steps - 2) if steps > 1 else 0


def scaled_drive(work: Buffers, units: Units, weights: Array, xp: Any) -> None:
    """drive <- gain (u + offset 1 W)."""
    xp.multiply(work.u, units.gain, out=work.drive)
    if units.offset:
        xp.add(work.drive, units.gain * units.offset * weights.sum(0), out=work.drive)


def free_phase(work: Buffers, weights: Array, step: Steps, steps: int) -> Ending:
    """From tanh(u) to the free state h, left in `work.free`; weights: W'."""
    xp, ops, units = step.xp, step.ops, step.units
    now, then = work.free, work.other
    xp.multiply(work.u, units.gain, out=now)
    units.apply(xp, now)
    early, seen = None, early_step(steps)
    for number in range(1, steps + 1):
        ops.product(now, weights, then)
        step.activate(then, work.drive, then)
        now, then = then, now
        if number == seen:
            early = _moved(now, then, work, step)
    last = _moved(now, then, work, step)
    work.free, work.other = now, then
    _as_tanh(now, units, xp)
    return _ending(steps, early, last, ops.row_squares(now), ops)


def _moved(now: Array, then: Array, work: Buffers, step: Steps) -> Array:
    """||h_now - h_then||^2 per row; h_now - h_then stays in `work.spare`."""
    xp, width = step.xp, step.units.width
    difference = work.spare[: len(now)]
    xp.subtract(now, then, out=difference)
    if width != 1:
        xp.multiply(difference, width, out=difference)
    return step.ops.row_squares(difference)


def _as_units(state: Array, units: Units, xp: Any) -> None:
    """h -> s, in place."""
    if units.offset:
        xp.subtract(state, units.offset, out=state)
    if units.width != 1:
        xp.divide(state, units.width, out=state)


def _as_tanh(state: Array, units: Units, xp: Any) -> None:
    """s -> h, in place."""
    if units.width != 1:
        xp.multiply(state, units.width, out=state)
        xp.add(state, units.offset, out=state)


def nudged_phases(
    work: Buffers, slope: Array, coupling: Array, readout: tuple[Array, Array], targets: Targets,
    step: Steps, steps: int,
) -> Ending:  # fmt: skip
    """From the free state to the states at +beta and -beta, left in `work.pair`.

    slope: dC/dz at the free state (K, B), which may lie in `work.logits`; coupling: [W'; -beta
    W_out']; readout: the weights (K, H) and the bias (K,) that read logits off s. Leaves
    h_minus - h_plus in `work.other`.
    """
    xp, ops, units = step.xp, step.ops, step.units
    now, then = work.pair, work.then
    xp.copyto(now.both, work.free)
    _as_units(now.both, units, xp)
    _first_forces(work, slope, coupling, step)
    early, seen = None, early_step(steps)
    for number in range(1, steps + 1):
        if number > 1:
            ops.product(readout[0], now.state.T, work.logits)
            ops.nudged_slopes(targets, readout[1], now, work)
            # Through an array without gaps: NumPy takes three times as long over short rows.
            ops.product(now.whole, coupling, work.spare)
        step.activate(work.spare_both, work.drive, then.both, last=number == steps)
        now, then = then, now
        if number == seen:
            early = _moved(now.state, then.state, work, step)
    last = _moved(now.state, then.state, work, step)
    work.pair, work.then = now, then
    _as_tanh(now.state, units, xp)
    size = ops.row_squares(now.state)
    plus, minus = work.spare[: work.batch], work.spare[work.batch :]
    xp.subtract(minus, plus, out=work.other)
    moved = ops.square(work.other) / 4
    xp.subtract(now.both[1], now.both[0], out=work.other)
    return _ending(steps, early, last, size, ops, (moved, ops.square(work.other) / 4), copies=2)


def _first_forces(work: Buffers, slope: Array, coupling: Array, step: Steps) -> None:
    """W' s -+ beta W_out'^T e of both phases into `work.spare`: they begin at one state, so that
    half the product does.
    """
    xp, ops, hidden = step.xp, step.ops, work.free.shape[1]
    plus, minus = work.spare_both
    ops.product(work.pair.state[: work.batch], coupling[:hidden], plus)
    ops.product(slope.T, coupling[hidden:], work.other)
    xp.subtract(plus, work.other, out=minus)
    xp.add(plus, work.other, out=plus)


def linear_response(work: Buffers, weights: Array, slope: Array, step: Steps, steps: int) -> Ending:
    """v of an infinitesimal nudge; -v is left in `work.other`. slope: dC/dh at `work.free` (B, H).

    slope is overwritten.
    """
    xp, ops = step.xp, step.ops
    gain, source, now, then = work.drive, slope, work.u, work.other
    xp.multiply(work.free, work.free, out=gain)
    xp.subtract(1, gain, out=gain)
    xp.multiply(source, gain, out=source)
    xp.negative(source, out=source)
    xp.copyto(now, source)
    early, seen = None, early_step(steps)
    for number in range(1, steps + 1):
        ops.product(now, weights, then)
        step.scale(then, gain, source)
        now, then = then, now
        if number == seen:
            early = _apart(now, then, ops)
    last = _apart(now, then, ops)
    size = ops.row_squares(now)
    xp.negative(now, out=work.other)
    return _ending(steps, early, last, size, ops)


def _apart(now: Array, then: Array, ops: Operations) -> Array:
    """||now - then||^2 per row; overwrites `then`, whose turn it is to be written."""
    ops.xp.subtract(now, then, out=then)
    return ops.row_squares(then)


def _ending(
    steps: int, early: Array | None, last: Array, size: Array, ops: Operations,
    of_read: tuple[Array, Array] | None = None, copies: int = 1,
) -> Ending:  # fmt: skip
    """Squares per row (and of what is read: of its movement, of itself) as a report."""
    worst = ops.largest_ratio(last, size)
    moved, whole = last.sum(), size.sum()
    pair = (moved, whole) if of_read is None else of_read
    first = [] if early is None else [early.sum()]
    return Ending(steps, ops.gathered([worst, moved, whole, *pair, *first]), copies)


def _settled(ending: Ending, squares: list[float]) -> Settled:
    worst, moved, whole, change, length, *before = (square**0.5 for square in squares)
    steps = ending.steps
    pace = (*((early_step(steps), point) for point in before), (steps, moved))
    return Settled(
        steps,
        worst,
        change / length if length > 0 else float(change > 0),
        (whole / ending.copies**0.5) / length if length > 0 else 0.0,
        whole,
        pace,
    )

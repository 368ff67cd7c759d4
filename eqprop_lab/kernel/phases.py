"""The three relaxations of a kernel, in place: free, nudged both ways, and linear.

    free       s <- f(s W' + u')
    nudged     s <- f([s, e] [W'; -beta W_out'] + u'),   e = +-dC/dz, both signs in one batch of 2B
    response   v <- n (v W) - n g,   n = 1 - h^2,   g = dC/dh

W' and u' hold the numbers of the units (see `units`). The slope of the cost lies beside the state,
so that force and nudge are one product. Inside the loops nothing is allocated on NumPy, and nothing
waits for a device: movements are measured at two steps and read when the loop is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eqprop_lab.kernel.arrays import Array
from eqprop_lab.kernel.costs import Targets, into_slope
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


def early_step(steps: int) -> int:
    """Where a movement is measured besides that of the last step, for the rate; 0: nowhere."""
    return max(1, steps - 2) if steps > 1 else 0


def scaled_drive(work: Buffers, units: Units, weights: Array, xp: Any) -> None:
    """drive <- gain (u + offset 1 W)."""
    xp.multiply(work.u, units.gain, out=work.drive)
    if units.offset:
        xp.add(work.drive, units.gain * units.offset * weights.sum(0), out=work.drive)


def free_phase(work: Buffers, weights: Array, step: Steps, steps: int) -> Settled:
    """From tanh(u) to the free state h, left in `work.free`; weights: W'."""
    xp, units = step.xp, step.units
    now, then = work.free, work.other
    xp.multiply(work.u, units.gain, out=now)
    units.apply(xp, now)
    early = None
    for number in range(1, steps + 1):
        xp.matmul(now, weights, out=then)
        step.activate(then, work.drive)
        now, then = then, now
        if number == early_step(steps):
            early = _moved(now, then, work, units, xp)
    last = _moved(now, then, work, units, xp)
    work.free, work.other = now, then
    _as_tanh(now, units, xp)
    size = xp.einsum("ij,ij->i", now, now)
    return _settled(steps, early, last, size, xp)


def _moved(now: Array, then: Array, work: Buffers, units: Units, xp: Any) -> Array:
    """||h_now - h_then||^2 per row; h_now - h_then stays in `work.spare`."""
    difference = work.spare[: len(now)]
    xp.subtract(now, then, out=difference)
    if units.width != 1:
        xp.multiply(difference, units.width, out=difference)
    return xp.einsum("ij,ij->i", difference, difference)


def _as_tanh(state: Array, units: Units, xp: Any) -> None:
    """s -> h, in place."""
    if units.width != 1:
        xp.multiply(state, units.width, out=state)
        xp.add(state, units.offset, out=state)


def nudged_phases(
    work: Buffers, coupling: Array, readout: tuple[Array, Array], targets: Targets, step: Steps,
    steps: int,
) -> Settled:  # fmt: skip
    """From the free state to the states at +beta and -beta, left in `work.pair`.

    coupling: [W'; -beta W_out']; readout: the weights (K, H) and the bias (K,) that read logits off
    s. Leaves h_minus - h_plus in `work.other`.
    """
    xp, units = step.xp, step.units
    now, then = work.pair, work.then
    xp.subtract(work.free, units.offset, out=now.both)
    xp.divide(now.both, units.width, out=now.both)
    early = None
    for number in range(1, steps + 1):
        _slopes(now.state, now.slopes, work, readout, targets, xp)
        xp.matmul(now.whole, coupling, out=then.state)
        step.activate(then.both, work.drive)
        now, then = then, now
        if number == early_step(steps):
            early = _moved(now.state, then.state, work, units, xp)
    last = _moved(now.state, then.state, work, units, xp)
    work.pair, work.then = now, then
    _as_tanh(now.state, units, xp)
    size = xp.einsum("ij,ij->i", now.state, now.state)
    plus, minus = work.spare[: work.batch], work.spare[work.batch :]
    xp.subtract(minus, plus, out=work.other)
    moved = _square(work.other, xp) / 4
    xp.subtract(now.both[1], now.both[0], out=work.other)
    return _settled(steps, early, last, size, xp, (moved, _square(work.other, xp) / 4), copies=2)


def _slopes(
    state: Array, slopes: tuple[Array, ...], work: Buffers, readout: tuple[Array, Array],
    targets: Targets, xp: Any,
) -> None:  # fmt: skip
    """e <- dC/dz at +beta, -dC/dz at -beta."""
    z, (weights, bias) = work.logits, readout
    xp.matmul(weights, state.T, out=z)
    xp.add(z, bias[:, None], out=z)
    into_slope(targets, z, work.row, xp)
    xp.subtract(z[:, : work.batch], targets.values, out=slopes[0])
    xp.subtract(targets.values, z[:, work.batch :], out=slopes[1])


def linear_response(
    work: Buffers, weights: Array, slope: Array, step: Steps, steps: int
) -> Settled:
    """v of an infinitesimal nudge; -v is left in `work.other`. slope: dC/dh at `work.free` (B, H).

    slope is overwritten.
    """
    xp = step.xp
    gain, source, now, then = work.drive, slope, work.u, work.other
    xp.multiply(work.free, work.free, out=gain)
    xp.subtract(1, gain, out=gain)
    xp.multiply(source, gain, out=source)
    xp.negative(source, out=source)
    xp.copyto(now, source)
    early = None
    for number in range(1, steps + 1):
        xp.matmul(now, weights, out=then)
        step.scale(then, gain, source)
        now, then = then, now
        if number == early_step(steps):
            early = _apart(now, then, xp)
    last = _apart(now, then, xp)
    size = xp.einsum("ij,ij->i", now, now)
    xp.negative(now, out=work.other)
    return _settled(steps, early, last, size, xp)


def _apart(now: Array, then: Array, xp: Any) -> Array:
    """||now - then||^2 per row; overwrites `then`, whose turn it is to be written."""
    xp.subtract(now, then, out=then)
    return xp.einsum("ij,ij->i", then, then)


def _square(block: Array, xp: Any) -> Array:
    """||block||^2 of a contiguous block, on its device."""
    flat = block.reshape(-1)
    return xp.dot(flat, flat)


def _settled(
    steps: int, early: Array | None, last: Array, size: Array, xp: Any,
    read: tuple[Array, Array] | None = None, copies: int = 1,
) -> Settled:  # fmt: skip
    """Squares per row (and of what is read: of its movement, of itself) as a report."""
    tiny = float(xp.finfo(last.dtype).tiny)
    worst = (last / xp.maximum(size, tiny)).max()
    moved, whole = last.sum(), size.sum()
    of_read = (moved, whole) if read is None else read
    first = [] if early is None else [early.sum()]
    squares = xp.stack([worst, moved, whole, *of_read, *first]).tolist()
    worst, moved, whole, change, length, *before = (square**0.5 for square in squares)
    pace = (*((early_step(steps), point) for point in before), (steps, moved))
    return Settled(
        steps,
        worst,
        change / length if length > 0 else float(change > 0),
        (whole / copies**0.5) / length if length > 0 else 0.0,
        whole,
        pace,
    )

"""From a batch to dL/dtheta, on weights that somebody else may own.

    D = (h+ - h-)/2,   M = (h+ + h-)/2,   c = -D/(beta B)       centered, error beta^2
    c = -v/B,   M = h*                                          response, the limit beta -> 0
    dL/dW_in = c^T x,   dL/db = sum c,   dL/dW_rec = c^T M,   dL/dW_out = e^T h*,   e = dC/dz / B

Sources: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024; Laborieux et al. 2021,
doi:10.3389/fnins.2021.633674.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eqprop_lab.kernel.arrays import Array, address
from eqprop_lab.kernel.bound import Bound, Scale, symmetric_part
from eqprop_lab.kernel.costs import Targets
from eqprop_lab.kernel.operations import Fused, Operations
from eqprop_lab.kernel.phases import (
    Ending,
    Settled,
    free_phase,
    linear_response,
    nudged_phases,
    read,
    scaled_drive,
)
from eqprop_lab.kernel.recording import Recorder
from eqprop_lab.kernel.units import TANH, Steps, Units
from eqprop_lab.kernel.workspace import Buffers, Workspace

CENTERED, RESPONSE = ESTIMATORS = ("centered", "response")
IN, IN_BIAS, REC, REC_BIAS, OUT, OUT_BIAS = PARAMETERS = (
    "W_in.weight",
    "W_in.bias",
    "W_rec.parametrizations.weight.original",
    "W_rec.bias",
    "W_out.weight",
    "W_out.bias",
)
Parameters = Mapping[str, Array]


def parameter_shapes(features: int, hidden: int, classes: int) -> dict[str, tuple[int, ...]]:
    """{name: shape} of a net `features`-`hidden`-`classes`, named as LoopedMLP names them."""
    wide, square, out = (hidden, features), (hidden, hidden), (classes, hidden)
    shapes = (wide, (hidden,), square, (hidden,), out, (classes,))
    return dict(zip(PARAMETERS, shapes, strict=True))


@dataclass(frozen=True)
class KernelEstimate:
    """What one batch gives: logits (B, K), cost per sample (B,), how both phases ended, and the
    gradients by parameter name, which lie in buffers that the next batch overwrites.
    """

    gradients: dict[str, Array]
    logits: Array
    loss: Array
    free: Settled
    nudged: Settled


@dataclass(frozen=True)
class Unread:
    """The same with numbers that still lie on the device."""

    logits: Array
    loss: Array
    free: Ending
    nudged: Ending


@dataclass(frozen=True)
class Held:
    """Arrays of a recorded batch: x (B, features), targets, sigma's vector."""

    x: Array
    targets: Targets
    v: Array | None


@dataclass(frozen=True)
class How:
    """The knobs of an estimate, checked by whoever makes it."""

    estimator: str = CENTERED
    beta: float = 0.03
    free_steps: int = 30
    nudged_steps: int = 10


class Estimator:
    """Relaxes batches under given parameters; owns buffers and nothing else.

    gradients: where to write dL/dparameter, by name. free, nudged: the units of these phases.
    """

    def __init__(
        self, ops: Operations, dtype: Any, bound: Bound, gradients: Parameters, free: Units,
        nudged: Units,
    ) -> None:  # fmt: skip
        self.ops, self.xp, self.dtype, self.bound = ops, ops.xp, dtype, bound
        self.gradients = dict(gradients)
        self.classes, self.hidden = gradients[OUT].shape
        self.free, self.nudged, self.linear = (Steps(ops, u) for u in (free, nudged, TANH))
        self.space = self._space(1)
        self.scale: Scale = (0.0, 1.0)
        # whether `space.symmetric` is that of the parameters of the next estimate
        self.made = False
        self.recorder: Recorder[Unread] | None = None
        self.held: dict[tuple[int, bool, bool], Held] = {}

    def record(self) -> bool:
        """From now on, make the estimate of a batch size one CUDA graph, where that can be done."""
        if self.recorder is None and isinstance(self.ops, Fused) and self.ops.blas is not None:
            self.recorder = Recorder(self.xp)
        return self.recorder is not None

    def _space(self, batch: int) -> Workspace:
        sizes = self.hidden, self.classes, batch
        return Workspace(self.xp, self.dtype, *sizes, self.ops.aligned)

    def _buffers(self, batch: int) -> Buffers:
        if batch > self.space.capacity:
            if self.recorder is not None:
                self.recorder.forget()
                self.held.clear()
            self.space, self.made = self._space(batch), False
        return self.space.of(batch)

    def settle(
        self, x: Array, p: Parameters, steps: int, v: Array | None
    ) -> tuple[Buffers, Ending, Array]:
        """Buffers that hold the free state of rows x (B, features), how it ended, logits (K, B).

        v: sigma's vector (None: no bound). The logits lie in a buffer.
        """
        xp, ops, work = self.xp, self.ops, self._buffers(len(x))
        space = self.space
        if self.recorder is not None or not self.made:
            symmetric_part(p[REC], space.symmetric, ops, space.product)
        self.made = False
        self.scale = self.bound.scale(space.symmetric, v)
        xp.multiply(space.symmetric, self.scale[1], out=space.effective)
        ops.product(x, p[IN].T, work.u)
        xp.add(work.u, p[IN_BIAS] + p[REC_BIAS], out=work.u)
        units = self.free.units
        scaled_drive(work, units, space.effective, xp)
        weights = self._scaled(units, space.scaled)
        free = free_phase(work, weights, self.free, steps)
        z = work.logits[:, : work.batch]
        ops.product(p[OUT], work.free.T, z)
        xp.add(z, p[OUT_BIAS][:, None], out=z)
        return work, free, z

    def _scaled(self, units: Units, out: Array) -> Array:
        """W as a phase of these units multiplies with it."""
        if units.gain * units.width == 1:
            return self.space.effective
        self.xp.multiply(self.space.effective, units.gain * units.width, out=out)
        return out

    def estimate(
        self, x: Array, targets: Targets, p: Parameters, how: How, v: Array | None
    ) -> KernelEstimate:
        """One estimate of rows x (B, features). Raises FloatingPointError."""
        if self.recorder is None:
            found = self._estimate(x, targets, p, how, v)
        else:
            found = self._launched(self.recorder, x, targets, p, how, v)
        free, nudged = read(found.free, found.nudged)
        second = "nudged phase" if how.estimator == CENTERED else "linear relaxation"
        return KernelEstimate(
            self.gradients, found.logits, found.loss, finite(free, "free phase"),
            finite(nudged, second),
        )  # fmt: skip

    def _launched(
        self, recorder: Recorder[Unread], x: Array, targets: Targets, p: Parameters, how: How,
        v: Array | None,
    ) -> Unread:  # fmt: skip
        """The estimate of a batch that is copied to where a graph reads it."""
        kind = len(x), v is not None, targets.total is not None
        batch = len(x)
        self._buffers(batch)
        held = self.held.get(kind)
        if held is None:
            summed = targets.total is not None
            total = self.xp.empty(batch, self.dtype) if summed else None
            t = Targets(targets.cost, self.xp.empty_like(targets.values), total)
            held = Held(self.xp.empty_like(x), t, None if v is None else self.xp.empty_like(v))
            self.held[kind] = held
        self._copy(x, targets, v, held)
        key = *kind, how, *map(address, p.values())
        found = recorder(key, lambda: self._estimate(held.x, held.targets, p, how, held.v))
        return Unread(found.logits.copy(), found.loss.copy(), found.free, found.nudged)

    def _copy(self, x: Array, targets: Targets, v: Array | None, held: Held) -> None:
        xp = self.xp
        xp.copyto(held.x, x)
        xp.copyto(held.targets.values, targets.values)
        if held.targets.total is not None:
            xp.copyto(held.targets.total, targets.total)
        if held.v is not None:
            xp.copyto(held.v, v)

    def _estimate(
        self, x: Array, targets: Targets, p: Parameters, how: How, v: Array | None
    ) -> Unread:
        """The gradients, and what is not read yet; nothing waits for the device."""
        xp, ops, batch = self.xp, self.ops, len(x)
        work, free, z = self.settle(x, p, how.free_steps, v)
        logits, loss = z.T.copy(), ops.cost(targets, z, work.row[:batch])
        found = self.gradients
        error = z / batch
        ops.product(error, work.free, found[OUT])
        xp.sum(error, axis=1, out=found[OUT_BIAS])
        if how.estimator == CENTERED:
            nudged, mean = self._centered(work, z, targets, p, how), work.drive
            factor = 1 / (2 * how.beta * batch)
            xp.add(work.pair.both[0], work.pair.both[1], out=mean)
            xp.multiply(mean, 0.5, out=mean)
        else:
            nudged, mean, factor = self._response(work, z, p, how), work.free, 1 / batch
        xp.multiply(work.other, factor, out=work.other)
        self._weights(work.other, x, mean, v)
        return Unread(logits, loss, free, nudged)

    def _centered(
        self, work: Buffers, error: Array, targets: Targets, p: Parameters, how: How
    ) -> Ending:
        """h- - h+ in `work.other`, the states in `work.pair`; error: dC/dz (K, B)."""
        xp, space, units = self.xp, self.space, self.nudged.units
        xp.multiply(space.effective, units.gain * units.width, out=space.coupling[: self.hidden])
        xp.multiply(p[OUT], -units.gain * how.beta, out=space.coupling[self.hidden :])
        xp.multiply(p[OUT], units.width, out=space.readout)
        bias = p[OUT_BIAS]
        if units.offset:
            bias = bias + units.offset * p[OUT].sum(1)
        scaled_drive(work, units, space.effective, xp)
        readout = space.readout, bias
        how_many = self.nudged, how.nudged_steps
        return nudged_phases(work, error, space.coupling, readout, targets, *how_many)

    def _response(self, work: Buffers, error: Array, p: Parameters, how: How) -> Ending:
        """-v in `work.other`; error: dC/dz (K, B)."""
        slope = work.spare[: work.batch]
        self.ops.product(error.T, p[OUT], slope)
        return linear_response(work, self.space.effective, slope, self.linear, how.nudged_steps)

    def _weights(self, c: Array, x: Array, mean: Array, v: Array | None) -> None:
        """The gradients that the hidden units see."""
        xp, ops, found, space = self.xp, self.ops, self.gradients, self.space
        ops.product(c.T, x, found[IN])
        xp.sum(c, axis=0, out=found[IN_BIAS])
        xp.copyto(found[REC_BIAS], found[IN_BIAS])
        ops.product(c.T, mean, space.product)
        self.bound.pull_back(space.product, space.symmetric, v, self.scale, found[REC])


def finite(end: Settled, name: str) -> Settled:
    """The end of a phase, if its state is finite. Raises FloatingPointError."""
    if not end.residual < float("inf") or not end.change < float("inf"):
        reason = "is the weights' norm bounded, and beta small?"
        raise FloatingPointError(
            f"the {name} diverged: values that are not finite after {end.steps} steps; {reason}"
        )
    return end

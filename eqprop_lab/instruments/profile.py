"""Where the time and the memory of a training step go: by phase, by operation.

    step = free phase + nudged phase + gradient                an equilibrium network
    step = forward + backward                                  an ordinary network

Every operation of torch is timed from its call to its return, on the CPU; what Python does between
them is the rest of the step. Bytes are those of new tensors that an operation returns.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import Estimate
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import ESTIMATORS, NUDGED, make_settings, own_estimator
from eqprop_lab.equilibrium.requirements import check_trainable
from eqprop_lab.instruments.live_bytes import storages
from eqprop_lab.modules import a_module
from eqprop_lab.tables import text_table

FREE, NUDGE, BACK, GRADIENT = "free", "nudged", "backward", "gradient"
FORWARD = "forward"


@dataclass(frozen=True)
class Row:
    """One operation in one phase: how often, how long (s), how many new bytes."""

    phase: str
    operation: str
    calls: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Profile:
    """rows: the slowest first. seconds: of the whole step, by phase, Python included."""

    model: str
    rows: tuple[Row, ...]
    seconds: dict[str, float]

    def operations(self, phase: str) -> list[Row]:
        """Those of one phase, the slowest first."""
        return [row for row in self.rows if row.phase == phase]

    def table(self, most: int = 12) -> str:
        """The phases, and the `most` slowest operations."""
        head = ("phase", "operation", "calls", "ms", "MB")
        whole = [
            (phase, "all", str(sum(r.calls for r in own)), f"{1e3 * spent:.3f}", _mb(own))
            for phase, spent in self.seconds.items()
            for own in [self.operations(phase)]
        ]
        rows = [
            (r.phase, r.operation, str(r.calls), f"{1e3 * r.seconds:.3f}", _mb([r]))
            for r in self.rows[:most]
        ]
        return "\n".join(text_table([head, *whole, *rows]))


def _mb(rows: Sequence[Row]) -> str:
    return f"{sum(row.bytes for row in rows) / 1e6:.3f}"


class _Watch(TorchDispatchMode):
    """Times operations into the phase that is on."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.calls: Counter[tuple[str, str]] = Counter()
        self.time: Counter[tuple[str, str]] = Counter()
        self.bytes: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, float] = {}
        self.phase, self.since = phase, time.perf_counter()

    def enter(self, phase: str) -> None:
        """The phase that is on from now."""
        now = time.perf_counter()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self.since
        self.phase, self.since = phase, now

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        known = {id(storage) for storage in storages((args, kwargs))}
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        key = (self.phase, str(func.overloadpacket).removeprefix("aten."))
        self.time[key] += time.perf_counter() - start  # type: ignore[assignment]
        self.calls[key] += 1
        self.bytes[key] += sum(
            {id(s): s.nbytes() for s in storages(result) if id(s) not in known}.values()
        )
        return result

    def profile(self, model: nn.Module) -> Profile:
        """What was seen."""
        self.enter("")
        self.seconds.pop("", None)
        rows = [
            Row(*k, self.calls[k], float(self.time[k]), self.bytes[k]) for k in self.calls if k[0]
        ]
        rows.sort(key=lambda row: -row.seconds)
        return Profile(type(model).__name__, tuple(rows), self.seconds)


def profile(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    gradient: str | None = None,
    cost: str = "cross_entropy",
    **phases: Any,
) -> Profile:
    """One gradient of a batch (x, y), timed; the model and its `.grad` are left alone.

    Args: gradient: an estimator for an equilibrium network (None: its own), "autograd" or None for
    others. phases: beta, free_steps, nudged_steps, tol, solver, as in `estimate_gradients`.
    A first, unmeasured pass warms up.
    Raises: TypeError, ValueError naming the argument.
    """
    x, y = batch
    if isinstance(model, EquilibriumModel):
        run = _settling(model, x, y, gradient, cost, phases)
    else:
        run = _ordinary(model, x, y, gradient, cost, phases)
    run(_Watch(""))
    watch = _Watch("")
    with watch:
        run(watch)
    return watch.profile(model)


def _settling(
    model: EquilibriumModel, x: Tensor, y: Tensor, gradient: str | None, cost: str, phases: Any
) -> Callable[[_Watch], object]:
    estimator = own_estimator(model, gradient)
    settings = make_settings(model, estimator=estimator, **phases)
    model.check_batch(x)
    function = make_cost(cost, model.targets(x, y), model.output_dim, check_trainable(model))
    second = NUDGE if estimator in NUDGED else BACK

    def run(watch: _Watch) -> Estimate:
        watch.enter(FREE)

        def cost_grad(logits: Tensor) -> Tensor:
            # what follows the free phase begins by asking for the slope of the cost
            if watch.phase == FREE:
                watch.enter(second)
            return function.grad(logits)

        whole = model.parameter_gradients

        def last(*given: Any, **how: Any) -> dict[str, Tensor]:
            watch.enter(GRADIENT)
            return whole(*given, **how)

        object.__setattr__(model, "parameter_gradients", last)
        try:
            return ESTIMATORS[estimator](model, x, cost_grad, settings)
        finally:
            object.__delattr__(model, "parameter_gradients")

    return run


def _ordinary(
    model: nn.Module, x: Tensor, y: Tensor, gradient: str | None, cost: str, phases: Any
) -> Callable[[_Watch], object]:
    a_module("model", model)
    if gradient not in (None, "autograd") or phases:
        given = gradient if not phases else ", ".join(phases)
        raise ValueError(f"gradient must be 'autograd' for an ordinary network, got {given!r}")
    parameters = [p for p in model.parameters() if p.requires_grad]

    def run(watch: _Watch) -> object:
        watch.enter(FORWARD)
        kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with torch.enable_grad():
            logits = model(x)
            loss = make_cost(cost, y, logits.shape[1], logits).value(logits).mean()
        watch.enter(BACK)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        watch.enter("")
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
        return found

    return run

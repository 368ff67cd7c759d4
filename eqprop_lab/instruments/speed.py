"""What is quickest on this machine? Every way to take the same training step, timed side by side.

    times as fast = seconds(torch) / seconds(way),    apart = ||g - g_torch|| / ||g_torch||

    torch            the trainer's step
    torch.compile    the same with use_compile: its free phase, compiled at the first step
    kernel           the same with use_kernel: gradients from EqPropKernel on the model's tensors
    kernel alone     EqPropKernel.train_step, with an Adam and arrays of its own

The ways take turns, so that whatever else the machine does hits all of them; a ratio is given as
the median over the rounds and the range of its middle half.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.acceleration import CompiledCall
from eqprop_lab.devices import named
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.requirements import equilibrium_model
from eqprop_lab.kernel import EqPropKernel
from eqprop_lab.tables import text_table
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.training.kernel_gradients import Memory
from eqprop_lab.validation import positive_int, switch

TORCH, COMPILED, KERNEL, ALONE = WAYS = ("torch", "torch.compile", "kernel", "kernel alone")
WRONG = 1e-2  # relative difference of gradients from which on two ways do not do the same
WARM = 2  # rounds that are not counted


@dataclass(frozen=True)
class Way:
    """A training step, the gradients {name: tensor} of a first one, and what went otherwise."""

    step: Callable[[], object]
    gradients: Callable[[], dict[str, Tensor]]
    failed: Callable[[], str] = str  # which gives ""


@dataclass(frozen=True)
class Timing:
    """Of one way: seconds of its first step and of a later one, times as fast as torch (median, and
    the range of the middle half), how far its gradient is from torch's, and what went otherwise.
    """

    first: float
    seconds: float
    speedup: float
    low: float
    high: float
    apart: float
    note: str = ""

    def pays_back(self, than: Timing) -> float:
        """Steps until the longer first step is earned back; inf where it never is."""
        saved = than.seconds - self.seconds
        return max(0.0, self.first - than.first) / saved if saved > 0 else float("inf")


@dataclass
class SpeedCheck:
    """{way: Timing} in `ways`, and {way: why it is not there} in `absent`; prints as a table."""

    subject: str
    machine: str
    ways: dict[str, Timing] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def quickest(self) -> str:
        """The way that is surely faster than torch here and takes least time, else "torch"."""
        sure = [name for name, way in self.ways.items() if way.low > 1 and way.apart <= WRONG]
        return min(sure, key=lambda name: self.ways[name].seconds, default=TORCH)

    def __str__(self) -> str:
        head = ("way", "first step", "a step", "times as fast", "gradient apart")
        rows = [
            (name, f"{way.first:.2f} s", f"{1e3 * way.seconds:.2f} ms",
             f"{way.speedup:.2f} ({way.low:.2f} to {way.high:.2f})",
             "reference" if name == TORCH else f"{way.apart:.0e}")
            for name, way in self.ways.items()
        ]  # fmt: skip
        table = text_table([head, *rows], right=(1, 2, 3, 4))
        return "\n".join([self.subject, self.machine, "", *table, "", *self._verdicts()])

    def _verdicts(self) -> Iterator[str]:
        for name, why in self.absent.items():
            yield f"{name} is not here: {why}"
        for name, way in self.ways.items():
            if way.note:
                yield f"{name}: {way.note}"
            if way.apart > WRONG:
                yield f"{name} does NOT compute torch's gradient: {way.apart:.0%} apart"
        if COMPILED in self.ways and not self.ways[COMPILED].note:
            steps = self.ways[COMPILED].pays_back(self.ways[TORCH])
            when = f"after {steps:,.0f} steps" if steps < float("inf") else "never"
            yield f"compiling pays back {when}"
        best = self.quickest
        yield (
            "nothing here is surely faster than torch" if best == TORCH
            else f"quickest here: {best}, {self.ways[best].speedup:.2f} times as fast as torch"
        )  # fmt: skip


def measure_speed(
    model: EquilibriumModel,
    x: Tensor,
    y: Tensor,
    gradient: str | None = None,
    beta: float | str | None = None,
    *,
    free_steps: int | None = None,
    nudged_steps: int | None = None,
    steps: int = 20,
    compiled: bool = True,
) -> SpeedCheck:
    """Times of a training step (estimate and Adam) of this batch on the model's device.

    Copies are trained; the model stays as it is. A way that this model or machine has not is named
    with the reason.

    Args: x, y, gradient, beta, free_steps, nudged_steps as for EqPropTrainer. steps: rounds that
        are counted. compiled: try torch.compile too, which takes seconds to minutes.
    Raises: TypeError, ValueError naming the argument.
    """
    model = equilibrium_model(model)
    model.check_batch(x)
    steps, compiled = positive_int("steps", steps), switch("compiled", compiled)
    options: dict[str, Any] = {
        "gradient": gradient, "beta": beta, "free_steps": free_steps, "nudged_steps": nudged_steps,
    }  # fmt: skip
    plain = EqPropTrainer(copy.deepcopy(model), **options, progress=False)
    device = plain.device
    found = SpeedCheck(_subject(plain, len(x)), machine(device))
    ways, firsts = {TORCH: _trained(plain, x, y)}, {}
    makers: dict[str, Callable[[], Way]] = {
        COMPILED: lambda: _compiled(model, x, y, options),
        KERNEL: lambda: _trained(_with_kernel(model, options), x, y),
        ALONE: lambda: _alone(_with_kernel(model, options), x, y),
    }
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # of doubts and fallbacks; the latter are noted
        for name in WAYS[1:] if compiled else (KERNEL, ALONE):
            try:
                ways[name] = makers[name]()
            except (ValueError, RuntimeError) as error:
                found.absent[name] = str(error)
        gradients = {}
        for name, way in ways.items():
            firsts[name] = _seconds(way.step, device)
            gradients[name] = way.gradients()
        rounds = [
            {name: _seconds(way.step, device) for name, way in ways.items()}
            for _ in range(WARM + steps)
        ][WARM:]
    for name, way in ways.items():
        apart = _apart(gradients[name], gradients[TORCH])
        found.ways[name] = _timing(name, rounds, firsts[name], apart, way.failed())
    return found


def machine(device: torch.device) -> str:
    """The device, what of it is used, and the versions that decide."""
    versions = f"torch {torch.__version__.partition('+')[0]}, NumPy {np.__version__}"
    threads = "" if device.type == "cuda" else f"{torch.get_num_threads()} thread(s), "
    return f"{named(device)}, {threads}{versions}"


def _subject(trainer: EqPropTrainer, batch: int) -> str:
    settings = trainer.settings
    assert settings is not None
    numbers = f"{settings.free_steps} + {settings.nudged_steps} steps"
    return f"{type(trainer.model).__name__}, batch {batch}, {trainer.gradient}, {numbers}"


def _trained(trainer: EqPropTrainer, x: Tensor, y: Tensor) -> Way:
    def gradients() -> dict[str, Tensor]:
        named = trainer.parameters.items()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}

    return Way(lambda: trainer.train_batch(x, y), gradients)


def _compiled(model: EquilibriumModel, x: Tensor, y: Tensor, options: dict[str, Any]) -> Way:
    trainer = EqPropTrainer(copy.deepcopy(model), **options, use_compile=True, progress=False)
    call = trainer.model.__dict__["step"]
    assert isinstance(call, CompiledCall)
    way = _trained(trainer, x, y)

    def failed() -> str:
        return f"it failed and ran eagerly, {call.reason}" if call.failed else ""

    return Way(way.step, way.gradients, failed)


def _with_kernel(model: EquilibriumModel, options: dict[str, Any]) -> EqPropTrainer:
    return EqPropTrainer(copy.deepcopy(model), **options, use_kernel=True, progress=False)


def _alone(trainer: EqPropTrainer, x: Tensor, y: Tensor) -> Way:
    """The kernel that the trainer would use, with weights of its own."""
    settings, memory = trainer.settings, Memory.of(trainer.device)
    assert settings is not None
    given: dict[str, Any] = {
        "estimator": trainer.gradient, "beta": settings.beta, "arrays": memory.name,
        "free_steps": settings.free_steps, "nudged_steps": settings.nudged_steps,
    }  # fmt: skip
    kernel, other = (EqPropKernel.from_model(trainer.model, **given) for _ in range(2))
    inputs, targets = memory.array(x), memory.array(y)

    def gradients() -> dict[str, Tensor]:
        found = other.gradients(inputs, targets)
        return {name: memory.tensor(gradient) for name, gradient in found.items()}

    return Way(lambda: kernel.train_step(inputs, targets), gradients)


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    """Of one step, until the device has done it."""
    start = time.perf_counter()
    step()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def _apart(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """||g - g_torch|| / ||g_torch||, all parameters together."""
    # on the CPU: not every device has float64
    pairs = [(got[name].cpu().double(), value.cpu().double()) for name, value in expected.items()]
    size = sum(float(value.square().sum()) for _, value in pairs)
    return float((sum(float((a - b).square().sum()) for a, b in pairs) / (size or 1.0)) ** 0.5)


def _timing(
    name: str, rounds: list[dict[str, float]], first: float, apart: float, note: str
) -> Timing:
    ratios = sorted(one[TORCH] / one[name] for one in rounds)
    edge = (len(ratios) - 1) // 4
    return Timing(
        first, statistics.median(one[name] for one in rounds), statistics.median(ratios),
        ratios[edge], ratios[-1 - edge], apart, note,
    )  # fmt: skip

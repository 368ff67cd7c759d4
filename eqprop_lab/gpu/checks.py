"""What only a GPU can show: checks that register themselves with `@gpu_check(name, text)`.

Each takes the device and the options of the CIFAR-10 run and returns figures, among them "ok".
"""

from __future__ import annotations

import importlib
import platform
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import torch

from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.experiments.runs import versions
from eqprop_lab.gpu import cifar, kernel
from eqprop_lab.gpu.cifar import Options
from eqprop_lab.gpu.limits import device_limits, milliseconds_of
from eqprop_lab.gpu.tf32 import tf32
from eqprop_lab.models import LoopedMLP
from eqprop_lab.training import EqPropTrainer

Figures = dict[str, Any]
Run = Callable[[torch.device, Options], Figures]
R = TypeVar("R", bound=Run)
# Relative error allowed between devices. The estimate divides rounding by beta, hence more than an
# epsilon.
LINES = 12  # of a traceback
PARITY = {torch.float64: 1e-9, torch.float32: 2e-3}


@dataclass(frozen=True)
class Check:
    """A registered check: run(device, options) -> figures with "ok": bool."""

    text: str
    run: Run


CHECKS: dict[str, Check] = {}


def gpu_check(name: str, text: str) -> Callable[[R], R]:
    """Register a check. Raises ValueError for a name that is taken."""

    def add(run: R) -> R:
        if name in CHECKS:
            raise ValueError(f"name must be new, a check {name!r} is registered already")
        CHECKS[name] = Check(text, run)
        return run

    return add


@gpu_check("device", "name, memory and compute capability of the device")
def device_facts(device: torch.device, options: Options | None = None) -> Figures:
    """Facts about the device; for a CPU its name only."""
    if device.type != "cuda":
        return {"ok": True, "name": platform.processor() or platform.machine()}
    facts = torch.cuda.get_device_properties(device)
    return {
        "ok": True,
        "name": facts.name,
        "memory_gib": facts.total_memory / 2**30,
        "capability": f"{facts.major}.{facts.minor}",
    }


@gpu_check(
    "step_time", "milliseconds of a centered training step (30 free, 10 nudged), against the CPU"
)
def step_time(device: torch.device, options: Options | None = None) -> Figures:
    """Median over 20 steps, 784-256-10 at batch 64 and 784-512-10 at batch 256."""
    times = {
        f"784-{hidden}-10 batch {batch} {place.type}_ms": milliseconds(hidden, batch, place)
        for hidden, batch in ((256, 64), (512, 256))
        for place in {torch.device("cpu"), device}
    }
    return {"ok": all(value > 0 for value in times.values()), **times}


def milliseconds(hidden: int, batch: int, device: torch.device) -> float:
    """Of a training step: the median of 20, after 3 for warming up."""
    trainer = EqPropTrainer(LoopedMLP(784, hidden, 10, seed=0), device=device, progress=False)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 784, generator=generator).to(device)
    y = (torch.arange(batch) % 10).to(device)
    return milliseconds_of(lambda: trainer.train_batch(x, y), device)


@gpu_check("parity", "the centered gradient on the device equals the CPU's, in float64 and float32")
def parity(device: torch.device, options: Options | None = None) -> Figures:
    """Worst relative error over the parameters, device against CPU, in each of the two types."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(64, 784, generator=generator), torch.arange(64) % 10
    figures: Figures = {"ok": True}
    for dtype, limit in PARITY.items():
        model = LoopedMLP(784, 256, 10, seed=0).to(dtype)
        here = estimate_gradients(model, x.to(dtype), y, "centered")
        there = estimate_gradients(model.to(device), x.to(device, dtype), y.to(device), "centered")
        error = max(float((there[k].cpu() - g).norm() / g.norm()) for k, g in here.items())
        name = str(dtype).removeprefix("torch.")
        figures |= {f"{name}_error": error, f"{name}_limit": limit}
        figures["ok"] = figures["ok"] and error <= limit
    return figures


gpu_check("device_limits", "bandwidth of a copy, rate of float32 and TF32 products")(device_limits)
gpu_check("kernel_parity", "EqPropKernel on CuPy computes what it does on NumPy")(
    kernel.kernel_parity
)
gpu_check("kernel_trainer", "use_kernel=True trains as the torch path does, on shared memory")(
    kernel.kernel_trainer
)
gpu_check("kernel_graph", "a recorded step of EqPropKernel computes what the step does")(
    kernel.kernel_graph
)
gpu_check("kernel_memory", "memory of a step of EqPropKernel is flat from 10 to 1000 steps")(
    kernel.kernel_memory
)
gpu_check("kernel_time", "milliseconds of a centered step on each path, beside its products")(
    kernel.kernel_time
)
gpu_check("kernel_parts", "what a step of EqPropKernel consists of, in milliseconds")(
    kernel.kernel_parts
)
gpu_check("kernel_compiled", "the torch step with torch.compile")(kernel.kernel_compiled)
gpu_check("tf32", "time and gradient of a training step without TF32 and with it")(tf32)
gpu_check("cifar10", cifar.TEXT)(cifar.cifar10)


def _cupy_version() -> str | None:
    try:
        return str(importlib.import_module("cupy").__version__)
    except ImportError:
        return None


def run_checks(
    device: torch.device,
    names: Iterable[str] | None = None,
    options: Options | None = None,
    done: Callable[[str, dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Run all checks, or those named; one that raises is recorded as failed, with its error.

    done: called after every check with its name and the report so far.
    """
    options = Options() if options is None else options
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_facts(device)["name"],
        "versions": versions() | {"cuda": torch.version.cuda, "cupy": _cupy_version()},
        "ok": True,
        "checks": {},
    }
    for name in CHECKS if names is None else names:
        start = time.perf_counter()
        try:
            figures = CHECKS[name].run(device, options)
        except Exception as error:
            lines = traceback.format_exc().splitlines()[-LINES:]
            figures = {"ok": False, "error": f"{type(error).__name__}: {error}", "trace": lines}
        report["checks"][name] = figures | {"seconds": round(time.perf_counter() - start, 2)}
        report["ok"] = report["ok"] and figures["ok"]
        if done is not None:
            done(name, report)
    return report

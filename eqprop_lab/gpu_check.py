"""`python -m eqprop_lab gpu-check`: what only a GPU can show, measured and stored as one JSON file.

Checks register themselves with `@gpu_check(name, text)`; each takes the device and returns figures, among them "ok".
Without a CUDA device the command says so, lists what it would run and exits 0.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import eqprop_lab
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.models import LoopedMLP
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.training.files import replace_text

Figures = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """A registered check: run(device) -> figures with "ok": bool."""

    name: str
    text: str
    run: Callable[[torch.device], Figures]


CHECKS: dict[str, Check] = {}


def gpu_check(name: str, text: str) -> Callable[[Callable[[torch.device], Figures]], Callable[[torch.device], Figures]]:
    """Register a check. Raises ValueError for a name that is taken."""

    def add(run: Callable[[torch.device], Figures]) -> Callable[[torch.device], Figures]:
        if name in CHECKS:
            raise ValueError(f"name must be new, a check {name!r} is registered already")
        CHECKS[name] = Check(name, text, run)
        return run

    return add


@gpu_check("device", "name, memory and compute capability of the device")
def device_facts(device: torch.device) -> Figures:
    """Facts about the device; for a CPU its name only."""
    if device.type != "cuda":
        return {"ok": True, "name": platform.processor() or platform.machine()}
    facts = torch.cuda.get_device_properties(device)
    capability = f"{facts.major}.{facts.minor}"
    return {"ok": True, "name": facts.name, "memory_gib": facts.total_memory / 2**30, "capability": capability}


@gpu_check("step_time", "milliseconds of a centered training step (30 free, 10 nudged), against the CPU")
def step_time(device: torch.device) -> Figures:
    """Median over 20 steps after 3 for warming up, 784-256-10 at batch 64 and 784-512-10 at batch 256."""
    times = {}
    for hidden, batch in ((256, 64), (512, 256)):
        for place in {torch.device("cpu"), device}:
            times[f"784-{hidden}-10 batch {batch} {place.type}_ms"] = _milliseconds(hidden, batch, place)
    return {"ok": all(value > 0 for value in times.values()), **times}


def _milliseconds(hidden: int, batch: int, device: torch.device) -> float:
    trainer = EqPropTrainer(LoopedMLP(784, hidden, 10, seed=0), device=device, progress=False)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 784, generator=generator).to(device)
    y = (torch.arange(batch) % 10).to(device)
    seconds = []
    for _ in range(23):
        _wait(device)
        start = time.perf_counter()
        trainer.train_batch(x, y)
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[3:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# Relative error allowed between devices. The estimate divides rounding by beta, hence more than an epsilon.
PARITY = {torch.float64: 1e-9, torch.float32: 2e-3}


@gpu_check("parity", "the centered gradient on the device equals the CPU's, in float64 and float32")
def parity(device: torch.device) -> Figures:
    """Worst relative error over the parameters, against float64 on the CPU (float64) and float32 there (float32)."""
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


def run_checks(device: torch.device) -> dict[str, Any]:
    """Run every registered check; a check that raises is recorded as failed, with its error."""
    results = {}
    for check in CHECKS.values():
        try:
            results[check.name] = check.run(device)
        except Exception as error:
            results[check.name] = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_facts(device)["name"],
        "versions": {
            "eqprop_lab": eqprop_lab.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        },
        "ok": all(figures["ok"] for figures in results.values()),
        "checks": results,
    }


def store(report: dict[str, Any], folder: Path) -> Path:
    """Write `gpu-check-<date>.json` atomically and return its path."""
    path = folder / f"gpu-check-{report['date'].replace(':', '').replace('+0000', 'Z')}.json"
    return replace_text(path, json.dumps(report, indent=2) + "\n")


def main(argv: Sequence[str]) -> int:
    """Run the checks on the GPU and store the figures; 1 when one fails, 0 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m eqprop_lab gpu-check", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="folder of the JSON (%(default)s)")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured. With one, this would run:")
        for check in CHECKS.values():
            print(f"  {check.name:<12} {check.text}")
        return 0
    report = run_checks(torch.device("cuda"))
    for name, figures in report["checks"].items():
        shown = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        print(f"{'ok' if figures['ok'] else 'FAILED':<7}{name:<12} {shown}")
    print(f"stored in {store(report, options.out)}")
    return 0 if report["ok"] else 1

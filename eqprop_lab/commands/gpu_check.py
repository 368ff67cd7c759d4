"""`python -m eqprop_lab gpu-check`: what only a GPU can show, measured and stored as one JSON file.

    make gpu-check GPU_ARGS="--only cifar10 --data FOLDER --minutes 9"      the CIFAR-10 run, again until it is finished

Checks register themselves with `@gpu_check(name, text)`; each takes the device, one that has
options takes them too, and returns figures, among them "ok". Without a CUDA device the command says
so, lists what it would run and exits 0; `--device cpu` runs the checks on the processor, the
CIFAR-10 run at toy size (`--toy`) only.
"""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import eqprop_lab
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.files import replace_text
from eqprop_lab.gpu import cifar
from eqprop_lab.gpu.budget import wait
from eqprop_lab.gpu.cifar_parts import Options
from eqprop_lab.models import LoopedMLP
from eqprop_lab.training import EqPropTrainer

Figures = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """A registered check: run(device), or run(device, options), -> figures with "ok": bool."""

    name: str
    text: str
    run: Callable[..., Figures]

    def __call__(self, device: torch.device, options: Options) -> Figures:
        """Run it with what it takes."""
        return (
            self.run(device, options)
            if "options" in inspect.signature(self.run).parameters
            else self.run(device)
        )


CHECKS: dict[str, Check] = {}


def gpu_check(name: str, text: str) -> Callable[[Callable[..., Figures]], Callable[..., Figures]]:
    """Register a check. Raises ValueError for a name that is taken."""

    def add(run: Callable[..., Figures]) -> Callable[..., Figures]:
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
    return {
        "ok": True,
        "name": facts.name,
        "memory_gib": facts.total_memory / 2**30,
        "capability": capability,
    }


@gpu_check(
    "step_time", "milliseconds of a centered training step (30 free, 10 nudged), against the CPU"
)
def step_time(device: torch.device) -> Figures:
    """Median over 20 steps after 3 for warming up, 784-256-10 at batch 64 and 784-512-10 at batch
    256.
    """
    times = {}
    for hidden, batch in ((256, 64), (512, 256)):
        for place in {torch.device("cpu"), device}:
            times[f"784-{hidden}-10 batch {batch} {place.type}_ms"] = _milliseconds(
                hidden, batch, place
            )
    return {"ok": all(value > 0 for value in times.values()), **times}


def _milliseconds(hidden: int, batch: int, device: torch.device) -> float:
    trainer = EqPropTrainer(LoopedMLP(784, hidden, 10, seed=0), device=device, progress=False)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 784, generator=generator).to(device)
    y = (torch.arange(batch) % 10).to(device)
    seconds = []
    for _ in range(23):
        wait(device)
        start = time.perf_counter()
        trainer.train_batch(x, y)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[3:])


# Relative error allowed between devices. The estimate divides rounding by beta, hence more than an
# epsilon.
PARITY = {torch.float64: 1e-9, torch.float32: 2e-3}


@gpu_check("parity", "the centered gradient on the device equals the CPU's, in float64 and float32")
def parity(device: torch.device) -> Figures:
    """Worst relative error over the parameters, against float64 on the CPU (float64) and float32
    there (float32).
    """
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


gpu_check("cifar10", cifar.TEXT)(cifar.cifar10)


def run_checks(
    device: torch.device, names: Iterable[str] | None = None, options: Options | None = None
) -> dict[str, Any]:
    """Run the registered checks, or those named; a check that raises is recorded as failed, with
    its error.
    """
    options = Options() if options is None else options
    results = {}
    for name in CHECKS if names is None else names:
        try:
            results[name] = CHECKS[name](device, options)
        except Exception as error:
            results[name] = {"ok": False, "error": f"{type(error).__name__}: {error}"}
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


def _parser() -> argparse.ArgumentParser:
    text, style = __doc__, argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m eqprop_lab gpu-check", description=text, formatter_class=style
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="CHECK",
        choices=list(CHECKS),
        help=f"some of {', '.join(CHECKS)}",
    )
    parser.add_argument(
        "--out", type=Path, default=Options.out, help="folder of what is stored (%(default)s)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda, if there is one")
    run = parser.add_argument_group("cifar10")
    run.add_argument(
        "--data",
        type=Path,
        help="folder of images, or one with torchvision's files (the data folder)",
    )
    run.add_argument(
        "--minutes",
        type=float,
        default=Options.minutes,
        help="work at most so long a call (%(default)s)",
    )
    run.add_argument("--epochs", type=int, help="instead of the recipe's")
    run.add_argument(
        "--fill-minutes",
        type=float,
        help="as many epochs as take the EqProp network so long, measured",
    )
    run.add_argument("--toy", action="store_true", help="two small layers, few images, two epochs")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the checks and store the figures; 1 when one fails, 2 for a wrong call, 0 without a GPU."""
    parser = _parser()
    given = vars(parser.parse_args(argv))
    place, names = given.pop("device"), given.pop("only") or list(CHECKS)
    try:
        options = Options(**given)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    if place == "cpu" and "cifar10" in names and not options.toy:
        parser.error(
            "--device cpu: cifar10 would take days; give --toy, or name other checks with --only"
        )
    if place != "cpu" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured. With one, this would run:")
        for name in names:
            print(f"  {name:<12} {CHECKS[name].text}")
        return 0
    report = run_checks(torch.device(place or "cuda"), names, options)
    for name, figures in report["checks"].items():
        shown = ", ".join(
            f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
        )
        print(f"{'ok' if figures['ok'] else 'FAILED':<7}{name:<12} {shown}")
    print(f"stored in {store(report, options.out)}")
    return 0 if report["ok"] else 1

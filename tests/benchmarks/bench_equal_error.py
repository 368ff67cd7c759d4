"""Time at equal gradient error: the fewest steps with which each method comes within 1e-3 of the
exact gradient.

    error = max over parameters of |g - g*| / |g*|,   g* the float64 adjoint
    time: CPU seconds, interleaved, median

Compared with autograd through the unrolled relaxation (drive hoisted, float32). Prints a table and
writes `results/equal_error_avx2.json` or `..._avx512.json`, after the vectors of the CPU. `python
-m tests.benchmarks.bench_equal_error [--repeats N] [--target 1e-3] [--steps FILE]`; a file of
results gives the steps, which are then only checked, not searched.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from eqprop_lab import LoopedMLP, estimate_gradients
from eqprop_lab.devices import capability
from eqprop_lab.equilibrium.gradients import Gradients, Settings, estimate
from eqprop_lab.instruments.gradient_check import agreement
from eqprop_lab.quick_tanh import NUMPY, WAY
from tests.benchmarks.store import write_result

METHODS = {
    "bptt": ("bptt", "picard"),
    "centered": ("centered", "picard"),
    "centered + chebyshev": ("centered", "chebyshev"),
    "response": ("response", "picard"),
    "response + chebyshev": ("response", "chebyshev"),
}
BETA = 0.02


def exact(model: LoopedMLP, x: torch.Tensor, y: torch.Tensor) -> Gradients:
    """The adjoint gradient in float64."""
    twin = copy.deepcopy(model).double()
    return estimate_gradients(
        twin, x.double(), y, "implicit", free_steps=2000, nudged_steps=2000, tol=1e-12
    )


def runner(
    model: LoopedMLP, x: torch.Tensor, y: torch.Tensor, method: str, free: int, nudged: int
) -> Callable[[], Gradients]:
    """One gradient by a method with given steps."""
    name, solver = METHODS[method]
    settings = Settings(beta=BETA, free_steps=free, nudged_steps=nudged, solver=solver)
    return lambda: estimate(model, x, y, name, settings)[0].gradients


def fewest(
    model: LoopedMLP, x: torch.Tensor, y: torch.Tensor, method: str, target: float,
    known: tuple[int, int] | None = None,
) -> tuple[int, int, float]:  # fmt: skip
    """(free steps, nudged steps, error) with the least products that reach the target.

    known: steps that were found before; others are searched only where they no longer reach it.
    """
    reference = exact(model, x, y)

    def error(free: int, nudged: int) -> float:
        got = runner(model, x, y, method, free, nudged)()
        return max(agreement(got[name], value).relative_error for name, value in reference.items())

    if known is not None and (found := error(*known)) <= target:
        return *known, found
    # What a step of the second phase costs in steps of the first: two for the pair of nudged
    # states, none for bptt.
    price = {"bptt": 0, "centered": 2, "response": 1}[METHODS[method][0]]
    for total in range(2, 121):
        splits = (
            [(total, 1)]
            if price == 0
            else [(total - price * n, n) for n in range(1, (total - 1) // price + 1)]
        )
        for free, nudged in splits:
            found = error(free, nudged)
            if found <= target:
                return free, nudged, found
    raise RuntimeError(f"{method} does not reach {target} within 120 steps")


def main() -> None:
    """Print and store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--target", type=float, default=1e-3)
    parser.add_argument("--steps", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = [] if options.steps is None else json.loads(options.steps.read_text("utf-8"))["rows"]
    known = {
        (row["hidden"], row["batch"], row["norm"], row["method"]): (
            row["free_steps"], row["nudged_steps"]
        )
        for row in before
    }  # fmt: skip
    rows = []
    sizes = ((256, 64), (256, 256), (512, 64), (512, 256))
    for hidden, batch, gain in [(*size, gain) for gain in (1.0, 5.0) for size in sizes]:
        torch.manual_seed(0)
        model, x, y = (
            LoopedMLP(784, hidden, 10, seed=0),
            torch.rand(batch, 784),
            torch.randint(0, 10, (batch,)),
        )
        # gain 5 brings the norm to where training keeps it, just below the bound
        with torch.no_grad():
            model.W_rec.get_parameter("parametrizations.weight.original").mul_(gain)
        norm = model.contraction_bound()
        place = hidden, batch, round(norm, 3)
        found = {
            method: fewest(model, x, y, method, options.target, known.get((*place, method)))
            for method in METHODS
        }
        runs = {method: runner(model, x, y, method, *steps[:2]) for method, steps in found.items()}
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        for repeat in range(options.repeats + 3):
            for method, run in runs.items():
                start = time.process_time()
                run()
                if repeat >= 3:
                    seconds[method].append(time.process_time() - start)
        base = statistics.median(seconds["bptt"])
        print(
            f"784-{hidden}-10, norm of W_rec {norm:.2f}, batch {batch}, error <= {options.target:g}"
        )
        for method, (free, nudged, error) in found.items():
            took = statistics.median(seconds[method])
            faster = base / took
            steps_taken = f"{free:3} + {nudged:2} steps  error {error:.1e}"
            print(
                f"  {method:22} {steps_taken}  {1e3 * took:7.2f} ms  {faster:4.2f}x as fast as bptt"
            )
            steps = {"free_steps": free, "nudged_steps": nudged, "error": error}
            times = {"ms": round(1e3 * took, 3), "times_faster_than_bptt": round(faster, 3)}
            rows.append(
                {"hidden": hidden, "norm": round(norm, 3), "batch": batch, "method": method}
                | steps
                | times
            )
    head = {"capability": capability(), "load": f"{os.getloadavg()[0]:.0f} runnable"}
    result = {"target": options.target, "beta": BETA, "repeats": options.repeats, "rows": rows}
    write_result(f"equal_error_{'avx512' if WAY == NUMPY else 'avx2'}", head | result, options.out)


if __name__ == "__main__":
    main()

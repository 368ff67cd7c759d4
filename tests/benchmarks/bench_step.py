"""How much a centered training step costs beside its own matrix products, one process, interleaved,
CPU time, median.

    ratio = time(step) / time(products)
    step  = 30 free + 10 nudged relaxations + gradients + Adam (no certificate)

products: x W_in^T once, one W_rec product a relaxation (2B rows in the nudged phase), the readout
and its transpose a nudged relaxation, one gradient product per weight; nothing else. Beside it:
what `estimate_gradients` takes over the trainer's own way to the same gradients. The file is named
after the vectors of the CPU; an AVX-512 machine behaves like another with ATEN_CPU_CAPABILITY=avx2
MKL_ENABLE_INSTRUCTIONS=AVX2 and AVX-512 among NumPy's NPY_DISABLE_CPU_FEATURES. `python -m
tests.benchmarks.bench_step [--repeats N]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from eqprop_lab import EqPropTrainer, LoopedMLP, estimate_gradients
from eqprop_lab.devices import capability
from eqprop_lab.equilibrium.gradients import Settings, estimate
from eqprop_lab.equilibrium.sigma_vector import tracked
from eqprop_lab.quick_tanh import NUMPY, WAY
from tests.benchmarks.store import write_result

FREE, NUDGED = 30, 10


def products(batch: int, hidden: int) -> Callable[[], None]:
    """Exactly the matrix products of the step, into preallocated results."""
    x, h, pair = torch.rand(batch, 784), torch.rand(batch, hidden), torch.rand(2 * batch, hidden)
    w_in, w, w_out = torch.rand(hidden, 784), torch.rand(hidden, hidden), torch.rand(10, hidden)
    u, a, z = torch.empty(batch, hidden), torch.empty(2 * batch, hidden), torch.empty(2 * batch, 10)
    g_in, g, g_out = torch.empty(hidden, 784), torch.empty(hidden, hidden), torch.empty(10, hidden)

    def run() -> None:
        torch.mm(x, w_in.T, out=u)
        for _ in range(FREE):
            torch.mm(h, w.T, out=u)
        for _ in range(NUDGED):
            torch.mm(pair, w.T, out=a)
            torch.mm(pair, w_out.T, out=z)
            torch.mm(z, w_out, out=a)
        torch.mm(h.T, x, out=g_in)
        torch.mm(h.T, h, out=g)
        torch.mm(z[:batch].T, h, out=g_out)

    return run


def step(batch: int, hidden: int) -> Callable[[], None]:
    """The step users get from the trainer."""
    model = LoopedMLP(784, hidden, 10, seed=0)
    trainer = EqPropTrainer(model, "centered", lr=1e-3, free_steps=FREE, nudged_steps=NUDGED)
    x, y = torch.rand(batch, 784), torch.randint(0, 10, (batch,))

    def run() -> None:
        trainer.train_batch(x, y)

    return run


def gradients(batch: int, hidden: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """(`estimate_gradients`, the trainer's own way) to the same gradients."""
    model = LoopedMLP(784, hidden, 10, seed=0)
    settings = Settings(free_steps=FREE, nudged_steps=NUDGED)
    x, y = torch.rand(batch, 784), torch.randint(0, 10, (batch,))

    def inside() -> None:
        with tracked():
            estimate(model, x, y, "centered", settings)

    how = {"free_steps": FREE, "nudged_steps": NUDGED}
    return lambda: estimate_gradients(model, x, y, "centered", **how), inside


def measure(batch: int, hidden: int, repeats: int) -> list[float]:
    """Median CPU seconds of (step, products, estimate_gradients, trainer's), interleaved."""
    runs = step(batch, hidden), products(batch, hidden), *gradients(batch, hidden)
    seconds: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 5):
        for run, into in zip(runs, seconds, strict=True):
            start = time.process_time()
            run()
            if repeat >= 5:
                into.append(time.process_time() - start)
    return [statistics.median(values) for values in seconds]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    repeats = options.repeats
    torch.set_num_threads(1)
    rows = []
    for batch, hidden in ((64, 256), (256, 512)):
        took, bare, called, inside = measure(batch, hidden, repeats)
        times = f"step {1e3 * took:.2f} ms, products {1e3 * bare:.2f} ms"
        print(
            f"784-{hidden}-10, batch {batch}: {times}, ratio {took / bare:.2f}; "
            f"estimate_gradients over the trainer's way {called / inside:.3f}"
        )
        ratios = {"ratio": round(took / bare, 3), "estimate_gradients": round(called / inside, 3)}
        milliseconds = {"step_ms": round(1e3 * took, 3), "products_ms": round(1e3 * bare, 3)}
        rows.append({"hidden": hidden, "batch": batch} | ratios | milliseconds)
    head = {"capability": capability(), "load": f"{os.getloadavg()[0]:.0f} runnable"}
    write_result(
        "step_avx512" if WAY == NUMPY else "step_avx2",
        head | {"free_steps": FREE, "nudged_steps": NUDGED, "repeats": repeats, "rows": rows},
        options.out,
    )


if __name__ == "__main__":
    main()

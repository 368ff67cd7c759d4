"""How much a centered step of `EqPropKernel` costs beside its own matrix products and beside the
torch path: one process, interleaved, CPU time, median.

    ratio = time(step) / time(products)
    step  = 30 free + 10 nudged relaxations + gradients + Adam

The products are those of `bench_step`, by NumPy; the kernel's first nudged step does with half of
its own. `kernel_sigmoid` has torch's logistic function handed in, `use_kernel` is the trainer's
step with the kernel's gradients. The capability of the CPU is a part of the result's name: an
AVX-512 machine behaves like another with ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2
OPENBLAS_CORETYPE=Haswell and AVX-512 among NumPy's NPY_DISABLE_CPU_FEATURES.
`python -m tests.benchmarks.bench_kernel [--repeats N]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from eqprop_lab import EqPropKernel, EqPropTrainer, LoopedMLP, quick_tanh
from eqprop_lab.training.kernel_gradients import TORCH_SHIFTED, TORCH_SIGMOID
from tests.benchmarks.bench_step import FREE, NUDGED
from tests.benchmarks.store import write_result

WARM = 4
Run = Callable[[], object]


def products(batch: int, hidden: int) -> Run:
    """Exactly the matrix products of the step, into preallocated results."""
    made = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return made.standard_normal(shape, dtype=np.float32)

    x, h, pair = some(batch, 784), some(batch, hidden), some(2 * batch, hidden)
    w_in, w, w_out = some(hidden, 784), some(hidden, hidden), some(10, hidden)
    u, a, z = some(batch, hidden), some(2 * batch, hidden), some(2 * batch, 10)
    g_in, g, g_out = some(hidden, 784), some(hidden, hidden), some(10, hidden)

    def run() -> None:
        np.matmul(x, w_in.T, out=u)
        for _ in range(FREE):
            np.matmul(h, w, out=u)
        for _ in range(NUDGED):
            np.matmul(pair, w, out=a)
            np.matmul(pair, w_out.T, out=z)
            np.matmul(z, w_out, out=a)
        np.matmul(h.T, x, out=g_in)
        np.matmul(h.T, h, out=g)
        np.matmul(z[:batch].T, h, out=g_out)

    return run


def steps(batch: int, hidden: int) -> dict[str, Run]:
    """What is compared, by name."""
    x, y = torch.rand(batch, 784), torch.randint(0, 10, (batch,))
    kernel = EqPropKernel(784, hidden, 10, seed=0, free_steps=FREE, nudged_steps=NUDGED)
    handed = EqPropKernel(
        784, hidden, 10, seed=0, free_steps=FREE, nudged_steps=NUDGED,
        free_units=TORCH_SIGMOID, nudged_units=TORCH_SHIFTED,
    )  # fmt: skip
    trainers = {
        name: EqPropTrainer(
            LoopedMLP(784, hidden, 10, seed=0), "centered", free_steps=FREE, nudged_steps=NUDGED,
            use_kernel=on,
        )
        for name, on in (("torch", False), ("use_kernel", True))
    }  # fmt: skip
    return {
        "products": products(batch, hidden),
        "kernel": lambda: kernel.train_step(x.numpy(), y.numpy()),
        "torch": lambda: trainers["torch"].train_batch(x, y),
        "kernel_sigmoid": lambda: handed.train_step(x.numpy(), y.numpy()),
        "use_kernel": lambda: trainers["use_kernel"].train_batch(x, y),
    }


def measure(batch: int, hidden: int, repeats: int) -> dict[str, float]:
    """Median CPU seconds of each, interleaved."""
    runs = steps(batch, hidden)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + WARM):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(took[WARM:]) for name, took in seconds.items()}


def main() -> None:
    """Print the table and store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "use_kernel=True computes with NumPy", UserWarning)
    rows = []
    for batch, hidden in ((64, 256), (256, 512)):
        took = measure(batch, hidden, options.repeats)
        row = {name: round(value / took["products"], 3) for name, value in took.items()}
        del row["products"]
        print(f"784-{hidden}-10, batch {batch}: over products {row}")
        milliseconds = {f"{name}_ms": round(1e3 * value, 3) for name, value in took.items()}
        rows.append({"hidden": hidden, "batch": batch} | row | milliseconds)
    torch_has = torch.backends.cpu.get_cpu_capability()
    numpy_has = "AVX512" if quick_tanh.WAY == quick_tanh.NUMPY else "AVX2 or less"
    kind = "avx512" if quick_tanh.WAY == quick_tanh.NUMPY and "512" in torch_has else "avx2"
    head = {"torch_capability": torch_has, "numpy_tanh": numpy_has}
    head["load"] = f"{os.getloadavg()[0]:.0f} runnable on {os.cpu_count()} cores"
    write_result(
        f"kernel_{kind}",
        head | {"free_steps": FREE, "nudged_steps": NUDGED, "repeats": options.repeats}
        | {"rows": rows},
        options.out,
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""What a centered step costs: its time beside that of its own matrix products, and its memory.

    products of a step = 2 BDH + (T + 2 T' + 1) BH^2 + (4 T' + 2) BHK    multiplications

T free and T' nudged steps of both signs at once (the kernel does with one sign less in the first
of them: that is counted for its speed); BPTT goes through the T steps of a free phase.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from eqprop_lab.instruments.memory import MIB, estimate_memory_usage
from eqprop_lab.kernel import EqPropKernel
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.validation import positive_int

Run = Callable[[], object]
WARM = 2


@dataclass(frozen=True)
class Size:
    """A net `features`-`hidden`-`classes` and a batch; T' is a third of the `steps` T, or 1."""

    hidden: int
    steps: int
    batch: int = 64
    features: int = 784
    classes: int = 10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            positive_int(name, value)

    @property
    def phases(self) -> dict[str, Any]:
        """{"free_steps": T, "nudged_steps": T'}."""
        return {"free_steps": self.steps, "nudged_steps": max(1, self.steps // 3)}

    @property
    def layers(self) -> tuple[int, int, int]:
        """Inputs, hidden units, classes."""
        return self.features, self.hidden, self.classes

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (B, D) in float32 and labels (B,), the same at every call."""
        rng = np.random.default_rng(0)
        x = rng.random((self.batch, self.features), dtype=np.float32)
        return x, rng.integers(0, self.classes, self.batch)


def products(size: Size) -> Run:
    """The matrix products of a centered step and nothing else, into arrays that are there."""
    made = np.random.default_rng(0)
    batch, (features, hidden, classes), phases = size.batch, size.layers, size.phases

    def some(*shape: int) -> np.ndarray:
        return made.standard_normal(shape, dtype=np.float32)

    x, h, pair = some(batch, features), some(batch, hidden), some(2 * batch, hidden)
    w_in, w, w_out = some(hidden, features), some(hidden, hidden), some(classes, hidden)
    u, a, z = np.empty_like(h), np.empty_like(pair), some(2 * batch, classes)
    slopes = [np.empty_like(weight) for weight in (w_in, w, w_out)]

    def run() -> None:
        np.matmul(x, w_in.T, out=u)
        for _ in range(phases["free_steps"]):
            np.matmul(h, w, out=u)
        for _ in range(phases["nudged_steps"]):
            np.matmul(pair, w, out=a)
            np.matmul(pair, w_out.T, out=z)
            np.matmul(z, w_out, out=a)
        np.matmul(h, w_out.T, out=z[:batch])
        np.matmul(h.T, x, out=slopes[0])
        np.matmul(h.T, h, out=slopes[1])
        np.matmul(z[:batch].T, h, out=slopes[2])

    return run


def training_steps(size: Size) -> dict[str, Run]:
    """One training step each by the kernel, by torch and by BPTT, with Adam, on the same batch."""
    x, y = size.samples()
    kernel = EqPropKernel(*size.layers, seed=0, **size.phases)
    runs: dict[str, Run] = {"kernel": lambda: kernel.train_step(x, y)}
    for name, gradient in (("torch", "centered"), ("bptt", "bptt")):
        model = LoopedMLP(*size.layers, seed=0)
        trainer = EqPropTrainer(model, gradient, progress=False, **size.phases)
        batch = torch.from_numpy(x), torch.from_numpy(y)
        runs[name] = lambda trainer=trainer, batch=batch: trainer.train_batch(*batch)  # type: ignore[misc]
    return runs


def milliseconds(
    runs: Mapping[str, Run], repeats: int = 5, pause: Run = lambda: None
) -> dict[str, float]:
    """CPU milliseconds of each, the median of `repeats`, taken in turn so that all share the load.

    pause: called between runs; what it raises ends the measurement.
    """
    positive_int("repeats", repeats)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with warnings.catch_warnings(action="ignore"):  # a few steps settle nothing, and say so
        for _ in range(WARM + repeats):
            for name, run in runs.items():
                start = time.process_time()
                run()
                seconds[name].append(time.process_time() - start)
                pause()
    return {name: 1e3 * statistics.median(taken[WARM:]) for name, taken in seconds.items()}


def kernel_memory(size: Size) -> float:
    """MiB at the peak of a training step of the kernel: parameters, optimiser, batch, all buffers.

    NumPy reports its arrays to tracemalloc; what others allocate meanwhile counts as well.
    """
    tracemalloc.start()
    try:
        x, y = size.samples()
        kernel = EqPropKernel(*size.layers, seed=0, **size.phases)
        kernel.train_step(x, y)  # makes the buffers
        tracemalloc.reset_peak()
        kernel.train_step(x, y)
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def torch_memory(size: Size, gradient: str) -> float:
    """MiB at the peak of a training step of LoopedMLP by this estimator, by the package's count."""
    model = LoopedMLP(*size.layers, seed=0)
    with warnings.catch_warnings(action="ignore"):
        found = estimate_memory_usage(model, (size.features,), size.batch, gradient, **size.phases)
    return found["total_mb"]


def step_costs(size: Size, repeats: int = 5, pause: Run = lambda: None) -> dict[str, Any]:
    """One row: hidden, steps; kernel, products, torch and bptt in CPU ms; memory of two in MiB.

    Raises what `pause` raises, which is called every step.
    """
    runs = {"products": products(size)} | training_steps(size)
    taken = milliseconds(runs, repeats, pause)
    row: dict[str, Any] = {"hidden": size.hidden, "steps": size.steps}
    row |= {f"{name}_ms": round(value, 4) for name, value in taken.items()}
    pause()
    row["kernel_mib"] = round(kernel_memory(size), 3)
    pause()
    return row | {"bptt_mib": round(torch_memory(size, "bptt"), 3)}

"""How much a training step of a predictive coding network costs beside backprop of the same net.

    ratio = time(step by one sweep) / time(step by autograd)

Both are the trainer's, with Adam, of the same layers (`FeedforwardMLP`, `FeedforwardConv`), beside
them PyTorch's own modules (`BackpropMLP`, `BackpropCNN`). One process, interleaved, CPU time,
median. `python -m tests.benchmarks.bench_predictive_coding [--repeats N]`; with
ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 for the second file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqprop_lab import BackpropCNN, BackpropMLP, EqPropTrainer
from eqprop_lab.devices import capability
from eqprop_lab.models import FeedforwardConv, FeedforwardMLP, PredictiveConv, PredictiveMLP
from tests.benchmarks.bench_conv import interleaved
from tests.benchmarks.store import write_result

BATCH = 100
FLOORS, AIMS = {"dense": 1.3, "conv": 1.6}, {"dense": 1.15, "conv": 1.3}
NETWORKS: dict[str, Callable[[], tuple[nn.Module, nn.Module, nn.Module]]] = {
    "dense": lambda: (
        PredictiveMLP(784, 256, 10, seed=0),
        FeedforwardMLP(784, 256, 10, seed=0),
        BackpropMLP(784, 256, 10, seed=0),
    ),
    "conv": lambda: (
        PredictiveConv(1, 32, 10, seed=0),
        FeedforwardConv(1, 32, 10, seed=0),
        BackpropCNN(1, 32, 10, seed=0),
    ),
}


def steps(name: str, batch: int = BATCH) -> list[Callable[[], Any]]:
    """One training step of each network, on the same images."""
    images = torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    y = torch.arange(batch) % 10

    def step(model: nn.Module, gradient: str) -> Callable[[], Any]:
        trainer = EqPropTrainer(model, gradient, "adam", 1e-3, progress=False)
        return lambda: trainer.train_batch(images, y)

    sources = ("centered", "autograd", "autograd")
    return [step(model, way) for model, way in zip(NETWORKS[name](), sources, strict=True)]


def measured(name: str, repeats: int) -> dict[str, float]:
    """Milliseconds of the three steps, and the two ratios."""
    sweep, twin, plain = interleaved(steps(name), repeats)
    times = {"sweep_ms": 1e3 * sweep, "twin_ms": 1e3 * twin, "plain_ms": 1e3 * plain}
    ratios = {"ratio": sweep / twin, "ratio_plain": sweep / plain}
    return {key: round(value, 3) for key, value in (times | ratios).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = {name: measured(name, given.repeats) for name in NETWORKS}
    for name, figures in found.items():
        print(
            f"{name}: step {figures['sweep_ms']:.2f} ms, twin {figures['twin_ms']:.2f} ms, ratio "
            f"{figures['ratio']:.2f} (floor {FLOORS[name]}, aim {AIMS[name]}), beside PyTorch's "
            f"modules {figures['ratio_plain']:.2f}"
        )
    told = capability()
    head = {"capability": told, "load": f"{os.getloadavg()[0]:.0f} runnable", "batch": BATCH}
    limits = {"floors": FLOORS, "aims": AIMS, "repeats": given.repeats}
    file = (
        "predictive_coding_avx512"
        if "AVX512" in told.partition(",")[0]
        else ("predictive_coding_avx2")
    )
    write_result(file, head | limits | found, given.out)


if __name__ == "__main__":
    main()

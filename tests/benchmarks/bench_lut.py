"""What a training step of a LUT network costs, beside torchlogix's nearest nodes where that is
installed.

    step = forward + backward + Adam, two layers of 1000 six-input nodes on 256 bits, batch 128

One process, one thread, the candidates in turn, CPU time, median; then other widths, whose times
give the exponent p of time ~ width^p, tensor memory of a step beside its parameters, and samples a
second of the hard network. `python -m tests.benchmarks.bench_lut [--repeats N]`; torchlogix comes
with the extra `bench`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import math
import statistics
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.acceleration import keep_freed_memory
from eqprop_lab.datasets import DataUnavailable, build_dataset
from eqprop_lab.instruments.live_bytes import MemoryTimeline
from eqprop_lab.lut import ModelConfig, SimpleFeedForward, build_model
from eqprop_lab.lut.compiled import CompiledNetwork
from eqprop_lab.lut.packed import PackedNetwork
from tests.benchmarks.store import write_result

BITS, PINS, BATCH, CLASSES = 256, 6, 128, 10
WIDTHS = (500, 1000, 2000, 4000)
# ours, and the node of torchlogix that is nearest to it
NEAREST = {"probabilistic": "light", "dwn": "light", "warp": "warp"}
Run = Callable[[], object]


def ours(node: str, width: int) -> SimpleFeedForward:
    """Two layers on BITS bits."""
    config = ModelConfig(
        "feedforward", "random", node, {"name": "thermometer", "num_bits": 1},
        PINS, [width, width], CLASSES, input_size=BITS, seed=0,
    )  # fmt: skip
    model = SimpleFeedForward(config)
    model.fit_encoder(torch.tensor([[0.0] * BITS, [1.0] * BITS]))
    return model


def torchlogix_layers() -> Any:
    """Its module of layers. Raises ImportError where it is not installed.

    Its file `circuit`, the export to C, is no Python before 3.12; layers do not use it.
    """
    if sys.version_info < (3, 12) and importlib.util.find_spec("torchlogix"):
        absent = types.ModuleType("torchlogix.circuit")
        absent.Circuit = None  # type: ignore[attr-defined]
        sys.modules.setdefault(absent.__name__, absent)
    return importlib.import_module("torchlogix.layers")


def theirs(parametrization: str, width: int) -> nn.Module:
    """The same network of torchlogix."""
    layers = torchlogix_layers()
    how: dict[str, Any] = {"parametrization": parametrization, "lut_rank": PINS}
    return nn.Sequential(
        layers.LogicDense(BITS, width, **how),
        layers.LogicDense(width, width, **how),
        layers.GroupSum(CLASSES, tau=math.sqrt(width / CLASSES)),
    )


def stepping(model: nn.Module) -> Run:
    """One training step of a model on random bits."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = (torch.rand(BATCH, BITS) < 0.5).float(), torch.randint(CLASSES, (BATCH,))

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def timed(runs: Mapping[str, Run], repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of each, measured in turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _, (name, run) in itertools.product(range(repeats), runs.items()):
        start = time.process_time()
        run()
        found[name].append(1e3 * (time.process_time() - start))
    return {name: float(f"{statistics.median(times):.4g}") for name, times in found.items()}


def exponent(times: Mapping[int, float]) -> float:
    """p of time ~ width^p, by least squares of the logarithms."""
    widths, values = torch.tensor([[math.log(w), math.log(t)] for w, t in times.items()]).t()
    widths = widths - widths.mean()
    return float(f"{float(widths @ values / (widths @ widths)):.3g}")


def extra_megabytes(node: str, width: int) -> float:
    """Largest memory of the tensors that a step makes: all but parameters and Adam's state."""
    step = stepping(ours(node, width))
    step()
    with MemoryTimeline() as timeline:
        step()
    return float(f"{timeline.peak / 2**20:.3g}")


def hard_networks(model: SimpleFeedForward) -> tuple[dict[str, PackedNetwork], dict[str, str]]:
    """The hard network in words and in C, and the reason where there is no compiler."""
    found = {"packed": PackedNetwork(model)}
    try:
        found["compiled"] = CompiledNetwork(model)
    except RuntimeError as error:
        return found, {"compiled": str(error)}
    return found, {}


def hard_rates(width: int, samples: int = 4096) -> dict[str, Any]:
    """Samples a second of the hard network, one thread: torch's look-ups, 64 a word, the kernel in
    C; the last one is the reason where there is no compiler.
    """
    model = ours("probabilistic", width).eval()
    networks, reason = hard_networks(model)
    x: Tensor = (torch.rand(samples, BITS) < 0.5).float()
    array = x.numpy()
    runs: dict[str, Run] = {"torch": lambda: model(x)}
    runs |= {name: partial(network.counts, array) for name, network in networks.items()}
    with torch.no_grad():
        times = timed(runs, 5)
    for name, network in networks.items():
        if wrong := network.mismatches(model, x):
            raise RuntimeError(f"{wrong} of {samples} samples differ between torch and {name}")
    rates = {name: float(f"{1e3 * samples / value:.3g}") for name, value in times.items()}
    return rates | reason


def exactness(samples: int = 10_000) -> dict[str, dict[str, int]]:
    """How many samples of the shipped networks have other counts in words and in C than in torch:
    random ones, and all test images of the data that are here.
    """
    found = {}
    for name in ("digits_small", "mnist_small", "mnist_large"):
        model = build_model(name)
        assert isinstance(model, SimpleFeedForward)
        features = model.encoder.features
        inputs = {"random": 1.2 * torch.rand(samples, features) - 0.1}
        with suppress(DataUnavailable):
            inputs["test"] = build_dataset(str(model.config.dataset)).test.x
        networks, _ = hard_networks(model)
        found[name] = {
            f"{type(network).__name__}, {len(x)} {kind}": network.mismatches(model, x)
            for network in networks.values()
            for kind, x in inputs.items()
        }
    return found


def bench(repeats: int, widths: Sequence[int]) -> dict[str, Any]:
    """The whole result."""
    runs = {node: stepping(ours(node, 1000)) for node in NEAREST}
    reason = None
    try:
        runs |= {
            f"torchlogix {name}": stepping(theirs(name, 1000))
            for name in sorted(set(NEAREST.values()))
        }
    except ImportError as error:
        reason = f"not compared: {error}; pip install 'eqprop_lab[bench]'"
    times = timed(runs, repeats)
    ratios = {
        node: float(f"{times[node] / times[f'torchlogix {near}']:.3g}")
        for node, near in NEAREST.items()
        if f"torchlogix {near}" in times
    }
    by_width = {
        width: timed({"step": stepping(ours("probabilistic", width))}, max(3, repeats // 4))["step"]
        for width in widths
    }
    return {
        "network": f"{BITS} bits, 1000-1000 nodes of {PINS} inputs, {CLASSES} classes",
        "batch": BATCH,
        "repeats": repeats,
        "step_ms": times,
        "ratio_to_torchlogix": ratios or reason,
        "step_ms_by_width": by_width,
        "width_exponent": exponent(by_width),
        "extra_mb": {node: extra_megabytes(node, 1000) for node in ("probabilistic", "dwn")},
        "hard_samples_per_second": hard_rates(1000),
        "mismatches": exactness(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--output", type=Path, default=None, help="folder, default results/ here")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    result = bench(given.repeats, given.widths)
    for name, value in result.items():
        print(f"{name}: {value}")
    device = f"CPU with {torch.backends.cpu.get_cpu_capability()}, 1 thread"
    write_result("lut", result, given.output, device)


if __name__ == "__main__":
    main()

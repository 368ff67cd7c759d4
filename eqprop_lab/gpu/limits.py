"""What a device can do at most, measured, and what a training step asks of it.

    time >= flops / rate of products,    time >= bytes / bandwidth

The bytes are those of every call's operands and results, each counted once: what caches hold is
read quicker than that, so that only the first of the two is a floor.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from eqprop_lab.gpu.cifar import Options

LARGE = {"cuda": 8192, "cpu": 1024}  # of the square products
COPIED = {"cuda": 2**30, "cpu": 2**26}  # bytes


def wait(device: torch.device) -> None:
    """Return when the device has done what it was handed; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds_of(
    run: Callable[[], object], device: torch.device, repeats: int = 20, warm: int = 3,
    limit: float = 1.5,
) -> float:  # fmt: skip
    """Median of so many calls, each waited for; fewer after `limit` seconds, one at least."""
    took: list[float] = []
    begin = time.perf_counter()
    for number in range(warm + repeats):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        took.append(time.perf_counter() - start)
        if number >= warm and time.perf_counter() - begin > limit:
            break
    return 1e3 * statistics.median(took[warm:])


def free_memory(device: torch.device) -> None:
    """Give back what caches of both libraries hold."""
    gc.collect()
    if device.type == "cuda":
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()


@lru_cache(maxsize=4)
def measured_limits(device: torch.device) -> dict[str, float]:
    """{"copy_gb_s", "fp32_tflop_s", "tf32_tflop_s"}: bytes read and written; square products."""
    found = {"copy_gb_s": _copy_rate(COPIED[device.type], device)}
    size = LARGE[device.type]
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    out = torch.empty_like(a)
    products: Any = torch.backends.cuda.matmul
    before = products.fp32_precision
    try:
        for name, precision in (("fp32_tflop_s", "ieee"), ("tf32_tflop_s", "tf32")):
            products.fp32_precision = precision
            took = milliseconds_of(lambda: torch.mm(a, b, out=out), device, 5, 2)
            found[name] = 2 * size**3 / took / 1e9
    finally:
        products.fp32_precision = before
    return found


def _copy_rate(size: int, device: torch.device) -> float:
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / milliseconds_of(lambda: target.copy_(source), device, 10) / 1e6


def device_limits(device: torch.device, options: Options | None = None) -> dict[str, Any]:
    """Figures of `measured_limits`."""
    found = measured_limits(device)
    free_memory(device)
    return {"ok": all(value > 0 for value in found.values()), **found}


def step_flops(
    features: int, hidden: int, classes: int, batch: int, free: int, nudged: int
) -> float:
    """Of the products of a centered step: drive, relaxations (two phases nudged), gradients."""
    both = 2 * batch
    relaxed = free * batch * hidden * hidden
    relaxed += nudged * both * (2 * hidden * classes + hidden * hidden)
    gradients = batch * hidden * (features + hidden + 2 * classes)
    return 2.0 * (batch * features * hidden + relaxed + gradients)


def step_bytes(
    features: int, hidden: int, classes: int, batch: int, free: int, nudged: int, size: int = 4
) -> float:
    """Read and written by the products, and by one elementwise pass a step (a, u in; h out)."""
    both, units = 2 * batch, hidden + classes
    state = batch * hidden
    relaxed = free * (2 * state + hidden * hidden + 3 * state)
    readout = both * hidden + hidden * classes + both * classes + 2 * both * classes
    nudge = both * units + units * hidden + 2 * state + 5 * state
    ends = 2 * (batch * features + hidden * features + state) + 2 * state + hidden * hidden
    return float(size) * (relaxed + nudged * (readout + nudge) + ends)


def against_limits(
    took_ms: float, shape: dict[str, int], limits: dict[str, float]
) -> dict[str, float]:
    """A step beside the limits; shape: the arguments of `step_flops`."""
    flops, moved = step_flops(**shape), step_bytes(**shape)
    floor = flops / limits["fp32_tflop_s"] / 1e9
    return {
        "gflop": flops / 1e9,
        "gbyte": moved / 1e9,
        "flop_floor_ms": floor,
        "byte_ms": moved / limits["copy_gb_s"] / 1e6,
        "share_of_fp32": floor / took_ms,
    }

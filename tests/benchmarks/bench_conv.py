"""How much a centered training step of ConvEqProp costs beside its own convolutions, and how much
memory it takes.

    ratio = time(step) / time(convolutions)
    step  = 6 free + 6 nudged sweeps + gradients + AdamW (no certificate)

convolutions (`needed`): the drive and the feed-forward start, up and down between the layers in
every sweep (2B images in the nudged phase), one gradient a weight; nothing else. One step is
watched and its calls are run again: the same kernels on the same tensors. One process, interleaved,
CPU time, median. Memory: the peak of all tensors alive in a step of 10, 100 and 1000 sweeps a
phase. `python -m tests.benchmarks.bench_conv [--repeats N] [--no-memory]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from eqprop_lab import ConvEqProp, EqPropTrainer
from eqprop_lab.devices import capability
from eqprop_lab.equilibrium.linear_maps import LinearMap
from eqprop_lab.instruments.live_bytes import MemoryTimeline
from eqprop_lab.quick_tanh import NUMPY, WAY
from tests.benchmarks.store import write_result

BATCH, FREE, NUDGED = 100, 6, 6
SWEEPS = (10, 100, 1000)
FLOOR, AIM = 1.5, 1.3
KINDS = {"aten::convolution": "up", "aten::convolution_backward": "gradient"}


@dataclass(frozen=True)
class Convolution:
    """One kind of work: "up", "down" (transposed) or "gradient" (of the weight), shapes of one
    image and the weight.
    """

    kind: str
    image: tuple[int, ...]
    weight: tuple[int, ...]


def needed(maps: Sequence[LinearMap], batch: int, free: int, nudged: int) -> Counter[Convolution]:
    """How many images each convolution of a centered step must see, for the maps from the input to
    the top layer.
    """
    first, *interior = maps
    images = Counter({Convolution("up", first.in_shape, first.weight_shape): batch})
    images[Convolution("gradient", first.out_shape, first.weight_shape)] += batch
    for linear in interior:
        # + 1 for the start: the feed-forward pass.
        images[Convolution("up", linear.in_shape, linear.weight_shape)] += batch * (
            free + 1 + 2 * nudged
        )
        images[Convolution("down", linear.out_shape, linear.weight_shape)] += batch * (
            free + 2 * nudged
        )
        images[Convolution("gradient", linear.out_shape, linear.weight_shape)] += 2 * batch
    return images


class Watch(TorchDispatchMode):
    """Notes every convolution of at least `batch` images: what it was, and how to run it again on
    the same tensors.

    Smaller ones follow the norm of the weights: a step would have its result without them.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.seen: Counter[Convolution] = Counter()
        self.calls: list[Callable[[], Any]] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        kind = KINDS.get(getattr(func, "_schema").name)  # noqa: B009 - OpOverload has it, Callable does not
        if kind is not None and len(args[0]) >= self.batch:
            weight = args[2] if kind == "gradient" else args[1]
            transposed = kind == "up" and bool(args[6])
            key = Convolution(
                "down" if transposed else kind, tuple(args[0].shape[1:]), tuple(weight.shape)
            )
            self.seen[key] += len(args[0])
            self.calls.append(lambda: func(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def differences(found: Counter[Convolution], expected: Counter[Convolution]) -> list[str]:
    """What a step does on more or fewer images than listed, one line each."""
    kinds = sorted({*found, *expected}, key=str)
    return [
        f"{k}: {found[k]} images, {expected[k]} listed" for k in kinds if found[k] != expected[k]
    ]


def make(batch: int, free: int, nudged: int) -> tuple[ConvEqProp, Callable[[], None]]:
    """(model, the step users get from the trainer)."""
    model = ConvEqProp(1, 32, 10, gamma=0.1, seed=0)
    trainer = EqPropTrainer(
        model, "centered", "adamw", 8e-3, free_steps=free, nudged_steps=nudged, progress=False
    )
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(batch, 1, 28, 28, generator=generator), torch.arange(batch) % 10

    def run() -> None:
        trainer.train_batch(x, y)

    return model, run


def convolutions(
    model: ConvEqProp, step: Callable[[], None], batch: int, free: int, nudged: int
) -> Callable[[], None]:
    """Only the convolutions of the step. Raises RuntimeError when they are others than `needed`."""
    with Watch(batch) as watch:
        step()
    maps = [layer.linear for layer in model._layers()]
    if wrong := differences(watch.seen, needed(maps, batch, free, nudged)):
        raise RuntimeError("the step's convolutions are not the listed ones:\n" + "\n".join(wrong))

    def run() -> None:
        with torch.no_grad():
            for call in watch.calls:
                call()

    return run


def interleaved(runs: Sequence[Callable[[], None]], repeats: int, warm: int = 3) -> list[float]:
    """Median CPU seconds of each run, taken in turns."""
    seconds: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + warm):
        for run, into in zip(runs, seconds, strict=True):
            start = time.process_time()
            run()
            if repeat >= warm:
                into.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def peak_bytes(batch: int, sweeps: int) -> int:
    """Most bytes of tensors alive within one step of `sweeps` sweeps a phase, parameters not
    counted.
    """
    _, step = make(batch, sweeps, sweeps)
    with MemoryTimeline() as timeline:
        step()
    return timeline.peak


def spread(values: Sequence[int]) -> float:
    """(largest - smallest) / smallest."""
    return (max(values) - min(values)) / min(values)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument(
        "--no-memory", action="store_true", help="the ratio only; nothing is stored"
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, step = make(BATCH, FREE, NUDGED)
    took, bare = interleaved(
        [step, convolutions(model, step, BATCH, FREE, NUDGED)], options.repeats
    )
    ratio = round(took / bare, 3)
    print(
        f"ConvEqProp(1, 32, 10), batch {BATCH}: step {1e3 * took:.1f} ms, "
        f"convolutions {1e3 * bare:.1f} ms, ",
        end="",
    )
    print(f"ratio {ratio:.2f} (floor {FLOOR}, aim {AIM})")
    if options.no_memory:
        return
    peaks = [peak_bytes(BATCH, sweeps) for sweeps in SWEEPS]
    for sweeps, peak in zip(SWEEPS, peaks, strict=True):
        print(f"{sweeps:5} sweeps a phase: peak {peak / 2**20:.2f} MiB")
    milliseconds = {"step_ms": round(1e3 * took, 3), "convolutions_ms": round(1e3 * bare, 3)}
    figures = {
        "batch": BATCH,
        "free_steps": FREE,
        "nudged_steps": NUDGED,
        "repeats": options.repeats,
    } | milliseconds
    head = {"capability": capability(), "load": f"{os.getloadavg()[0]:.0f} runnable"}
    memory = {"sweeps": SWEEPS, "peak_bytes": peaks, "spread": round(spread(peaks), 6)}
    result = figures | {"ratio": ratio, "floor": FLOOR, "aim": AIM, "memory": memory}
    write_result("conv_avx512" if WAY == NUMPY else "conv_avx2", head | result, options.out)


if __name__ == "__main__":
    main()

"""What a training step of an equilibrium language model costs beside its twin's, interleaved.

    ratio = time(step of the variant) / time(step of the twin)

One process, one thread, CPU time, median; the models, phases and batches of the stored runs
(`language_models`), random tokens. `python -m tests.benchmarks.bench_language_step [--repeats N]`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from eqprop_lab import EqPropTrainer
from tests.benchmarks.language_models import BATCH, TOKENS, VARIANTS, VOCABULARY, build, phases
from tests.benchmarks.store import write_result

WARM_UP = 3


def step(network: str, kind: str) -> Callable[[], None]:
    """The step users get from the trainer, on one batch."""
    trainer = EqPropTrainer(build(network, 0), lr=1e-3, clip_norm=1.0, **phases(network, kind))
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, VOCABULARY, (2, BATCH, TOKENS), generator=draw)

    def run() -> None:
        trainer.train_batch(x, y)

    return run


def seconds(run: Callable[[], None]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(network: str, kind: str, repeats: int) -> dict[str, float]:
    """Median milliseconds of both steps, taken in turn, and their ratio."""
    runs = step(network, kind), step(VARIANTS[network]["twin"], "backprop")
    for _ in range(WARM_UP):
        for run in runs:
            run()
    times = [[seconds(run) for run in runs] for _ in range(repeats)]
    own, twin = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    return {"ms": round(own, 1), "twin_ms": round(twin, 1), "ratio": round(ratio, 2)}


def main() -> None:
    """Measure, print and store every variant with both of its estimators."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, float | str]] = {}
    for network, known in VARIANTS.items():
        for kind in ("fast", "physical"):
            estimator = known[kind][0]
            row = {"estimator": estimator} | compare(network, kind, given.repeats)
            found[f"{network} {estimator}"] = row
            print(network, row, flush=True)
    result = {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "steps": found}
    write_result("language_step", result, given.output)


if __name__ == "__main__":
    main()

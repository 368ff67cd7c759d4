"""What data parallelism costs: a model of it, no measurement.

    t(R) = a + c B/R  +  2 (R - 1) (alpha + M / (R w))        R ranks, a batch of B samples

    a + c b   a step of one process on b samples: what is measured, a straight line in b
    M         bytes of the message of a step: gradients, and a cost and logits a sample
    alpha, w  seconds before a message begins, bytes a second after that

The sum over all ranks goes round a ring: 2 (R - 1) messages of M/R bytes each, one after the other.
Nothing overlaps: EqProp's gradient is there all at once, at the end of its last phase.
Sources: Hockney 1994, doi:10.1016/S0167-8191(06)80021-9 (alpha and bandwidth); Patarasuk and Yuan
2009, doi:10.1016/j.jpdc.2008.09.002 (no sum over ranks sends fewer bytes than a ring).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eqprop_lab.validation import positive_int, real, shown


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step of one process: `fixed`, and `sample` for every sample of its batch."""

    fixed: float
    sample: float

    def __post_init__(self) -> None:
        real("fixed", self.fixed, at_least=0.0)
        real("sample", self.sample, above=0.0)

    def of(self, samples: float | np.ndarray) -> np.ndarray:
        """Seconds of a step on so many samples."""
        return np.asarray(self.fixed + self.sample * np.asarray(samples, dtype=float))


@dataclass(frozen=True)
class Link:
    """What joins the ranks: latency alpha in seconds, bandwidth w in bytes a second."""

    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        real("latency", self.latency, at_least=0.0)
        real("bandwidth", self.bandwidth, above=0.0)

    def all_reduce(self, size: float, ranks: int | np.ndarray) -> np.ndarray:
        """Seconds until every rank has the sum of `size` bytes of each; 0 for one rank."""
        count = _ranks(ranks)
        real("size", size, at_least=0.0)
        return np.asarray(2 * (count - 1) * (self.latency + size / (count * self.bandwidth)))


def _ranks(ranks: int | np.ndarray) -> np.ndarray:
    """One count or many. Raises ValueError, TypeError."""
    try:
        counts = np.asarray(ranks, dtype=float)
    except (TypeError, ValueError):
        counts = np.asarray(math.nan)
    if not bool(np.all((counts >= 1) & (counts == np.floor(counts)) & np.isfinite(counts))):
        raise ValueError(f"ranks must be integers >= 1, got {shown(ranks)}")
    return counts


def message_bytes(parameters: int, batch: int, outputs: int, itemsize: int = 4) -> int:
    """Bytes of the vector that travels a step: gradients, and a cost and logits of every sample."""
    numbers = positive_int("parameters", parameters)
    rows = positive_int("batch", batch) * (1 + positive_int("outputs", outputs))
    return positive_int("itemsize", itemsize) * (numbers + rows)


def step_parts(
    step: StepTime, link: Link, batch: int, size: float, ranks: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds that a step of R ranks computes and communicates; the largest share counts."""
    share = np.ceil(positive_int("batch", batch) / _ranks(ranks))
    return step.of(share), link.all_reduce(size, ranks)


def speed_up(
    step: StepTime, link: Link, batch: int, size: float, ranks: int | np.ndarray
) -> np.ndarray:
    """t(1)/t(R) for the same batch: at most R; it falls again where messages take over."""
    compute, message = step_parts(step, link, batch, size, ranks)
    return np.asarray(step.of(batch) / (compute + message))


def measured_step(
    run: Callable[[int], object], batches: Sequence[int], repeats: int = 5
) -> StepTime:
    """The straight line through the CPU time of `run(samples)`, each the least of `repeats` runs.

    batches: two or more different counts of samples. Raises TypeError, ValueError.
    """
    sizes = [positive_int("batches", size) for size in batches]
    if len(set(sizes)) < 2:
        raise ValueError(f"batches must hold two different counts or more, got {sizes}")
    again = positive_int("repeats", repeats)
    times = [min(_seconds(run, size) for _ in range(again)) for size in sizes]
    # relative: else the largest batch alone would decide
    weights = 1 / np.asarray(times)
    sample, fixed = np.polyfit(sizes, times, 1, w=weights)
    # a line through noise may begin below nothing
    return StepTime(max(float(fixed), 0.0), max(float(sample), 1e-12))


def _seconds(run: Callable[[int], object], samples: int) -> float:
    start = time.process_time()
    run(samples)
    return max(time.process_time() - start, 1e-9)

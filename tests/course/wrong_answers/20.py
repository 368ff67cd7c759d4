"""Answers to the exercises of notebook 20 as learners give them."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from eqprop_lab.instruments import scaling
from tests.course.answers import right, wrong

Gradient = Callable[[Tensor, Tensor], Tensor]

# --- bytes_sent


@wrong("bytes_sent", "a message of the ring is a piece of the vector")
def the_whole_vector(parameters: int, batch: int, outputs: int, ranks: int) -> float:
    return 8 * (ranks - 1) * (parameters + batch * (outputs + 1))


@wrong("bytes_sent", "R - 1 neighbours on each way, not R")
def once_more(parameters: int, batch: int, outputs: int, ranks: int) -> float:
    return 2 * 4 * (parameters + batch * (outputs + 1))


@wrong("bytes_sent", "costs and logits travel with the gradients")
def gradients_only(parameters: int, batch: int, outputs: int, ranks: int) -> float:
    return 2 * (ranks - 1) * 4 * parameters / ranks


@wrong("bytes_sent", "bytes of a float32")
def numbers(parameters: int, batch: int, outputs: int, ranks: int) -> float:
    return 2 * (ranks - 1) * (parameters + batch * (outputs + 1)) / ranks


@wrong("bytes_sent", "it is half of what it should be")
def one_way(parameters: int, batch: int, outputs: int, ranks: int) -> float:
    return (ranks - 1) * 4 * (parameters + batch * (outputs + 1)) / ranks


@wrong("bytes_sent", "uses message_bytes; do it without")
def of_the_package(parameters: int, batch: int, outputs: int, ranks: int) -> float:
    message_bytes = scaling.message_bytes
    return 2 * (ranks - 1) * message_bytes(parameters, batch, outputs) / ranks


@right("bytes_sent")
def message_by_message(parameters: int, batch: int, outputs: int, ranks: int) -> float:
    piece = 4 * (parameters + batch + batch * outputs) / ranks
    return sum(piece for _ in range(2) for _ in range(ranks - 1))


# --- shared_gradient


@wrong("shared_gradient", "shares are not equal")
def plain_mean(gradient: Gradient, x: Tensor, y: Tensor, ranks: int) -> Tensor:
    shares = zip(x.tensor_split(ranks), y.tensor_split(ranks), strict=True)
    found = [gradient(a, b) for a, b in shares]
    return sum(found[1:], found[0]) / ranks


@wrong("shared_gradient", "weights that sum to one")
def plain_sum(gradient: Gradient, x: Tensor, y: Tensor, ranks: int) -> Tensor:
    shares = zip(x.tensor_split(ranks), y.tensor_split(ranks), strict=True)
    found = [gradient(a, b) for a, b in shares]
    return sum(found[1:], found[0])


@wrong("shared_gradient", "the samples that are left over count too")
def without_the_rest(gradient: Gradient, x: Tensor, y: Tensor, ranks: int) -> Tensor:
    size = len(x) // ranks
    cuts = [slice(r * size, (r + 1) * size) for r in range(ranks)]
    found = [gradient(x[c], y[c]) for c in cuts]
    return sum(found[1:], found[0]) / ranks


@wrong("shared_gradient", "a rank has room for")
def all_at_once(gradient: Gradient, x: Tensor, y: Tensor, ranks: int) -> Tensor:
    return gradient(x, y)


@wrong("shared_gradient", "uses whole; do it without")
def by_the_judge(gradient: Gradient, x: Tensor, y: Tensor, ranks: int) -> Tensor:
    return gradient.whole(x, y)  # type: ignore[attr-defined, no-any-return]


@right("shared_gradient")
def sample_by_sample(gradient: Gradient, x: Tensor, y: Tensor, ranks: int) -> Tensor:
    found = [gradient(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    return sum(found[1:], found[0]) / len(x)


# --- best_ranks

Best = tuple[float, float]


def least(batch: int, seconds: Callable[[int], float]) -> Best:
    best = min(range(1, batch + 1), key=seconds)
    return best, seconds(best)


@wrong("best_ranks", "every message of the ring waits for the latency")
def one_latency(
    fixed: float, sample: float, batch: int, size: float, latency: float, bandwidth: float
) -> Best:
    def seconds(r: int) -> float:
        sent = 2 * (r - 1) * size / r / bandwidth + (latency if r > 1 else 0)
        return fixed + sample * math.ceil(batch / r) + sent

    return least(batch, seconds)


@wrong("best_ranks", "the largest share counts")
def parts_of_samples(
    fixed: float, sample: float, batch: int, size: float, latency: float, bandwidth: float
) -> Best:
    def seconds(r: int) -> float:
        return fixed + sample * batch / r + 2 * (r - 1) * (latency + size / r / bandwidth)

    return least(batch, seconds)


@wrong("best_ranks", "a message of the ring is a piece of the vector")
def whole_vectors(
    fixed: float, sample: float, batch: int, size: float, latency: float, bandwidth: float
) -> Best:
    def seconds(r: int) -> float:
        share = math.ceil(batch / r)
        return fixed + sample * share + 2 * (r - 1) * (latency + size / bandwidth)

    return least(batch, seconds)


@wrong("best_ranks", "what is fixed is not shared")
def all_is_shared(
    fixed: float, sample: float, batch: int, size: float, latency: float, bandwidth: float
) -> Best:
    def seconds(r: int) -> float:
        share = math.ceil(batch / r)
        return fixed / r + sample * share + 2 * (r - 1) * (latency + size / r / bandwidth)

    return least(batch, seconds)


@right("best_ranks")
def by_trying(
    fixed: float, sample: float, batch: int, size: float, latency: float, bandwidth: float
) -> Best:
    times = [
        (fixed + sample * -(-batch // r) + 2 * (r - 1) * (latency + size / (r * bandwidth)), r)
        for r in range(1, batch + 1)
    ]
    return min(times)[1], min(times)[0]

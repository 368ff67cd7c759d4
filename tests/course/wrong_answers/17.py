"""Answers to the exercises of notebook 17 as learners give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.course.answers import right, wrong

Step = Callable[[Tensor], Tensor]

# --- store


@wrong("store", "a negative one too")
def largest_without_sign(w: Tensor, bits: int) -> Tensor:
    scale = w.max() / (2 ** (bits - 1) - 1)
    return (w / scale).round() * scale


@wrong("store", "one of the bits is the sign")
def no_sign(w: Tensor, bits: int) -> Tensor:
    scale = w.abs().max() / (2**bits - 1)
    return (w / scale).round() * scale


@wrong("store", "zero takes a place as well")
def one_too_many(w: Tensor, bits: int) -> Tensor:
    scale = w.abs().max() / 2 ** (bits - 1)
    return (w / scale).round() * scale


@wrong("store", "multiply the scale back")
def integers(w: Tensor, bits: int) -> Tensor:
    return (w / (w.abs().max() / (2 ** (bits - 1) - 1))).round()


@wrong("store", "nothing is rounded")
def unrounded(w: Tensor, bits: int) -> Tensor:
    scale = w.abs().max() / (2 ** (bits - 1) - 1)
    return (w / scale) * scale


@wrong("store", "scale = max |w| / Q")
def cut_off(w: Tensor, bits: int) -> Tensor:
    scale = w.abs().max() / (2 ** (bits - 1) - 1)
    return (w / scale).trunc() * scale


@right("store")
def in_steps(w: Tensor, bits: int) -> Tensor:
    levels = 2 ** (bits - 1) - 1
    return torch.round(w * levels / w.abs().max()) * w.abs().max() / levels


# --- bound


def moved(step: Step, state: Tensor) -> float:
    return float(torch.linalg.vector_norm(step(state) - state))


@wrong("bound", "one step is not the whole way")
def one_step(step: Step, state: Tensor, rho: float) -> float:
    return moved(step, state)


@wrong("bound", "sum to 1/(1 - rho)")
def over_rho(step: Step, state: Tensor, rho: float) -> float:
    return moved(step, state) / rho


@wrong("bound", "the bound behind the step")
def a_step_later(step: Step, state: Tensor, rho: float) -> float:
    return rho * moved(step, state) / (1 - rho)


@wrong("bound", "the square of the distance")
def squared(step: Step, state: Tensor, rho: float) -> float:
    return float((step(state) - state).square().sum()) / (1 - rho)


@wrong("bound", "one exact step")
def largest_entry(step: Step, state: Tensor, rho: float) -> float:
    return float((step(state) - state).abs().max()) / (1 - rho)


@right("bound")
def as_a_series(step: Step, state: Tensor, rho: float) -> float:
    return moved(step, state) * sum(rho**k for k in range(2000))


# --- product


def pairs(a: Tensor, w: Tensor) -> Tensor:
    return (a * w).reshape(-1, 2).sum(1)


@wrong("product", "that is the exact sum")
def exactly(a: Tensor, w: Tensor) -> float:
    return float((a * w).sum())


@wrong("product", "the sum of them is not")
def cut_at_the_end(a: Tensor, w: Tensor) -> float:
    return float((a * w).sum().clamp(-(2**15), 2**15 - 1))


@wrong("product", "a product fits, a pair may not")
def cut_before(a: Tensor, w: Tensor) -> float:
    return float((a * w).clamp(-(2**15), 2**15 - 1).sum())


@wrong("product", "neighbours are added")
def halves(a: Tensor, w: Tensor) -> float:
    return float((a * w).reshape(2, -1).sum(0).clamp(-(2**15), 2**15 - 1).sum())


@wrong("product", "it does not come round")
def round_the_clock(a: Tensor, w: Tensor) -> float:
    return float(pairs(a, w).to(torch.int16).sum())


@right("product")
def pair_by_pair(a: Tensor, w: Tensor) -> float:
    return float(sum(min(max(int(pair), -(2**15)), 2**15 - 1) for pair in pairs(a, w)))

"""Answers to the exercises of notebook 00 as learners give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eqprop_lab import LoopedMLP, estimate_gradients, relax
from tests.course.answers import right, wrong

Two = tuple[Tensor, Tensor]
Error = Callable[[float], float]

# --- relative_error


@wrong("relative_error", "absolute values are not lengths")
def mean_of_absolute_values(estimate: Tensor, exact: Tensor) -> float:
    return float((estimate - exact).abs().mean() / exact.abs().mean())


@wrong("relative_error", "absolute values are not lengths")
def l1_norm(estimate: Tensor, exact: Tensor) -> float:
    return float((estimate - exact).norm(p=1) / exact.norm(p=1))


@wrong("relative_error", "the largest entry is not the length")
def max_norm(estimate: Tensor, exact: Tensor) -> float:
    return float((estimate - exact).abs().max() / exact.abs().max())


@wrong("relative_error", "a root is missing")
def squares(estimate: Tensor, exact: Tensor) -> float:
    return float((estimate - exact).square().sum() / exact.square().sum())


@wrong("relative_error", "divide by a length, not by a fixed number")
def divided_by_five(estimate: Tensor, exact: Tensor) -> float:
    return float((estimate - exact).norm()) / 5


@wrong("relative_error", "divide by a length, not by a fixed number")
def not_relative(estimate: Tensor, exact: Tensor) -> Tensor:
    return (estimate - exact).norm()


@wrong("relative_error", "give it back with `return`")
def printed(estimate: Tensor, exact: Tensor) -> None:
    print((estimate - exact).norm() / exact.norm())


@wrong("relative_error", "is the `return` missing?")
def without_return(estimate: Tensor, exact: Tensor) -> None:
    (estimate - exact).norm() / exact.norm()


@wrong("relative_error", "is a mean or a sum over the first dimension missing?")
def unit_by_unit(estimate: Tensor, exact: Tensor) -> Tensor:
    return (estimate - exact) / exact


@wrong("relative_error", "in place")
def in_place(estimate: Tensor, exact: Tensor) -> Tensor:
    estimate -= exact
    return estimate.norm() / exact.norm()


@wrong("relative_error", "the same for every input")
def copied_number(estimate: Tensor, exact: Tensor) -> float:
    return 1.0


@right("relative_error")
def in_double_precision(estimate: Tensor, exact: Tensor) -> Tensor:
    return torch.linalg.vector_norm((estimate - exact).double()) / torch.linalg.vector_norm(exact)


@right("relative_error")
def by_sums(estimate: Tensor, exact: Tensor) -> Tensor:
    return ((estimate - exact).square().sum() / exact.square().sum()).sqrt().reshape(1)


# --- two_phases


def phases(
    model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int, fresh: bool = True
) -> tuple[Tensor, Tensor]:
    """Free and nudged state; with fresh=False the pull stays that of the free state."""
    with torch.no_grad():
        h = torch.zeros(len(x), model.hidden_dim)
        for _ in range(steps):
            h = torch.tanh(model.W_in(x) + model.W_rec(h))
        free = h
        for _ in range(steps):
            seen = h if fresh else free
            pull = (model.W_out(seen).softmax(1) - target) @ model.W_out.weight
            h = torch.tanh(model.W_in(x) + model.W_rec(h) - beta * pull)
        return free, h


@wrong("two_phases", "the sign is flipped")
def sign(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    moved = (nudged - free) / beta / len(x)
    return moved.T @ x, moved.sum(0)


@wrong("two_phases", "it is beta times what it should be")
def without_beta(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    return (free - nudged).T @ x / len(x), (free - nudged).mean(0)


@wrong("two_phases", "half of what it should be")
def two_beta(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    moved = (free - nudged) / (2 * beta)
    return moved.T @ x / len(x), moved.mean(0)


@wrong("two_phases", "the batch size times what it should be")
def summed(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    moved = (free - nudged) / beta
    return moved.T @ x, moved.sum(0)


@wrong("two_phases", "[0] of the answer: it is the batch size times")
def one_summed(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    moved = (free - nudged) / beta
    return moved.T @ x, moved.mean(0)


@wrong("two_phases", "is it transposed?")
def transposed(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    moved = (free - nudged) / (beta * len(x))
    return x.T @ moved, moved.sum(0)


@wrong("two_phases", "is the pull made anew at every step")
def stale_pull(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps, fresh=False)
    moved = (free - nudged) / (beta * len(x))
    return moved.T @ x, moved.sum(0)


@wrong("two_phases", "does each phase take `steps` steps?")
def four_steps(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, 4)
    moved = (free - nudged) / (beta * len(x))
    return moved.T @ x, moved.sum(0)


@wrong("two_phases", "contrast one with the free state")
def two_nudges(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    towards = phases(model, x, target, beta, steps)[1]
    away = phases(model, x, target, -beta, steps)[1]
    moved = (away - towards) / (2 * beta * len(x))
    return moved.T @ x, moved.sum(0)


@wrong("two_phases", "shape")
def sample_by_sample(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    moved = (free - nudged) / (beta * len(x))
    return moved.T @ x, moved


@wrong("two_phases", "estimate_gradients")
def of_the_package(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    found = estimate_gradients(model, x, target.argmax(1), "one_sided", beta)
    return found["W_in.weight"], found["W_in.bias"]


@wrong("two_phases", "a tuple of 2 is needed")
def bias_alone(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Tensor:
    free, nudged = phases(model, x, target, beta, steps)
    return (free - nudged).mean(0) / beta


@wrong("two_phases", "relax")
def with_relax(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free = relax(model, x, steps).state[0]
    return free.T @ x, free.sum(0)


@right("two_phases")
def by_outer_products(model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int) -> Two:
    free, nudged = phases(model, x, target, beta, steps)
    each = -(nudged - free)[:, :, None] * x[:, None, :] / beta
    return each.mean(0).double(), ((free - nudged) / beta).mean(0)


@right("two_phases")
def graph_kept(
    model: LoopedMLP, x: Tensor, target: Tensor, beta: float, steps: int
) -> list[Tensor]:
    h = free = torch.zeros(len(x), model.hidden_dim)
    for step in range(2 * steps):
        h = h.detach()
        free = h if step <= steps else free
        pull = (model.W_out(h).softmax(1) - target) @ model.W_out.weight
        h = torch.tanh(model.W_in(x) + model.W_rec(h) - (beta if step >= steps else 0) * pull)
    moved = (free - h) / (beta * len(x))
    return [moved.T @ x, moved.sum(0)]


# --- largest_beta


@wrong("largest_beta", "above the tolerance")
def first_bad(error: Error, tolerance: float) -> float:
    beta = 0.01
    while error(beta) <= tolerance:
        beta *= 1.2
    return beta


@wrong("largest_beta", "a larger beta would do, too")
def coarse_grid(error: Error, tolerance: float) -> float:
    return max(b for b in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0) if error(b) <= tolerance)


@wrong("largest_beta", "a larger beta would do, too")
def the_usual_one(error: Error, tolerance: float) -> float:
    return 0.03


@wrong("largest_beta", "not between 0.01 and 10")
def the_error(error: Error, tolerance: float) -> float:
    return error(0.01)


@wrong("largest_beta", "above the tolerance")
def square_law(error: Error, tolerance: float) -> float:
    return float(1.1 * 0.1 * (tolerance / error(0.1)) ** 0.5)


@right("largest_beta")
def by_doubling(error: Error, tolerance: float) -> Tensor:
    high = 0.01
    while error(high) <= tolerance:
        high *= 2
    low = high / 2
    while high - low > 0.005 * low:
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) <= tolerance else (low, middle)
    return torch.tensor(low)

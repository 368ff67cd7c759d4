"""Answers to the exercises of notebook 03 as learners give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eqprop_lab import LoopedMLP, estimate_gradients
from tests.course.answers import right, wrong

Estimate = Callable[[float], Tensor]
Gradient = dict[str, Tensor]
Two = tuple[Tensor, Tensor]

# --- best_beta


@wrong("best_beta", "the errors are equal there")
def equal_terms(curvature: float, rounding: float) -> float:
    return float((rounding / curvature) ** (1 / 3))


@wrong("best_beta", "upside down")
def upside_down(curvature: float, rounding: float) -> float:
    return float((2 * curvature / rounding) ** (1 / 3))


@wrong("best_beta", "is it the right root?")
def square_root(curvature: float, rounding: float) -> float:
    return float((rounding / (2 * curvature)) ** 0.5)


@wrong("best_beta", "the same for every input")
def one_hundredth(curvature: float, rounding: float) -> float:
    return 0.01


@wrong("best_beta", "the same for every input")
def five_hundredths(curvature: float, rounding: float) -> float:
    return 0.05


@wrong("best_beta", "give it back with `return`")
def printed(curvature: float, rounding: float) -> None:
    print((rounding / (2 * curvature)) ** (1 / 3))


@wrong("best_beta", "is the derivative of the sum zero there?")
def no_root(curvature: float, rounding: float) -> float:
    return rounding / (2 * curvature)


@wrong("best_beta", "half of what it should be")
def half(curvature: float, rounding: float) -> float:
    return float((rounding / (16 * curvature)) ** (1 / 3))


@right("best_beta")
def by_trying(curvature: float, rounding: float) -> Tensor:
    betas = 10 ** torch.linspace(-6, 1, 100_000, dtype=torch.float64)
    return betas[torch.argmin(curvature * betas.square() + rounding / betas)]


# --- two_phase_gradient


def states(
    model: LoopedMLP,
    x: Tensor,
    target: Tensor,
    free: Tensor,
    beta: float,
    steps: int,
    fresh: bool = True,
) -> Tensor:
    """The nudged state; with fresh=False the pull stays that of the free state."""
    h = free
    with torch.no_grad():
        for _ in range(steps):
            seen = h if fresh else free
            pull = (model.W_out(seen).softmax(1) - target) @ model.W_out.weight
            h = torch.tanh(model.W_in(x) + model.W_rec(h) - beta * pull)
    return h


def assembled(
    model: LoopedMLP,
    x: Tensor,
    target: Tensor,
    free: Tensor,
    high: Tensor,
    low: Tensor,
    apart: float,
) -> Gradient:
    """The right contrast of two states that are `apart` from each other."""
    scale = -1 / (apart * len(x))
    moved = scale * (high - low)
    with torch.no_grad():
        surprise = (model.W_out(free).softmax(1) - target) / len(x)
    return {
        "W_in.weight": moved.T @ x,
        "W_in.bias": moved.sum(0),
        "W_rec.weight": scale / 2 * (high.T @ high - low.T @ low),
        "W_rec.bias": moved.sum(0),
        "W_out.weight": surprise.T @ free,
        "W_out.bias": surprise.sum(0),
    }


def centered(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps) for b in (beta, -beta))
    return assembled(model, x, target, free, high, low, 2 * beta)


@wrong("two_phase_gradient", "the sign is flipped; the rest is right")
def swapped_phases(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps) for b in (-beta, beta))
    return assembled(model, x, target, free, high, low, 2 * beta)


@wrong("two_phase_gradient", "it is beta times what it should be; the rest is right")
def without_beta(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps) for b in (beta, -beta))
    return assembled(model, x, target, free, high, low, 2.0)


@wrong("two_phase_gradient", "it is twice what it should be; the rest is right")
def without_two(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps) for b in (beta, -beta))
    return assembled(model, x, target, free, high, low, beta)


@wrong("two_phase_gradient", "it is the batch size times what it should be")
def summed(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    found = centered(model, x, target, free, beta, steps)
    return {name: len(x) * value for name, value in found.items()}


@wrong("two_phase_gradient", "['W_out.weight'], ['W_out.bias'] of the answer: it is the batch size")
def readout_summed(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    found = centered(model, x, target, free, beta, steps)
    return {n: len(x) * v if n.startswith("W_out") else v for n, v in found.items()}


@wrong("two_phase_gradient", "['W_rec.weight'] of the answer: it is twice what it should be")
def lost_half(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    found = centered(model, x, target, free, beta, steps)
    return found | {"W_rec.weight": 2 * found["W_rec.weight"]}


@wrong("two_phase_gradient", "dL/dW symmetric?")
def one_end_moves(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps) for b in (beta, -beta))
    found = assembled(model, x, target, free, high, low, 2 * beta)
    moved = (low - high) / (2 * beta * len(x))
    return found | {"W_rec.weight": moved.T @ free}


@wrong("two_phase_gradient", "one state is free")
def one_sided(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high = states(model, x, target, free, beta, steps)
    return assembled(model, x, target, free, high, free, beta)


@wrong("two_phase_gradient", "one state is free")
def one_sided_halved(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high = states(model, x, target, free, beta, steps)
    return assembled(model, x, target, free, high, free, 2 * beta)


@wrong("two_phase_gradient", "have not settled")
def one_step(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    return centered(model, x, target, free, beta, 1)


@wrong("two_phase_gradient", "is the pull made anew in each step")
def ten_steps(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    return centered(model, x, target, free, beta, 10)


@wrong("two_phase_gradient", "is the pull made anew in each step")
def stale_pull(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps, fresh=False) for b in (beta, -beta))
    return assembled(model, x, target, free, high, low, 2 * beta)


@wrong("two_phase_gradient", "do not divide it by the batch size")
def nudge_of_the_mean(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b / len(x), steps) for b in (beta, -beta))
    return assembled(model, x, target, free, high, low, 2 * beta / len(x))


@wrong("two_phase_gradient", "it is zero in every case; the rest is right")
def readout_contrasted(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    found = centered(model, x, target, free, beta, steps)
    return {n: torch.zeros_like(v) if n.startswith("W_out") else v for n, v in found.items()}


@wrong("two_phase_gradient", "the read-out's state free")
def readout_nudged(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps) for b in (beta, -beta))
    found = assembled(model, x, target, high, high, low, 2 * beta)
    return found


@wrong("two_phase_gradient", "is it transposed?")
def transposed(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    found = centered(model, x, target, free, beta, steps)
    return {name: value.T if value.ndim == 2 else value for name, value in found.items()}


@wrong("two_phase_gradient", "is needed")
def hidden_alone(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    found = centered(model, x, target, free, beta, steps)
    return {name: value for name, value in found.items() if not name.startswith("W_out")}


@wrong("two_phase_gradient", "estimate_gradients")
def of_the_package(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    return estimate_gradients(model, x, target, "centered", beta, 120, steps)


@right("two_phase_gradient")
def by_differences_and_means(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Gradient:
    high, low = (states(model, x, target, free, b, steps) for b in (beta, -beta))
    difference, mean = (high - low) / 2, (high + low) / 2
    found = assembled(model, x, target, free, high, low, 2 * beta)
    by_w = torch.einsum("bi,bj->ij", difference, mean)
    return found | {"W_rec.weight": -(by_w + by_w.T) / (2 * beta * len(x))}


# --- better_gradient


@wrong("better_gradient", "made of something else")
def a_fifth(estimate: Estimate, beta: float) -> Tensor:
    return estimate(beta / 5)


@wrong("better_gradient", "made of something else")
def nearly_exact(estimate: Estimate, beta: float) -> Tensor:
    return estimate(1e-5)


@wrong("better_gradient", "divides its error by 4.0 only")
def half_the_nudge(estimate: Estimate, beta: float) -> Tensor:
    return estimate(beta / 2)


@wrong("better_gradient", "divides its error by 4.0 only")
def plain_mean(estimate: Estimate, beta: float) -> Tensor:
    return (estimate(beta) + estimate(beta / 2)) / 2


@wrong("better_gradient", "divides its error by 4.0 only")
def for_a_straight_error(estimate: Estimate, beta: float) -> Tensor:
    return 2 * estimate(beta / 2) - estimate(beta)


@wrong("better_gradient", "divides its error by 4.0 only")
def wrong_way_round(estimate: Estimate, beta: float) -> Tensor:
    return (4 * estimate(beta) - estimate(beta / 2)) / 3


@wrong("better_gradient", "the two weights sum to 3")
def without_three(estimate: Estimate, beta: float) -> Tensor:
    return 4 * estimate(beta / 2) - estimate(beta)


@wrong("better_gradient", "the two weights sum to -1")
def opposite(estimate: Estimate, beta: float) -> Tensor:
    return (estimate(beta) - 4 * estimate(beta / 2)) / 3


@wrong("better_gradient", "it has shape (2,")
def both_of_them(estimate: Estimate, beta: float) -> Tensor:
    return torch.stack([estimate(beta), estimate(beta / 2)])


@wrong("better_gradient", "the `return` missing")
def without_return(estimate: Estimate, beta: float) -> None:
    (4 * estimate(beta / 2) - estimate(beta)) / 3


@right("better_gradient")
def as_a_correction(estimate: Estimate, beta: float) -> Tensor:
    near = estimate(beta / 2)
    return near + (near - estimate(beta)) / 3


# --- directed_gradient


def directed(
    model: LoopedMLP,
    x: Tensor,
    target: Tensor,
    free: Tensor,
    beta: float,
    steps: int,
    extra: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """dh/dbeta of centered phases whose nudged step has the force extra(W, h) besides."""

    def nudged(strength: float) -> Tensor:
        h = free
        for _ in range(steps):
            pull = (model.W_out(h).softmax(1) - target) @ model.W_out.weight
            force = model.W_in(x) + model.W_rec(h) + extra(model.W_rec.weight, h)
            h = torch.tanh(force - strength * pull)
        return h

    with torch.no_grad():
        return (nudged(beta) - nudged(-beta)) / (2 * beta)


@wrong("directed_gradient", "this is plain EqProp")
def plain(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: torch.zeros_like(h))
    return -moved.T @ free / len(x), -moved.mean(0)


@wrong("directed_gradient", "which matrix does h - h* run with")
def wrong_sign_of_the_force(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: (h - free) @ (W.T - W))
    return -moved.T @ free / len(x), -moved.mean(0)


@wrong("directed_gradient", "which matrix does h - h* run with")
def transpose_added(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: (h - free) @ W / 2)
    return -moved.T @ free / len(x), -moved.mean(0)


@wrong("directed_gradient", "is the extra force zero at the free state?")
def force_of_the_whole_state(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: h @ (W - W.T))
    return -moved.T @ free / len(x), -moved.mean(0)


@wrong("directed_gradient", "the sign is flipped")
def sign(model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: (h - free) @ (W - W.T))
    return moved.T @ free / len(x), moved.mean(0)


@wrong("directed_gradient", "[0] of the answer: it is transposed")
def turned(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: (h - free) @ (W - W.T))
    return -free.T @ moved / len(x), -moved.mean(0)


@wrong("directed_gradient", "it is the batch size times what it should be")
def directed_sum(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: (h - free) @ (W - W.T))
    return -moved.T @ free, -moved.sum(0)


@wrong("directed_gradient", "[0] of the answer")
def as_if_symmetric(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> Two:
    moved = directed(model, x, target, free, beta, steps, lambda W, h: (h - free) @ (W - W.T))
    by_w = -moved.T @ free / len(x)
    return (by_w + by_w.T) / 2, -moved.mean(0)


@right("directed_gradient")
def by_samples(
    model: LoopedMLP, x: Tensor, target: Tensor, free: Tensor, beta: float, steps: int
) -> list[Tensor]:
    moved = directed(
        model, x, target, free, beta, steps, lambda W, h: (h - free) @ W - (h - free) @ W.T
    )
    each = -moved[:, :, None] * free[:, None, :]
    return [each.mean(0), -moved.mean(0)]

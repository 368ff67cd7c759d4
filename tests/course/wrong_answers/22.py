"""Answers to the exercises of notebook 22 as learners give them."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.course.answers import right, wrong

# --- best_beta


@wrong("best_beta", "least for the plain sum")
def of_a_sum(curvature: float, noise: float, order: int) -> float:
    return (noise / (order * curvature)) ** (1 / (order + 1))


@wrong("best_beta", "brings a factor N")
def where_both_are_equal(curvature: float, noise: float, order: int) -> float:
    return (noise / curvature) ** (1 / (order + 1))


@wrong("best_beta", "the exponent is that of")
def without_the_one(curvature: float, noise: float, order: int) -> float:
    return (noise / (order**0.5 * curvature)) ** (1 / order)


@wrong("best_beta", "2 N c^2 beta")
def upside_down(curvature: float, noise: float, order: int) -> float:
    return (order**0.5 * curvature / noise) ** (1 / (order + 1))


@right("best_beta")
def by_search(curvature: float, noise: float, order: int) -> float:
    betas = torch.logspace(-4, 3, 400_001, dtype=torch.float64)
    errors = (curvature * betas**order) ** 2 + (noise / betas) ** 2
    return float(betas[errors.argmin()])


# --- displacement


def settled(
    coupling: Tensor, drive: Tensor, push: Tensor, offset: Tensor, steps: int = 120
) -> Tensor:
    h = drive.tanh()
    for _ in range(steps):
        h = torch.tanh(torch.addmm(drive - push, h, coupling)) + offset
    return h


@wrong("displacement", "after the tanh")
def offset_inside(
    coupling: Tensor, drive: Tensor, pull: Tensor, beta: float, plus: Tensor, minus: Tensor
) -> Tensor:
    none = torch.zeros_like(drive)
    up = settled(coupling, drive + plus, beta * pull, none)
    down = settled(coupling, drive + minus, -beta * pull, none)
    return (up - down) / (2 * beta)


@wrong("displacement", "an offset of its own")
def one_offset(
    coupling: Tensor, drive: Tensor, pull: Tensor, beta: float, plus: Tensor, minus: Tensor
) -> Tensor:
    up = settled(coupling, drive, beta * pull, plus)
    return (up - settled(coupling, drive, -beta * pull, plus)) / (2 * beta)


@wrong("displacement", "the nudge of +beta is subtracted")
def pushed_the_other_way(
    coupling: Tensor, drive: Tensor, pull: Tensor, beta: float, plus: Tensor, minus: Tensor
) -> Tensor:
    up = settled(coupling, drive, -beta * pull, plus)
    return (up - settled(coupling, drive, beta * pull, minus)) / (2 * beta)


@wrong("displacement", "it is twice what it should be")
def over_one_beta(
    coupling: Tensor, drive: Tensor, pull: Tensor, beta: float, plus: Tensor, minus: Tensor
) -> Tensor:
    up = settled(coupling, drive, beta * pull, plus)
    return (up - settled(coupling, drive, -beta * pull, minus)) / beta


@wrong("displacement", "beta")
def not_divided(
    coupling: Tensor, drive: Tensor, pull: Tensor, beta: float, plus: Tensor, minus: Tensor
) -> Tensor:
    up = settled(coupling, drive, beta * pull, plus)
    return (up - settled(coupling, drive, -beta * pull, minus)) / 2


@wrong("displacement", "two loops of the same step")
def one_step(
    coupling: Tensor, drive: Tensor, pull: Tensor, beta: float, plus: Tensor, minus: Tensor
) -> Tensor:
    up = settled(coupling, drive, beta * pull, plus, steps=1)
    return (up - settled(coupling, drive, -beta * pull, minus, steps=1)) / (2 * beta)


@right("displacement")
def as_one_batch(
    coupling: Tensor, drive: Tensor, pull: Tensor, beta: float, plus: Tensor, minus: Tensor
) -> Tensor:
    push, offset = torch.cat([beta * pull, -beta * pull]), torch.cat([plus, minus])
    up, down = settled(coupling, torch.cat([drive, drive]), push, offset).chunk(2)
    return (up - down) / (2 * beta)


# --- noise_number


@wrong("noise_number", "that is the whole error")
def distance_from_exact(draws: Tensor, exact: Tensor, beta: float) -> float:
    away = (draws - exact).square().sum() / (len(draws) - 1)
    return float(beta * away.sqrt() / exact.norm())


@wrong("noise_number", "the unbiased variance")
def biased(draws: Tensor, exact: Tensor, beta: float) -> float:
    return float(beta * draws.var(0, correction=0).sum().sqrt() / exact.norm())


@wrong("noise_number", "the root of the summed variance")
def without_root(draws: Tensor, exact: Tensor, beta: float) -> float:
    return float(beta * draws.var(0).sum() / exact.norm())


@wrong("noise_number", "beta")
def at_this_beta(draws: Tensor, exact: Tensor, beta: float) -> float:
    return float(draws.var(0).sum().sqrt() / exact.norm())


@wrong("noise_number", "beta * sqrt")
def not_relative(draws: Tensor, exact: Tensor, beta: float) -> float:
    return float(beta * draws.std(0).mean())


@right("noise_number")
def by_pairs(draws: Tensor, exact: Tensor, beta: float) -> float:
    squares = torch.cdist(draws.double(), draws.double()).square().sum()
    variance = squares / (2 * len(draws) * (len(draws) - 1))
    return float(beta * variance.sqrt() / exact.norm())

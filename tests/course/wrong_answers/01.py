"""Answers to the exercises of notebook 01 as learners give them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from eqprop_lab import LoopedMLP, relax
from tests.course.answers import right, wrong

Steps = tuple[Tensor, float]
Rest = tuple[Tensor, int, Tensor]

# --- steps_needed


def counted(radius: Tensor, norm: float, closer: float) -> Steps:
    return -math.log(closer) / radius.log(), -math.log(closer) / math.log(norm)


@wrong("steps_needed", "[1] of the answer: it is the same for every input")
def a_billion(radius: Tensor, norm: float, closer: float) -> Steps:
    return counted(radius, norm, closer)[0], 1e9


@wrong("steps_needed", "take logarithms: 1/(1 - r) counts no steps")
def two_over_the_gap(radius: Tensor, norm: float, closer: float) -> Steps:
    return counted(radius, norm, closer)[0], 2 / (1 - norm)


@wrong("steps_needed", "every sample has its own radius")
def mean_radius(radius: Tensor, norm: float, closer: float) -> Steps:
    return counted(radius.mean().expand(len(radius)), norm, closer)


@wrong("steps_needed", "is something summed or averaged that should be kept?")
def one_prediction(radius: Tensor, norm: float, closer: float) -> tuple[float, float]:
    predicted, guaranteed = counted(radius.mean(), norm, closer)
    return float(predicted), guaranteed


@wrong("steps_needed", "a guarantee rests on the norm alone")
def slowest_sample(radius: Tensor, norm: float, closer: float) -> Steps:
    return counted(radius, radius.max().item(), closer)


@wrong("steps_needed", "the sign is flipped")
def sign(radius: Tensor, norm: float, closer: float) -> Steps:
    predicted, guaranteed = counted(radius, norm, closer)
    return -predicted, -guaranteed


@wrong("steps_needed", "a constant factor")
def mixed_logarithms(radius: Tensor, norm: float, closer: float) -> Steps:
    return -math.log10(closer) / radius.log(), -math.log10(closer) / math.log(norm)


@wrong("steps_needed", "close, but not the same")
def rounded_up(radius: Tensor, norm: float, closer: float) -> Steps:
    predicted, guaranteed = counted(radius, norm, closer)
    return predicted.ceil(), math.ceil(guaranteed)


@wrong("steps_needed", "a tuple of 2 is needed")
def prediction_alone(radius: Tensor, norm: float, closer: float) -> Tensor:
    return counted(radius, norm, closer)[0]


@right("steps_needed")
def by_multiplying(radius: Tensor, norm: float, closer: float) -> list[Any]:
    return [math.log10(closer) / (1 / radius).log10(), math.log2(closer) / math.log2(1 / norm)]


# --- come_to_rest


def energy(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    wall = (h * h.atanh() + 0.5 * (1 - h * h).log()).sum(1)
    return wall - 0.5 * torch.einsum("bi,ij,bj->b", h, W, h) - (h * u).sum(1)


def path(W: Tensor, u: Tensor, steps: int = 1000) -> tuple[Tensor, Tensor, Tensor]:
    """States (T + 1, batch, units), movements and lengths of the new states (T, batch)."""
    states = [torch.zeros_like(u)]
    for _ in range(steps):
        states.append(torch.tanh(states[-1] @ W + u))
    each = torch.stack(states)
    return each, (each[1:] - each[:-1]).norm(dim=2), each[1:].norm(dim=2)


def stopped(W: Tensor, u: Tensor, states: Tensor, resting: Tensor) -> Rest:
    steps = resting.tolist().index(True) + 1
    return states[steps], steps, energy(states[steps], W, u)


@wrong("come_to_rest", "every row has to rest, not the mean")
def mean_of_rows(W: Tensor, u: Tensor, tol: float) -> Rest:
    states, moved, length = path(W, u)
    return stopped(W, u, states, (moved / length).mean(1) <= tol)


@wrong("come_to_rest", "take one length of each row")
def one_length(W: Tensor, u: Tensor, tol: float) -> Rest:
    states, moved, length = path(W, u)
    return stopped(W, u, states, moved.norm(dim=1) <= tol * length.norm(dim=1))


@wrong("come_to_rest", "divide by the length of the new state")
def absolute_movement(W: Tensor, u: Tensor, tol: float) -> Rest:
    states, moved, _ = path(W, u)
    return stopped(W, u, states, (moved <= tol).all(1))


@wrong("come_to_rest", "every row has to rest, not the first")
def any_row(W: Tensor, u: Tensor, tol: float) -> Rest:
    states, moved, length = path(W, u)
    return stopped(W, u, states, (moved <= tol * length).any(1))


@wrong("come_to_rest", "which step is the last, is it counted")
def fixed_number(W: Tensor, u: Tensor, tol: float) -> Rest:
    h = path(W, u, 30)[0][-1]
    return h, 30, energy(h, W, u)


@wrong("come_to_rest", "[1] of the answer: ")
def one_short(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, low = by_norms(W, u, tol)
    return h, steps - 1, low


@wrong("come_to_rest", "which step is the last, is it counted")
def state_before(W: Tensor, u: Tensor, tol: float) -> Rest:
    steps = by_norms(W, u, tol)[1]
    h = path(W, u)[0][steps - 1]
    return h, steps, energy(h, W, u)


@wrong("come_to_rest", "the coupling lacks its factor 1/2")
def pairs_twice(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, low = by_norms(W, u, tol)
    return h, steps, low - 0.5 * (h @ W * h).sum(1)


@wrong("come_to_rest", "the input is missing in Φ")
def without_input(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, _ = by_norms(W, u, tol)
    return h, steps, energy(h, W, torch.zeros_like(u))


@wrong("come_to_rest", "G is missing")
def without_wall(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, _ = by_norms(W, u, tol)
    return h, steps, -(0.5 * (h @ W * h) + h * u).sum(1)


@wrong("come_to_rest", "E is G minus Φ")
def plus_phi(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, low = by_norms(W, u, tol)
    return h, steps, low + (h @ W * h).sum(1) + 2 * (h * u).sum(1)


@wrong("come_to_rest", "is something summed or averaged that should be kept?")
def one_energy(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, low = by_norms(W, u, tol)
    return h, steps, low.sum()


@wrong("come_to_rest", "uses energy_by_hand; do it without")
def by_the_helper(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, _ = by_norms(W, u, tol)
    return h, steps, energy_by_hand(h, W, u)  # type: ignore[name-defined]  # noqa: F821


@wrong("come_to_rest", "uses model; do it without")
def by_the_model(W: Tensor, u: Tensor, tol: float) -> Rest:
    h, steps, _ = by_norms(W, u, tol)
    return h, steps, model.energy((h,), (u,))  # type: ignore[name-defined]  # noqa: F821


@wrong("come_to_rest", "do it without")
def by_relax(W: Tensor, u: Tensor, tol: float) -> Rest:
    end = relax(LoopedMLP(len(W), len(W), 1), u, 2000, tol)
    return end.state[0], end.steps, energy(end.state[0], W, u)


@wrong("come_to_rest", "it prints its answer")
def printed(W: Tensor, u: Tensor, tol: float) -> None:
    print(by_norms(W, u, tol))


def by_norms(W: Tensor, u: Tensor, tol: float) -> Rest:
    states, moved, length = path(W, u)
    return stopped(W, u, states, (moved <= tol * length).all(1))


norms = right("come_to_rest")(by_norms)


@right("come_to_rest")
def by_the_slowest(W: Tensor, u: Tensor, tol: float) -> list[Any]:
    h, steps, slowest = torch.tanh(u), 1, math.inf
    while slowest > tol:
        old, h, steps = h, torch.tanh(h @ W.T + u), steps + 1
        slowest = max(float((a - b).norm() / a.norm()) for a, b in zip(h, old, strict=True))
    a = h @ W + u
    wall = 0.5 * (torch.xlogy(1 + h, 1 + h) + torch.xlogy(1 - h, 1 - h))
    return [h, torch.tensor(steps), (wall - 0.5 * h * (a + u)).sum(1)]


# --- largest_step


@wrong("largest_step", "some steps of this size raise the energy")
def always_full(W: Tensor) -> float:
    return 1.0


@wrong("largest_step", "larger steps are safe, too")
def always_half(W: Tensor) -> float:
    return 0.5


@wrong("largest_step", "larger steps are safe, too")
def by_the_norm(W: Tensor) -> float:
    return min(1.0, 2 / (1 + float(torch.linalg.matrix_norm(W, 2))))


@wrong("largest_step", "one number above 0 and up to 1")
def without_the_cap(W: Tensor) -> float:
    return 2 / (1 - float(torch.linalg.eigvalsh(W)[0]))


@wrong("largest_step", "one number above 0 and up to 1")
def every_eigenvalue(W: Tensor) -> Tensor:
    return 2 / (1 - torch.linalg.eigvalsh(W))


@wrong("largest_step", "some steps of this size raise the energy")
def wrong_end(W: Tensor) -> float:
    return min(1.0, 2 / (1 + abs(float(torch.linalg.eigvalsh(W)[-1]))))


@wrong("largest_step", "larger steps are safe, too")
def lost_two(W: Tensor) -> float:
    return min(1.0, 1 / (1 - float(torch.linalg.eigvalsh(W)[0])))


@right("largest_step")
def by_halving(W: Tensor) -> Tensor:
    safe, unsafe = torch.tensor(0.0), torch.tensor(1.0)
    eye = torch.eye(len(W), dtype=W.dtype)
    if torch.linalg.eigvalsh(eye + W)[0] >= 0:
        return unsafe
    for _ in range(30):
        middle = (safe + unsafe) / 2
        good = torch.linalg.eigvalsh((2 - middle) * eye + middle * W)[0] >= 0
        safe, unsafe = (middle, unsafe) if good else (safe, middle)
    return safe.reshape(1)


# --- energy_everywhere


@wrong("energy_everywhere", "it is not finite")
def copied_formula(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    return energy(h, W, u)


@wrong("energy_everywhere", "G does not vanish at h = ±1")
def nan_to_zero(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    wall = (h * h.atanh() + 0.5 * (1 - h * h).log()).nan_to_num(0.0, 0.0, 0.0).sum(1)
    return wall - 0.5 * (h @ W * h).sum(1) - (h * u).sum(1)


@wrong("energy_everywhere", "is it exact at h = ±1, without moving h away from there?")
def clamped(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    return energy(h.clamp(-1 + 1e-6, 1 - 1e-6), W, u)


@wrong("energy_everywhere", "G lacks its factor 1/2")
def wall_twice(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    wall = (torch.xlogy(1 + h, 1 + h) + torch.xlogy(1 - h, 1 - h)).sum(1)
    return wall - 0.5 * (h @ W * h).sum(1) - (h * u).sum(1)


@wrong("energy_everywhere", "E is G minus Φ")
def phi_added(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    return by_entropies(h, -W, -u)


@wrong("energy_everywhere", "the sign is flipped")
def turned_round(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    return -by_entropies(h, W, u)


@wrong("energy_everywhere", "the numbers differ")
def copied_number(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    return torch.full_like(h[:, 0], -3.53)


@wrong("energy_everywhere", "uses energy_of; do it without")
def of_the_check(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    return energy_of(h, W, u)  # type: ignore[name-defined]  # noqa: F821


@wrong("energy_everywhere", "is a mean or a sum over the first dimension missing?")
def of_the_batch(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    return by_entropies(h, W, u)[None].expand(2, -1)


def by_entropies(h: Tensor, W: Tensor, u: Tensor) -> Tensor:
    up, down = (1 + h) / 2, (1 - h) / 2
    wall = math.log(2) - torch.special.entr(up) - torch.special.entr(down)
    return (wall - 0.5 * h * (h @ W) - h * u).sum(1)


entropies = right("energy_everywhere")(by_entropies)

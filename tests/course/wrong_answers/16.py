"""Answers to the exercises of notebook 16 as learners give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from eqprop_lab import calibration
from tests.course.answers import right, wrong

Teacher = Callable[[Tensor], Tensor]

# --- ensemble_nll


@wrong("ensemble_nll", "average probabilities, not logits")
def mean_logits(z: Tensor, y: Tensor) -> float:
    return float(cross_entropy(z.mean(0), y))


@wrong("ensemble_nll", "the logarithm comes after the mean over the members")
def mean_of_costs(z: Tensor, y: Tensor) -> float:
    return float(cross_entropy(z.flatten(0, 1), y.repeat(len(z))))


@wrong("ensemble_nll", "that is the best member")
def best_member(z: Tensor, y: Tensor) -> float:
    return min(float(cross_entropy(one, y)) for one in z)


@wrong("ensemble_nll", "the sign")
def log_likelihood(z: Tensor, y: Tensor) -> float:
    return float(z.softmax(2).mean(0).gather(1, y[:, None]).log().mean())


@wrong("ensemble_nll", "softmax each, mean over members")
def probability_itself(z: Tensor, y: Tensor) -> float:
    return float(1 - z.softmax(2).mean(0).gather(1, y[:, None]).mean())


@right("ensemble_nll")
def by_logarithms(z: Tensor, y: Tensor) -> float:
    log_p = z.log_softmax(2)[:, torch.arange(len(y)), y]
    return float(-(log_p.logsumexp(0) - torch.tensor(float(len(z))).log()).mean())


# --- student


def descend(x: Tensor, t: Tensor, lr: float, steps: int) -> Tensor:
    W = torch.zeros(t.shape[1], x.shape[1], requires_grad=True)
    b = torch.zeros(t.shape[1], requires_grad=True)
    for _ in range(steps):
        cost = cross_entropy(x @ W.T + b, t)
        slopes = torch.autograd.grad(cost, (W, b))
        with torch.no_grad():
            W -= lr * slopes[0]
            b -= lr * slopes[1]
    return W.detach()


@wrong("student", "the answers are divided by the temperature")
def hotter(
    teacher: Teacher, x: Tensor, y: Tensor, weight: float, temperature: float, lr: float, steps: int
) -> Tensor:
    z = teacher(x).detach()
    soft = (z * temperature).softmax(1)
    return descend(x, weight * soft + (1 - weight) * one_hot(y, z.shape[1]), lr, steps)


@wrong("student", "weight is the teacher's share")
def shares_swapped(
    teacher: Teacher, x: Tensor, y: Tensor, weight: float, temperature: float, lr: float, steps: int
) -> Tensor:
    z = teacher(x).detach()
    soft = (z / temperature).softmax(1)
    return descend(x, (1 - weight) * soft + weight * one_hot(y, z.shape[1]), lr, steps)


@wrong("student", "the temperature is missing")
def as_sure_as_the_teacher(
    teacher: Teacher, x: Tensor, y: Tensor, weight: float, temperature: float, lr: float, steps: int
) -> Tensor:
    z = teacher(x).detach()
    t = weight * z.softmax(1) + (1 - weight) * one_hot(y, z.shape[1])
    return descend(x, t, lr, steps)


@wrong("student", "the labels are missing")
def without_labels(
    teacher: Teacher, x: Tensor, y: Tensor, weight: float, temperature: float, lr: float, steps: int
) -> Tensor:
    return descend(x, (teacher(x).detach() / temperature).softmax(1), lr, steps)


@wrong("student", "has shape")
def transposed(
    teacher: Teacher, x: Tensor, y: Tensor, weight: float, temperature: float, lr: float, steps: int
) -> Tensor:
    z = teacher(x).detach()
    t = weight * (z / temperature).softmax(1) + (1 - weight) * one_hot(y, z.shape[1])
    return descend(x, t, lr, steps).T


@right("student")
def as_it_should(
    teacher: Teacher, x: Tensor, y: Tensor, weight: float, temperature: float, lr: float, steps: int
) -> Tensor:
    with torch.no_grad():
        z = teacher(x)
    t = weight * (z / temperature).softmax(1) + (1 - weight) * one_hot(y, z.shape[1])
    return descend(x, t, lr, steps)


@right("student")
def with_a_module(
    teacher: Teacher, x: Tensor, y: Tensor, weight: float, temperature: float, lr: float, steps: int
) -> Tensor:
    z = teacher(x).detach()
    t = weight * (z / temperature).softmax(1) + (1 - weight) * one_hot(y, z.shape[1])
    layer = nn.Linear(x.shape[1], z.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(layer(x), t).backward()
        optimizer.step()
    return layer.weight.detach()


# --- ece


def binned(claim: Tensor, bins: int) -> Tensor:
    return (claim * bins).ceil().long().clamp(1, bins)


@wrong("ece", "a bin counts with its share of the samples")
def bins_alike(p: Tensor, y: Tensor, bins: int) -> float:
    claim, said = p.max(1)
    gaps = [
        float(((said == y).float() - claim)[binned(claim, bins) == b].mean().abs())
        for b in binned(claim, bins).unique()
    ]
    return sum(gaps) / len(gaps)


@wrong("ece", "the claim is the largest probability")
def claim_of_the_right_class(p: Tensor, y: Tensor, bins: int) -> float:
    claim, hit = p[torch.arange(len(y)), y], (p.argmax(1) == y).float()
    place = binned(claim, bins)
    return float(sum((hit - claim)[place == b].sum().abs() for b in place.unique()) / len(y))


@wrong("ece", "gaps do not cancel")
def signed(p: Tensor, y: Tensor, bins: int) -> float:
    claim, said = p.max(1)
    return float(((said == y).float() - claim).mean())


@wrong("ece", "the mean claim of the bin, not its middle")
def middles(p: Tensor, y: Tensor, bins: int) -> float:
    claim, said = p.max(1)
    middle = (binned(claim, bins) - 0.5) / bins
    gaps = torch.zeros(bins + 1).index_add_(0, binned(claim, bins), (said == y).float() - middle)
    return float(gaps.abs().sum() / len(y))


@wrong("ece", "uses calibration; do it without")
def of_the_package(p: Tensor, y: Tensor, bins: int) -> float:
    return calibration(p, y, bins).ece


@right("ece")
def by_sums(p: Tensor, y: Tensor, bins: int) -> float:
    claim, said = p.max(1)
    gaps = torch.zeros(bins + 1).index_add_(0, binned(claim, bins), (said == y).float() - claim)
    return float(gaps.abs().sum() / len(y))

"""Answers to the exercises of notebook 19 as learners give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.course.answers import right, wrong

Logits = Callable[[Tensor], Tensor]

# --- force_of


@wrong("force_of", "cancels the 1/b")
def one_over_b_is_kept(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    return u + gamma / b * torch.softmax(b * s @ M.T, 1) @ M


@wrong("force_of", "the shares are of b m.s")
def without_sharpness(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    return u + gamma * torch.softmax(s @ M.T, 1) @ M


@wrong("force_of", "not over the batch")
def over_the_batch(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    return u + gamma * torch.softmax(b * s @ M.T, 0) @ M


@wrong("force_of", "part u is missing")
def without_input(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    return gamma * torch.softmax(b * s @ M.T, 1) @ M


@wrong("force_of", "memories attract")
def memories_that_repel(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    return u - gamma * torch.softmax(b * s @ M.T, 1) @ M


@wrong("force_of", "uses by_autograd; do it without")
def asked_for(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    return by_autograd(M, u, s, b, gamma)


def by_autograd(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    return u


@right("force_of")
def memory_by_memory(M: Tensor, u: Tensor, s: Tensor, b: float, gamma: float) -> Tensor:
    fits = [torch.exp(b * (s * m).sum(1, keepdim=True)) for m in M]
    pulled = sum(fit * m for fit, m in zip(fits, M, strict=True))
    return u + gamma * pulled / sum(fits)


# --- largest_leak


@wrong("largest_leak", "not the first only")
def of_the_first(logits: Logits, x: Tensor) -> float:
    return float((logits(x)[:1] - logits(x[:1])).abs().max())


@wrong("largest_leak", "may be negative")
def signed(logits: Logits, x: Tensor) -> float:
    return float(max((logits(x)[i] - logits(x[i : i + 1])[0]).max() for i in range(len(x))))


@wrong("largest_leak", "not the mean")
def on_average(logits: Logits, x: Tensor) -> float:
    alone = torch.cat([logits(x[i : i + 1]) for i in range(len(x))])
    return float((logits(x) - alone).abs().mean())


@wrong("largest_leak", "zero in every case")
def the_same_batch_again(logits: Logits, x: Tensor) -> float:
    return float((logits(x) - logits(x.clone())).abs().max())


@right("largest_leak")
def one_by_one(logits: Logits, x: Tensor) -> float:
    worst, together = 0.0, logits(x)
    for row, mine in zip(x.split(1), together, strict=True):
        worst = max(worst, float(torch.linalg.vector_norm(logits(row) - mine, float("inf"))))
    return worst


# --- certificate


@wrong("certificate", "its norm is squared")
def not_squared(M: Tensor, b: float, gamma: float) -> float:
    return 0.5 * gamma * b * float(torch.linalg.matrix_norm(M, 2))


@wrong("certificate", "not that of all entries")
def frobenius(M: Tensor, b: float, gamma: float) -> float:
    return 0.5 * gamma * b * float(torch.linalg.matrix_norm(M) ** 2)


@wrong("certificate", "twice")
def without_the_half(M: Tensor, b: float, gamma: float) -> float:
    return gamma * b * float(torch.linalg.matrix_norm(M, 2) ** 2)


@wrong("certificate", "sharpness b")
def without_b(M: Tensor, b: float, gamma: float) -> float:
    return 0.5 * gamma * float(torch.linalg.matrix_norm(M, 2) ** 2)


@right("certificate")
def by_eigenvalues(M: Tensor, b: float, gamma: float) -> float:
    return gamma * b * float(torch.linalg.eigvalsh(M.T @ M)[-1]) / 2

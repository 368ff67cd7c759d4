"""Floors by counting: the formula word for word on small texts, and what any such table must do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from eqprop_lab.datasets.ngrams import ngram_loss

GRID = [2.0**k for k in np.arange(-4, 16.5, 0.5)]


def text(count: int, size: int, seed: int) -> list[int]:
    """Tokens of a random chain: what comes next depends on the two before."""
    random = np.random.default_rng(seed)
    table = np.random.default_rng(7).dirichlet([0.15] * size, (size, size))
    tokens = [0, 1]
    while len(tokens) < count:
        tokens.append(int(random.choice(size, p=table[tokens[-2], tokens[-1]])))
    return tokens


def probability(seen: Sequence[int], past: list[int], token: int, a: list[float], v: int) -> float:
    """p_n(token | past) as the top of `ngrams` writes it, counted by looking; n is len(a)."""
    if not a:
        return 1 / v
    n = len(a)
    context = past[len(past) - (n - 1) :]
    places = [i for i in range(len(seen) - n + 1) if list(seen[i : i + n - 1]) == context]
    both = sum(seen[i + n - 1] == token for i in places)
    shorter = probability(seen, past, token, a[:-1], v)
    return (both + a[-1] * shorter) / (len(places) + a[-1])


def surprise(
    seen: Sequence[int], new: Sequence[int], a: list[float], order: int, v: int
) -> list[float]:
    return [
        -math.log(probability(seen, list(new[:i]), new[i], a, v))
        for i in range(order - 1, len(new))
    ]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_loss_is_that_of_the_formula(order: int) -> None:
    train, test = text(150, 4, 0), text(30, 4, 1)
    a: list[float] = []
    for _ in range(order):
        losses = [sum(surprise(train[:135], train[135:], [*a, g], order, 4)) for g in GRID]
        a.append(GRID[int(np.argmin(losses))])
    expected = float(np.mean(surprise(train, test, a, order, 4)))
    for form in (list, np.array, torch.tensor):
        assert ngram_loss(form(train), form(test), order, 4) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("past", [[0, 1, 0], [3, 5, 5]])
def test_probabilities_of_all_next_tokens_sum_to_one(order: int, past: list[int]) -> None:
    """Also after a token (5) that training has never seen."""
    train, before = text(400, 5, 0), past[: order - 1]
    total = sum(math.exp(-ngram_loss(train, [*before, token], order, 6)) for token in range(6))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_longer_contexts_help_where_there_is_something_to_see() -> None:
    train, test = text(20_000, 6, 0), text(4_000, 6, 1)
    losses = [ngram_loss(train, test, order, 6) for order in (1, 2, 3)]
    assert losses[0] > losses[1] + 0.05 and losses[1] > losses[2] + 0.1
    # a longer one sees no more, and does no harm
    assert ngram_loss(train, test, 5, 6) == pytest.approx(losses[2], abs=0.03)
    cycle = [0, 1, 2] * 200
    assert ngram_loss(cycle, cycle[:60], 1, 3) == pytest.approx(math.log(3), abs=1e-6)
    assert ngram_loss(cycle, cycle[:60], 2, 3) < 1e-2
    noise = np.random.default_rng(0).integers(0, 6, 4000)
    for order in (1, 2, 3):
        assert ngram_loss(noise[:3000], noise[3000:], order, 6) == pytest.approx(
            math.log(6), abs=0.02
        )


def test_test_tokens_choose_nothing() -> None:
    """The loss of two texts is that of each, weighted: no number depends on both."""
    train, one, two = text(400, 5, 0), text(40, 5, 1), text(90, 5, 2)
    both = ngram_loss(train, one + two, 1, 5)
    assert both * 130 == pytest.approx(
        40 * ngram_loss(train, one, 1, 5) + 90 * ngram_loss(train, two, 1, 5)
    )


def test_large_vocabularies_are_counted_by_what_occurs() -> None:
    train = list(range(30_000)) * 2
    assert ngram_loss(train, train[:50], 3, 30_000) < 1.5


@pytest.mark.parametrize(
    ("train", "test", "order", "size", "message"),
    [
        ([0, 1] * 30, [0, 2], 1, 2, "test_tokens must be from 0 to 1, got 0 to 2"),
        ([0, -1] * 30, [0, 1], 1, 2, "train_tokens must be from 0 to 1"),
        ([0, 1], [0, 1], 1, 2, "train_tokens must have at least 20 tokens, got 2"),
        ([0, 1] * 30, [0, 1], 3, 2, "test_tokens must have at least 3 tokens, got 2"),
        ([0.0, 1.0] * 30, [0, 1], 1, 2, "train_tokens must be one sequence .* got float64"),
        ([0, 1] * 90, [0, 1], 5, 30_000, r"vocab_size\^order below 2\^62, got 5 for 30000"),
    ],
)
def test_what_cannot_be_counted(
    train: list[int], test: list[int], order: int, size: int, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ngram_loss(train, test, order, size)

"""Calibration against sums written out sample by sample, and temperatures that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eqprop_lab.instruments.calibration import calibration, fit_temperature

P = torch.tensor([[0.7, 0.2, 0.1], [0.65, 0.3, 0.05], [0.1, 0.5, 0.4], [0.0, 0.0, 1.0]])
Y = torch.tensor([0, 1, 2, 2])


def drawn(samples: int = 300, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    return z, torch.multinomial(z.softmax(1), 1, generator=generator)[:, 0]


def test_four_samples_by_hand() -> None:
    found = calibration(P, Y, bins=4)
    # claims .7 (right) and .65 (wrong) share a bin, .5 (wrong) has the one below, 1 (right) its own
    assert found.count.tolist() == [0, 1, 2, 1]
    assert found.right.tolist()[1:] == [0.0, 0.5, 1.0] and math.isnan(float(found.right[0]))
    assert found.claimed[1:].tolist() == pytest.approx([0.5, 0.675, 1.0])
    assert found.ece == pytest.approx((0.5 + 2 * 0.175 + 0) / 4)
    assert found.nll == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.4)) / 4)
    assert (found.accuracy, found.confidence) == pytest.approx((0.5, (0.7 + 0.65 + 0.5 + 1) / 4))


def test_one_bin_compares_the_means_only() -> None:
    z, y = drawn()
    found = calibration(z.softmax(1), y, bins=1)
    assert found.ece == pytest.approx(abs(found.accuracy - found.confidence))
    loss = torch.nn.functional.cross_entropy(z, y)
    assert found.nll == pytest.approx(float(loss))


def test_an_impossible_class_costs_much_but_not_infinity() -> None:
    found = calibration(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert 100 < found.nll < math.inf and found.ece == 1.0


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 0.3, 1.0, 5.0, 1e6, 1e30])
def test_the_temperature_undoes_a_factor_and_is_the_best(factor: float) -> None:
    z, y = drawn()
    t = fit_temperature(factor * z, y)
    assert t == pytest.approx(factor * fit_temperature(z, y), rel=1e-9)
    loss = torch.nn.functional.cross_entropy
    best = float(loss(factor * z / t, y))
    assert best < min(float(loss(factor * z / (t * other), y)) for other in (0.98, 1.02))


def test_what_is_added_to_all_logits_of_a_sample_moves_no_temperature() -> None:
    z, y = drawn()
    moved = z.double() + torch.linspace(-1e6, 1e6, len(z))[:, None].double()
    assert fit_temperature(moved, y) == pytest.approx(fit_temperature(z, y), rel=1e-6)


def test_of_many_drawn_labels_it_is_one() -> None:
    assert fit_temperature(*drawn(20_000)) == pytest.approx(1, abs=0.03)


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: calibration(torch.randn(4, 3), Y), "probabilities must be >= 0 and sum to one"),
    (lambda: calibration(P[0], Y), r"probabilities must have the shape \(N, K\), got \(3,\)"),
    (lambda: calibration(P.long(), Y), "probabilities must be a tensor of floats"),
    (lambda: calibration(P[:0], Y[:0]), "probabilities must have the shape"),
    (lambda: calibration(P * math.nan, Y), "probabilities must be finite"),
    (lambda: calibration(P, Y[:3]), r"labels must have the shape \(4,\)"),
    (lambda: calibration(P, Y.float()), "labels must be a tensor of class indices"),
    (lambda: calibration(P, Y + 1), "labels must be from 0 to 2, got 1 to 3"),
    (lambda: calibration(P, Y, 0), "bins must be an integer >= 1"),
    (lambda: fit_temperature(P, P.argmax(1)), "they are all right"),
    (lambda: fit_temperature(1e-9 * P, P.argmax(1)), "they are all right"),
    (lambda: fit_temperature(0 * P, P.argmax(1)), "they are no better than chance"),
    (lambda: fit_temperature(P, P.argmin(1)), "they are no better than chance"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[m[:40] for _, m in WRONG])
def test_what_cannot_be_judged_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()

"""Cosines with the exact gradient: 1 where a model learns by it, less where not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from eqprop_lab import LoopedMLP
from eqprop_lab.instruments.alignment import alignment, cosine, feedback_angles, mean_cosine
from tests.algorithms.networks import RULES, X, Y, made


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_measured(name: str) -> None:
    model = made(name, use_spectral_norm=True)
    found = alignment(model, X, Y)
    learned = {n for n, _ in model.named_parameters() if "feedback" not in n}
    assert found.keys() == learned and all(-1.001 < c < 1.001 for c in found.values())
    exact = name in ("backprop", "eqprop", "mom_eq")
    assert (mean_cosine(model, X, Y) > 0.97) == (exact or name == "sparse_eq")
    assert all(p.grad is None for p in model.parameters())


def test_ordinary_and_equilibrium_models_are_measured_too() -> None:
    assert mean_cosine(nn.Sequential(nn.Linear(12, 4)), X, Y) == 1.0
    looped = alignment(LoopedMLP(12, 9, 4, seed=0), X, Y)
    assert len(looped) == 6 and min(looped.values()) > 0.99


def test_angles_shrink_while_feedback_learns_and_stay_where_it_is_fixed() -> None:
    for name in ("ada_fa", "feedback_alignment"):
        model = made(name)
        before = feedback_angles(model)
        assert len(before) == 2 and min(before) > 45
        model.rule.layers[1].weight.data.copy_(model.rule.feedback_1)
        assert feedback_angles(model)[0] == pytest.approx(0, abs=0.1)
    with pytest.raises(TypeError, match="no feedback weights"):
        feedback_angles(made("backprop"))


def test_a_cosine_is_one_of_directions() -> None:
    a = torch.tensor([3.0, 4.0])
    assert cosine(a, 7 * a) == pytest.approx(1) and cosine(a, -a) == pytest.approx(-1)
    assert cosine(a, torch.tensor([4.0, -3.0])) == 0 and math.isnan(cosine(a, 0 * a))

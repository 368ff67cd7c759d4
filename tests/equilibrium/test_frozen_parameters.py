"""Any subset of the parameters may be frozen: the others get the gradients they have in the whole
model.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from eqprop_lab import EqPropTrainer, EquilibriumBlock, EquilibriumModel, estimate_gradients
from eqprop_lab.equilibrium.gradients import ESTIMATORS
from eqprop_lab.training import BatchError
from tests.equilibrium.test_requirements import ALL_MODELS, MODELS, X, Y


def subsets(model: EquilibriumModel) -> list[set[str]]:
    """Each parameter alone, all but each, and some at random."""
    names = sorted(dict(model.named_parameters()))
    draw = random.Random(0)
    mixed = [set(draw.sample(names, draw.randint(2, len(names) - 1))) for _ in range(6)]
    return [*({n} for n in names), *(set(names) - {n} for n in names), *mixed]


def keep(model: EquilibriumModel, trained: set[str]) -> EquilibriumModel:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return model


@ALL_MODELS
@pytest.mark.parametrize("estimator", ESTIMATORS)
# a few steps are enough to compare
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_what_is_trained_has_the_gradients_of_the_whole(name: str, estimator: str) -> None:
    options: dict[str, Any] = {"free_steps": 8, "nudged_steps": 4}
    model = MODELS[name]()
    whole = estimate_gradients(model, X, Y, estimator, **options)
    for trained in subsets(model):
        got = estimate_gradients(keep(model, trained), X, Y, estimator, **options)
        assert got.keys() == trained
        for key in trained:
            torch.testing.assert_close(got[key], whole[key])


@ALL_MODELS
@pytest.mark.parametrize("gradient", [*ESTIMATORS, "autograd"])
def test_with_everything_frozen_there_is_nothing_to_train(name: str, gradient: str) -> None:
    model = keep(MODELS[name](), set())
    with pytest.raises(BatchError, match="epoch 1, batch 1: model must have a parameter to train"):
        EqPropTrainer(model, gradient).fit([(X, Y)], 1)
    if gradient != "autograd":
        with pytest.raises(ValueError, match="model must have a parameter to train"):
            estimate_gradients(model, X, Y, gradient)


@ALL_MODELS
@pytest.mark.parametrize("gradient", ["centered", "bptt", "autograd"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_what_is_frozen_does_not_move(name: str, gradient: str, optimizer: str) -> None:
    model = MODELS[name]()
    trained = {"W_out.weight"}
    before = {n: p.detach().clone() for n, p in keep(model, trained).named_parameters()}
    EqPropTrainer(model, gradient, optimizer, lr=0.1, weight_decay=0.1, clip_norm=1.0).fit(
        [(X, Y)], 2
    )
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == trained


@ALL_MODELS
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_frozen_block_still_hands_the_gradient_down(name: str, estimator: str) -> None:
    model = MODELS[name]()
    found = []
    for trained in ({n for n, _ in model.named_parameters()}, set()):
        x = X.clone().requires_grad_()
        EquilibriumBlock(keep(model, trained), estimator)(x).square().sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    torch.testing.assert_close(found[1], found[0])
    assert float(found[0].abs().max()) > 0

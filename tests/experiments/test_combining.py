"""Ensembles and transfer: means and spreads by hand, what is frozen stays bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from eqprop_lab import (
    BackpropMLP,
    EqPropTrainer,
    LoopedMLP,
    ResNetCifar,
    TransformerEqProp,
    build_dataset,
)
from eqprop_lab.experiments.combining import Ensemble, transfer

X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1])


def test_an_ensemble_averages_probabilities() -> None:
    members = [BackpropMLP(64, 8, 3, seed=0), LoopedMLP(64, 8, 3, seed=1)]
    found, spread = Ensemble(members).predict(X)
    with torch.no_grad():
        p, q = (member(X).softmax(1) for member in members)
    torch.testing.assert_close(found, (p + q) / 2)
    # of two members: a quarter of their squared distance
    torch.testing.assert_close(spread, (p - q).square().sum(1) / 4, atol=1e-7, rtol=0)
    assert torch.equal(Ensemble(members)(X).argmax(1), found.argmax(1))


def test_language_models_are_averaged_token_by_token() -> None:
    members = [TransformerEqProp.from_text("abcab", 4, 1, 4, seed=seed) for seed in (0, 1)]
    tokens = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])
    found, spread = Ensemble(members).predict(tokens)
    with torch.no_grad():
        p, q = (member(tokens).softmax(2) for member in members)
    torch.testing.assert_close(found, (p + q) / 2)
    torch.testing.assert_close(spread, (p - q).square().sum(2) / 4, atol=1e-7, rtol=0)


def test_members_that_agree_have_no_spread_and_keep_their_mode() -> None:
    one = ResNetCifar(8, 3, 1, 4, seed=0).train()
    before = copy.deepcopy(one.state_dict())
    spread = Ensemble([one, copy.deepcopy(one)]).predict(X)[1]
    assert float(spread.max()) < 1e-6 and one.training
    assert all(torch.equal(v, before[k]) for k, v in one.state_dict().items())


def test_an_ensemble_is_no_worse_than_its_members_on_average() -> None:
    """By Jensen its cross-entropy is at most the mean of theirs."""
    data = build_dataset("digits")
    members = []
    for seed in range(3):
        model = BackpropMLP(64, 16, 10, seed=seed)
        trainer = EqPropTrainer(model, "autograd", lr=0.01)
        trainer.fit(data.train.batches(64, shuffle=True, seed=seed), 2)
        members.append(model)
    x, y = data.validation.x, data.validation.y
    with torch.no_grad():
        loss = nn.functional.cross_entropy
        alone = [float(loss(model(x), y)) for model in members]
        assert float(loss(Ensemble(members)(x), y)) < sum(alone) / 3


@pytest.mark.parametrize("freeze", ["all", "features", "features.3", "none"])
def test_what_is_frozen_stays_bit_for_bit(freeze: str) -> None:
    base = ResNetCifar(8, 10, 1, 4, seed=0)
    model = transfer(base, 3, freeze, seed=1)
    assert model(X).shape == (5, 3) and base.num_classes == 10
    before = copy.deepcopy(model.state_dict())
    EqPropTrainer(model, "autograd", "sgd", lr=0.1, weight_decay=0.1).fit([(X, Y)], 2)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {"head.weight", "head.bias"} <= changed
    prefix = {"all": "features", "none": "nothing"}.get(freeze, freeze)
    assert not [name for name in changed if name.startswith(prefix)]
    if freeze in ("none", "features.3"):
        assert any(name.startswith("features.0") for name in changed)
        assert any(name.startswith("features.1.running") for name in changed)


@pytest.mark.parametrize("keep", [True, False])
def test_batch_norms_that_are_trained_may_keep_their_statistics(keep: bool) -> None:
    base = ResNetCifar(8, 10, 1, 4, seed=0)
    model = transfer(base, 3, "none", seed=1, keep_statistics=keep)
    before = copy.deepcopy(model.state_dict())
    EqPropTrainer(model, "autograd", "sgd", lr=0.1).fit([(X, Y)], 2)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert "features.1.weight" in changed
    assert any("running" in name for name in changed) is not keep


@pytest.mark.parametrize(("freeze", "moves"), [("all", False), ("0", False), ("none", True)])
def test_a_batch_norm_without_parameters_is_frozen_with_the_rest(freeze: str, moves: bool) -> None:
    class Plain(nn.Sequential):
        def __init__(self) -> None:
            norm = nn.BatchNorm1d(6, affine=False)
            super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(64, 6), norm))
            self.head = nn.Linear(6, 10)

    model: Any = transfer(Plain(), 3, freeze, seed=0)
    EqPropTrainer(model, "autograd", lr=0.1).fit([(X, Y)], 1)
    assert bool(model[0][2].num_batches_tracked) is moves


def test_a_network_of_another_package_gets_a_new_head() -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Linear(64, 6), nn.Linear(6, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.body(x.flatten(1)).relu())

    model: Any = transfer(Foreign(), 4)
    assert model.fc.weight.shape == (4, 6) and not model.body.weight.requires_grad


@pytest.mark.parametrize("first", ["all", "features", "features.0"])
def test_a_network_that_was_frozen_is_fine_tuned_whole(first: str) -> None:
    probe = transfer(ResNetCifar(8, 10, 1, 4, seed=0), 5, first, seed=1)
    model = transfer(probe, 3, "none", seed=1)
    before = copy.deepcopy(model.state_dict())
    EqPropTrainer(model, "autograd", "sgd", lr=0.1).fit([(X, Y)], 2)
    after = model.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still and not all(p.requires_grad for p in probe.parameters())
    again = transfer(model, 3)
    assert [n for n, p in again.named_parameters() if p.requires_grad] == [
        "head.weight",
        "head.bias",
    ]


def test_a_whole_name_freezes_no_longer_ones() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*[nn.Linear(4, 4) for _ in range(11)])
            self.head = nn.Linear(4, 2)

    frozen = {
        freeze: {
            name.split(".")[1]
            for name, p in transfer(Deep(), 2, freeze).named_parameters()
            if not p.requires_grad
        }
        for freeze in ("body.1", "body.1.weight", "bod")
    }
    assert frozen["body.1"] == frozen["body.1.weight"] == {"1"} and len(frozen["bod"]) == 11


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_no_answer_of_an_ensemble_is_infinite(dtype: torch.dtype) -> None:
    members = [nn.Linear(4, 3).to(dtype), nn.Linear(4, 3).to(dtype)]
    for member in members:
        nn.init.constant_(member.weight, 0.0)
        member.bias.data = torch.tensor([0.0, 20.0, 100.0]).to(dtype)
    found = Ensemble(members)(torch.ones(2, 4, dtype=dtype))
    assert bool(torch.isfinite(found).all())
    assert found[0, 1].item() == pytest.approx(-80, rel=1e-3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_member_that_has_no_answer_is_named(value: float) -> None:
    members = [nn.Linear(4, 3) for _ in range(3)]
    x = torch.ones(5, 4)
    members[1].bias.data[0] = value
    for call in (Ensemble(members), Ensemble(members).predict):
        with pytest.raises(ValueError, match=r"from models\[1\] \(for 5 of 5\):"):
            call(x)
    members[1].bias.data[0] = -torch.inf  # a class that is ruled out: probability 0
    assert bool(Ensemble(members).predict(x)[0].isfinite().all())


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Ensemble([]), "models must hold at least one network"),
    (lambda: Ensemble(nn.Sequential(nn.Linear(4, 4))), "models must be a list of networks"),
    (lambda: Ensemble([3]), r"models\[0\] must be a torch.nn.Module, got 3"),  # type: ignore
    (
        lambda: Ensemble([BackpropMLP(64, 4, 3), BackpropMLP(64, 4, 2)]).predict(X),
        "models must give logits of one shape",
    ),
    (
        lambda: Ensemble([nn.Conv2d(1, 3, 3)]).predict(X),
        r"models must give logits \(B, K\), or \(B, T, K\) of tokens, got \(5, 3, 6, 6\)",
    ),
    (
        lambda: transfer(ResNetCifar(8, 3), 2, keep_statistics="no"),  # type: ignore[arg-type]
        "keep_statistics must be",
    ),
    (lambda: transfer(BackpropMLP(64, 4, 3), 2), "model must have a Linear called head"),
    (lambda: transfer(ResNetCifar(8, 3), 0), "num_classes must be an integer >= 1"),
    (lambda: transfer(ResNetCifar(8, 3), 2, "featurs"), "freeze must begin the name"),
    (lambda: transfer(ResNetCifar(8, 3), 2, True), "freeze must be"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[m[:30] for _, m in WRONG])
def test_what_cannot_be_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()

"""EquilibriumChain: blocks under the chain rule get the gradient of autograd through all of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import (
    DeepEqProp,
    EqPropTrainer,
    EquilibriumChain,
    EquilibriumModel,
    build_dataset,
    check_model,
    create_model_preset,
    estimate_memory_usage,
    relax,
    train_from_config,
)
from eqprop_lab.experiments.contenders import contender, scaled, size
from eqprop_lab.models import FeedforwardMLP
from eqprop_lab.models.equilibrium_chain import HopfieldBlock

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(6) % 3
SETTLED = {"free_steps": 500, "nudged_steps": 500, "tol": 1e-14}


def chain(num_blocks: int = 3, **others: object) -> EquilibriumChain:
    return EquilibriumChain(12, 9, 3, num_blocks, seed=0, **others).double()  # type: ignore[arg-type]


def by_hand(net: EquilibriumChain, x: Tensor, steps: int = 300) -> Tensor:
    """Logits of fixed points that are written out step by step, all layers of a block at once."""
    for model in net.models():
        W = [layer.weight for layer in model._layers()]
        b = [layer.bias for layer in model._layers()]
        s = [x.new_zeros(len(x), len(w)) for w in W]
        for _ in range(steps):
            below, above = [x, *s[:-1]], [*s[1:], None]
            s = [
                torch.tanh(
                    u @ W[k].T + b[k] + (0.0 if top is None else model.gamma * top @ W[k + 1])
                )
                for k, (u, top) in enumerate(zip(below, above, strict=True))
            ]
        x = s[-1]
    return nn.functional.linear(x, model.W_out.weight, model.W_out.bias)


def gradients(net: nn.Module, logits: Tensor) -> list[Tensor]:
    loss = nn.functional.cross_entropy(logits, Y)
    return list(torch.autograd.grad(loss, list(net.parameters())))


def worst(found: list[Tensor], wanted: list[Tensor]) -> float:
    return max(float((f - w).norm() / w.norm()) for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("num_blocks", [1, 2, 4])
@pytest.mark.parametrize(
    ("estimator", "beta", "within"),
    [("response", None, 1e-8), ("implicit", None, 1e-8), ("centered", 0.02, 1e-3)],
)
def test_every_parameter_gets_the_gradient_of_autograd_through_everything(
    num_blocks: int, estimator: str, beta: float | None, within: float
) -> None:
    net = chain(num_blocks)
    for block in net.blocks:
        block.use(estimator, beta, **SETTLED)  # type: ignore[operator]
    exact = gradients(net, by_hand(net, X))
    assert worst(gradients(net, net(X)), exact) <= within
    torch.testing.assert_close(net(X), by_hand(net, X), rtol=1e-9, atol=1e-12)


def test_the_closed_form_of_an_inner_block_is_the_contract_s_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = chain(2)
    quick = gradients(net, net(X))
    by_autograd = EquilibriumModel.parameter_gradients
    monkeypatch.setattr(HopfieldBlock, "parameter_gradients", by_autograd)
    assert worst(gradients(net, net(X)), quick) <= 1e-12


def test_an_inner_block_keeps_the_contract() -> None:
    model = HopfieldBlock(12, [9, 7], seed=0)
    assert model.output_dim == 7 and not any("W_out" in n for n, _ in model.named_parameters())
    check_model(model.double(), X, torch.arange(6) % 7)


def test_one_block_is_the_deep_network_and_the_layers_are_those_of_the_plain_net() -> None:
    one, deep = chain(1), DeepEqProp(12, [9, 9], 3, seed=0).double()
    for mine, other in zip(one.parameters(), deep.parameters(), strict=True):
        assert torch.equal(mine, other)
    torch.testing.assert_close(one(X), deep(X), rtol=1e-12, atol=0)
    plain = FeedforwardMLP(12, [9] * 6, 3)
    assert size(chain(3)) == size(plain) == size(EquilibriumChain(12, [9] * 6, 3, 1))
    split = EquilibriumChain(12, [9, 8, 7, 6], 3, 2)
    assert split.hidden_dims == (9, 8, 7, 6) and split.num_blocks == 2
    assert [model.hidden_dims for model in split.models()] == [(9, 8), (7, 6)]  # type: ignore[attr-defined]


def test_news_cross_a_joint_forward_only() -> None:
    net = chain(2)
    (*_, first) = relax(net.models()[0], X).state
    with torch.no_grad():
        for parameter in net.models()[1].parameters():
            parameter.add_(0.1)
    assert torch.equal(relax(net.models()[0], X).state[-1], first)


def test_memory_does_not_grow_with_the_steps_and_the_certificate_is_the_worst_block_s() -> None:
    net = EquilibriumChain(12, 9, 3, 2, seed=0)
    # weights at rest: how far the bound's vectors are followed is drawn at random
    few, many = (
        estimate_memory_usage(
            net, (12,), 16, "centered", "sgd", free_steps=k, nudged_steps=k, lr=1e-8
        )
        for k in (5, 20)
    )
    assert few == many
    grows = [
        estimate_memory_usage(net, (12,), 16, "bptt", free_steps=k)["states_mb"] for k in (5, 20)
    ]
    assert grows[1] > 2 * grows[0]
    bounds = [model.contraction_bound() for model in net.models()]
    assert net.contraction_bound() == max(bounds) < 0.9
    assert net.residual(X.float()) < 1e-4


@pytest.mark.parametrize(
    ("hidden_dims", "num_blocks", "what"),
    [([9, 9, 9], 2, "as many layers"), ([9, 9], 2, "at least 2"), ([9], 1, "at least 2"),
     ([], 1, "hidden_dims"), (0, 2, "hidden_dims"), (9, 0, "num_blocks")],
)  # fmt: skip
def test_layers_that_do_not_split_are_refused(
    hidden_dims: int | list[int], num_blocks: int, what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        EquilibriumChain(12, hidden_dims, 3, num_blocks)


def test_inputs_that_cannot_be_fed_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="12 features"):
        chain()(X[:, :5])
    with pytest.raises(TypeError, match="x has dtype torch.int64"):
        chain().check_batch(X.long())
    with pytest.raises(ValueError, match="rho"):
        chain(rho=1.0)


def test_it_is_there_by_name_in_files_presets_and_comparisons() -> None:
    content = {
        "model": {"name": "EquilibriumChain", "params": {"hidden_dims": 8, "num_blocks": 2}},
        "training": {"epochs": 2, "batch_size": 64, "beta": 0.1, "optimizer": "adamw"},
        "data": {"dataset": "digits"},
        "experiment": {"name": "try", "seed": 0},
    }
    trainer, history = train_from_config(content)
    assert trainer.gradient == "centered" and isinstance(trainer, EqPropTrainer)
    assert history["train_loss"][1] < history["train_loss"][0]
    assert isinstance(create_model_preset("mnist_chain"), EquilibriumChain)
    given = {"model": "EquilibriumChain", "params": {"hidden_dims": 16, "num_blocks": 2}}
    entry = scaled(contender("chain", given, build_dataset("digits")), 5000)
    assert size(entry.build(0)) == pytest.approx(5000, rel=0.05)
    assert entry.source(entry.build(0)) is None

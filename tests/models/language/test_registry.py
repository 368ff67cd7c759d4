"""The five variants by name, users' own beside them, and what does not fit refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import eqprop_lab
from eqprop_lab import (
    EqPropAttentionOnlyLM,
    EqPropLM,
    EqPropTrainer,
    FullEqPropLM,
    HybridEqPropLM,
    LoopedMLPForLM,
    RecurrentEqPropLM,
    get_eqprop_lm,
    list_eqprop_lm_variants,
    model_registry,
    register_eqprop_lm,
)
from eqprop_lab.models.language import EQPROP_LM_REGISTRY

FIVE: dict[str, type[nn.Module]] = {
    "full": FullEqPropLM,
    "attention_only": EqPropAttentionOnlyLM,
    "recurrent_core": RecurrentEqPropLM,
    "hybrid": HybridEqPropLM,
    "looped_mlp": LoopedMLPForLM,
}


@pytest.fixture
def mine() -> Iterator[str]:
    yield "mine"
    if "mine" in EQPROP_LM_REGISTRY:
        EQPROP_LM_REGISTRY.unregister("mine")


def test_the_five_variants_are_listed_and_there() -> None:
    assert list_eqprop_lm_variants() == sorted(FIVE)
    assert eqprop_lab.HAS_LM_VARIANTS is True


@pytest.mark.parametrize("name", FIVE)
def test_a_variant_is_built_by_its_name_and_trains(name: str) -> None:
    model = get_eqprop_lm(name, vocab_size=7, hidden_dim=8, seed=1)
    assert type(model) is FIVE[name] and isinstance(model, nn.Module)
    again = EqPropLM(name, vocab_size=7, hidden_dim=8, seed=1)
    assert isinstance(again, EqPropLM)
    assert type(again) is FIVE[name]
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    x = torch.arange(12).view(2, 6) % 7
    history = EqPropTrainer(model, lr=0.01, progress=False).fit([(x, (x + 1) % 7)] * 4, epochs=2)
    assert history["train_loss"][1] < history["train_loss"][0]
    assert model(x).shape == (2, 6, 7)


def test_the_default_is_full_and_other_models_are_no_variants() -> None:
    assert type(EqPropLM(vocab_size=5)) is FullEqPropLM
    assert not isinstance(eqprop_lab.LoopedMLP(2, 2, 2), EqPropLM)


def test_the_classes_and_their_twins_can_be_named_in_a_config() -> None:
    names = {model.__name__ for model in FIVE.values()}
    names |= {"BackpropTransformerLM", "BackpropWindowLM"}
    assert names <= set(model_registry.list_models())
    for name in names:
        model = model_registry.create(name, vocab_size=5, hidden_dim=8)
        assert model(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 5)


def test_a_user_s_own_variant_is_one_like_the_others(mine: str) -> None:
    @register_eqprop_lm(mine)
    class Mine(LoopedMLPForLM):
        pass

    assert mine in list_eqprop_lm_variants() and Mine(5).vocab_size == 5
    model = EqPropLM(mine, vocab_size=5, hidden_dim=4)
    assert type(model) is Mine and isinstance(model, EqPropLM)
    register_eqprop_lm(mine)(Mine)  # as when a notebook cell runs twice
    with pytest.raises(ValueError, match="name must be new, 'mine' is already"):
        register_eqprop_lm(mine)(FullEqPropLM)


def test_a_function_can_be_a_variant(mine: str) -> None:
    @register_eqprop_lm(mine)
    def narrow(vocab_size: int) -> nn.Module:
        return FullEqPropLM(vocab_size, hidden_dim=4)

    model = get_eqprop_lm(mine, vocab_size=5)
    assert isinstance(model, FullEqPropLM) and model.hidden_dim == 4


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("hybird", {"vocab_size": 5}, "did you mean 'hybrid'"),
    ("full", {"vocab_sise": 5}, "key of the arguments of full .*did you mean 'vocab_size'"),
    ("recurrent_core", {"vocab_size": 5, "num_layers": 2}, "arguments of recurrent_core"),
    ("full", {}, "full needs vocab_size; got no arguments"),
    ("full", {"vocab_size": 5, "hidden_dim": 6}, "num_heads must divide hidden_dim"),
]


@pytest.mark.parametrize("build", [get_eqprop_lm, EqPropLM])
@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_what_does_not_fit_is_named(
    build: Any, name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, **arguments)


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_variant_needs_a_name(name: Any) -> None:
    with pytest.raises(TypeError, match="name must be a non-empty string"):
        register_eqprop_lm(name)

"""What cannot be fed to a language model, or built, is refused in words that say what can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import estimate_gradients, relax
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.instruments import gradient_check
from eqprop_lab.instruments.gradient_check import check_model
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM, Retrieval
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM, BackpropWindowLM
from tests.models.language.small import MODELS, TWINS, VARIANTS, WHOLE, T, V, X, Y, equilibrium

ATTENTIVE = (
    FullEqPropLM, RecurrentEqPropLM, HybridEqPropLM, EqPropAttentionOnlyLM, BackpropTransformerLM,
)  # fmt: skip
ALL: tuple[Callable[..., nn.Module], ...] = (*ATTENTIVE, LoopedMLPForLM, BackpropWindowLM)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.full((2, 3), V), ValueError, rf"tokens 0\.\.{V - 1}, got values from {V} to {V}"),
        (torch.tensor([[0, -1]]), ValueError, rf"tokens 0\.\.{V - 1}, got values from -1 to 0"),
        (torch.zeros(2, 3), TypeError, "integer tokens .*, got torch.float32"),
        (torch.zeros(2, 3, dtype=torch.bool), TypeError, "integer tokens"),
        (
            torch.zeros(3, dtype=torch.int64),
            TypeError,
            r"got torch.int64 of shape \(3,\)",
        ),
        (torch.zeros(2, 3, 4, dtype=torch.int64), TypeError, r"of shape \(2, 3, 4\)"),
        (torch.zeros(2, 0, dtype=torch.int64), ValueError, "at least one token"),
        (torch.zeros(0, 3, dtype=torch.int64), ValueError, "at least one token"),
        ([[1, 2]], TypeError, "x must be a torch.Tensor of tokens .*, got list"),
        ("to be", TypeError, "got str"),
    ],
)
@pytest.mark.parametrize("name", [*VARIANTS, *TWINS])
def test_what_is_no_batch_of_tokens_is_refused(
    name: str, x: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        MODELS[name]()(x)


@pytest.mark.parametrize("name", [*VARIANTS, *TWINS])
def test_sequences_that_are_too_long_are_refused_where_there_is_a_limit(name: str) -> None:
    model, long = MODELS[name](), torch.zeros(1, T + 1, dtype=torch.int64)
    if name in ("looped_mlp", "window"):
        assert model(long).shape == (1, T + 1, V)
        return
    with pytest.raises(ValueError, match=f"at most max_seq_len={T} tokens a sample, got {T + 1}"):
        model(long)


@pytest.mark.parametrize("name", WHOLE)
def test_the_look_comes_before_any_work_in_every_door(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = equilibrium(name)
    monkeypatch.setattr(type(model), "drive", lambda *of: pytest.fail("worked on it"))
    doors: list[Callable[[Tensor], object]] = [
        model, lambda x: relax(model, x), lambda x: estimate_gradients(model, x, x),
    ]  # fmt: skip
    for door in doors:
        with pytest.raises(ValueError, match="tokens 0"):
            door(torch.full((2, 3), V))


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (Y[:, :-1], ValueError, r"one token for each of x, as \(3, 9\), got .* \(3, 8\)"),
        (Y[:, -1], ValueError, r"one token for each of x"),
        (Y.double(), ValueError, "got torch.float64"),
        (Y.tolist(), TypeError, "y must be a torch.Tensor of tokens .*, got list"),
        (Y + V, ValueError, "class indices"),
        (-Y - 1, ValueError, "class indices"),
    ],
)
@pytest.mark.parametrize("name", WHOLE)
def test_targets_that_are_not_one_token_each_are_refused(
    name: str, y: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        estimate_gradients(equilibrium(name), X, y)


@pytest.mark.parametrize("build", ALL)
def test_misspelt_arguments_are_refused(build: Callable[..., nn.Module]) -> None:
    for wrong in ({"hiden_dim": 16}, {"dropout": 0.1}, {"num_head": 4}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            build(V, **wrong)


@pytest.mark.parametrize("build", ATTENTIVE)
def test_heads_that_do_not_divide_the_width_are_refused(build: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="num_heads must divide hidden_dim.*3.*16"):
        build(V, 16, num_heads=3)


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize("value", [0, -1, 2.5, "16", True, None])
def test_sizes_are_integers_from_one_on(build: Callable[..., nn.Module], value: object) -> None:
    for name in ("vocab_size", "hidden_dim", "num_heads", "num_layers", "max_seq_len", "inner_dim"):
        if name not in build.__init__.__annotations__ or (name, value) == ("inner_dim", None):
            continue
        with pytest.raises((TypeError, ValueError), match=name):
            build(**{"vocab_size": V, name: value})


@pytest.mark.parametrize("build", ALL)
def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator(
    build: Callable[..., nn.Module],
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two, other = (build(V, 16, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", WHOLE)
def test_the_package_s_own_check_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_check, "STEPS", 80)
    model = equilibrium(name)
    model.max_steps = 40
    result = check_model(model, X[:2, :6], Y[:2, :6])
    assert result.ok, str(result)
    assert "a token's by 0.0e+00 with another last one" in str(result)


def test_the_check_finds_a_look_ahead() -> None:
    class Ahead(LoopedMLPForLM):
        def features(self, x: Tensor) -> Tensor:
            found = self.window(x)
            return found + 1e-12 * found.reshape(*x.shape, -1)[:, -1:].expand(*x.shape, -1).reshape(
                found.shape
            )

    result = check_model(Ahead(V, 20, 6, window=4, seed=0, max_steps=60), X, Y)
    assert [name for name, passed, _ in result.rows if not passed] == ["leak"], str(result)
    same = torch.zeros_like(X)
    with_one_token = check_model(LoopedMLPForLM(V, 20, 6, seed=0, max_steps=60), same, Y)
    assert "differs from the last one" in str(with_one_token) and not with_one_token.ok


def test_a_core_of_attention_refuses_features_of_another_kind() -> None:
    core = Retrieval(16, 4, T)
    with pytest.raises(TypeError, match="dtype"):
        relax(core, X)
    assert isinstance(core, EquilibriumModel)
    for wrong in (torch.zeros(2, 16), torch.zeros(2, T, 8), torch.zeros(2, T + 1, 16)):
        with pytest.raises(ValueError, match=r"x must be features \(B, T, 16\), T <= 9"):
            relax(core, wrong)

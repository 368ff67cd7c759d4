"""TransformerEqProp: a language model with its symbols, or a classifier of whole sequences."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eqprop_lab import (
    EqPropTrainer,
    TransformerEqProp,
    build_dataset,
    estimate_gradients,
    model_registry,
    relax,
)
from eqprop_lab.datasets import Split
from eqprop_lab.equilibrium.gradients import Gradients, estimate
from eqprop_lab.instruments import gradient_check
from eqprop_lab.instruments.gradient_check import exact_gradients
from eqprop_lab.models.language.full import FullEqPropLM
from tests.models.language.small import D, T, V
from tests.models.language.test_gradients import RELATIVE, SETTLED, UNROLLED, apart

CLASSES = 4
X = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(4))
Y = torch.tensor([2, 0, 3])


def classifier() -> TransformerEqProp:
    model = TransformerEqProp(V, D, 2, T, num_classes=CLASSES, inner_dim=24, seed=0).double()
    with torch.no_grad():
        model.c.normal_(generator=torch.Generator().manual_seed(5))
    return model


@cache
def exact() -> Gradients:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_check, "STEPS", UNROLLED)
        return exact_gradients(classifier(), X, Y)


def test_as_a_language_model_it_is_the_full_variant() -> None:
    model = TransformerEqProp(vocab_size=V, hidden_dim=D, num_layers=2, max_seq_len=T, seed=3)
    full = FullEqPropLM(V, D, 2, 4, T, seed=3)
    assert torch.equal(model(X), full(X)) and model(X).shape == (3, T, V)
    assert model.contraction_bound() == full.contraction_bound() < 1
    assert model.targets(X, X).shape == (3 * T,)
    assert type(model_registry.create("TransformerEqProp", vocab_size=5)) is TransformerEqProp


def test_a_classifier_reads_the_mean_of_normalised_tokens() -> None:
    model = classifier()
    end = relax(model, X, 200)
    sequences = torch.zeros(3, 2 * D, dtype=torch.float64)
    for layer, block in enumerate(end.state):
        for b in range(3):
            for t in range(T):
                r = block[b * T + t]
                part = r / (r.square().mean() + 1e-5).sqrt()
                sequences[b, layer * D : (layer + 1) * D] += part / T
    expected = sequences @ model.W_out.weight.T + model.W_out.bias
    torch.testing.assert_close(model.readout(end.state), expected)
    assert model(X).shape == (3, CLASSES) and model.output_dim == CLASSES


def test_its_limit_estimator_is_the_adjoint_for_every_parameter() -> None:
    got = estimate_gradients(classifier(), X, Y, "implicit", **SETTLED)
    assert got.keys() == exact().keys()
    for name, expected in exact().items():
        assert float((got[name] - expected).norm()) <= 1e-8 * float(expected.norm()), name


def test_its_own_estimator_is_off_by_the_square_of_beta() -> None:
    def error(beta: float) -> float:
        model = classifier()
        assert model.estimator == "asymmetric"
        settings = replace(RELATIVE, beta=beta)
        return apart(estimate(model, X, Y, model.estimator, settings)[0].gradients, exact())

    assert error(0.02) <= 1e-4
    assert math.log(error(0.16) / error(0.04), 4) == pytest.approx(2, abs=0.05)


def test_a_later_token_changes_no_earlier_state_of_a_classifier() -> None:
    model, other = classifier(), X.clone()
    other[:, -1] = (other[:, -1] + 1) % V
    one, two = (relax(model, x, tol=1e-6, max_steps=200).state for x in (X, other))
    for a, b in zip(one, two, strict=True):
        a, b = a.unflatten(0, (3, T)), b.unflatten(0, (3, T))
        assert torch.equal(a[:, :-1], b[:, :-1]) and not torch.equal(a[:, -1], b[:, -1])


def test_it_learns_digits_as_sequences_of_grey_levels() -> None:
    data = build_dataset("digits")

    def sequences(split: Split, count: int) -> Split:
        coarse = F.avg_pool2d(split.x[:count], 2)
        return Split((7 * coarse).round().long().flatten(1), split.y[:count])

    train, held = sequences(data.train, 1200), sequences(data.validation, 150)
    model = TransformerEqProp(8, 48, 1, 16, num_heads=4, num_classes=10, inner_dim=96, seed=0)
    phases = {"free_steps": 40, "nudged_steps": 40, "tol": 1e-2}
    trainer = EqPropTrainer(model, model.limit, lr=2e-2, schedule="one_cycle", **phases)
    before = trainer.evaluate(held.batches(50))
    trainer.fit(train.batches(30, shuffle=True, seed=0), epochs=9)
    after = trainer.evaluate(held.batches(50))
    assert before["samples"] == after["samples"] == 150 and "perplexity" not in after
    # a linear map of the same tokens, one by one, reaches 0.86: an image of 4 x 4 says no more
    assert before["accuracy"] < 0.2 and after["accuracy"] >= 0.8


def wrong(x: Tensor, y: Tensor) -> None:
    EqPropTrainer(classifier()).train_batch(x, y)


def test_a_classifier_says_what_it_takes() -> None:
    model = classifier()
    with pytest.raises(ValueError, match=f"exactly max_seq_len={T} tokens.* got {T - 1}"):
        model(X[:, :-1])
    with pytest.raises(ValueError, match="at most"):
        model(torch.zeros(2, T + 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"y must be class indices \(B,\)"):
        wrong(X, X)
    with pytest.raises(ValueError, match="class indices 0..3, got values from 0 to 4"):
        wrong(X, torch.tensor([0, 4, 1]))
    with pytest.raises(ValueError, match="one target per sample"):
        wrong(X, Y[:2])
    with pytest.raises(TypeError, match="tells 4 classes apart"):
        model.generate(X)
    with pytest.raises(TypeError, match="tells 4 classes apart"):
        TransformerEqProp.from_text("abc", D, 1, T, num_classes=4).generate("a")


def test_from_text_takes_the_symbols_of_the_text() -> None:
    model = TransformerEqProp.from_text("to be or\n", D, 1, T, seed=0)
    assert model.vocab is not None and "".join(model.vocab.symbols) == "\n beort"
    assert model.vocab_size == 7 and set(model.generate("be", 20, seed=0)) <= set("\n beort")
    words = TransformerEqProp.from_text("a b a c", D, 1, T, level="word", max_words=2)
    assert words.vocab is not None and words.vocab.symbols == ("<unk>", "a", "b")
    with pytest.raises(TypeError, match="text must be a str"):
        TransformerEqProp.from_text(7, D)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="symbols"):
        TransformerEqProp.from_text("", D)
    with pytest.raises(TypeError, match="hiden_dim"):
        TransformerEqProp.from_text("abc", hiden_dim=D)

"""The explorer of attention and settling: its numbers are the model's, its sentence says them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import FullEqPropLM, LoopedMLPForLM, RecurrentEqPropLM, relax
from eqprop_lab.notebook.explorers.attention_and_settling import (
    SETTLED,
    SWEEPS,
    AttentionAndSettling,
)

LETTERS = list("abcdefgh\n ")
TEXTS = torch.tensor([[0, 1, 2, 3, 8, 5, 9], [7, 6, 5, 4, 3, 2, 1]])


@pytest.fixture(scope="module")
def model() -> FullEqPropLM:
    return FullEqPropLM(10, 12, 2, 3, 7, inner_dim=16, seed=0).double()


@pytest.fixture(scope="module")
def shown(model: FullEqPropLM) -> AttentionAndSettling:
    return AttentionAndSettling(model, TEXTS, LETTERS)


def by_hand(model: FullEqPropLM, sweep: int, layer: int, head: int) -> np.ndarray:
    """p of the first text, one row after the other, without the package's attention."""
    path = relax(model, TEXTS[:1], SWEEPS, trajectory=True).trajectory
    assert path is not None
    attention: Any = model.attention[layer]
    own = slice(4 * head, 4 * head + 4)
    with torch.no_grad():
        e = model.embedding(TEXTS[:1])[0]
        below = path[sweep][layer - 1] if layer else e
        q, k = (e @ attention.W_q().T)[:, own], (below @ attention.W_k().T)[:, own]
        rows = np.zeros((7, 8))
        for i in range(7):
            scores = [float(q[i] @ k[j]) / 2 + float(attention.bias[head, i - j]) for j in range(i)]
            weights = np.exp([0.0, *scores])
            rows[i, : i + 1] = weights / weights.sum()
    return rows


@pytest.mark.parametrize(("sweep", "layer", "head"), [(0, 1, 1), (3, 2, 3), (SWEEPS, 1, 2)])
def test_the_pattern_is_the_attention_of_the_formula(
    model: FullEqPropLM, shown: AttentionAndSettling, sweep: int, layer: int, head: int
) -> None:
    shown.reset()
    shown.set(sweep=sweep, layer=layer, head=head)
    wanted = by_hand(model, sweep, layer - 1, head - 1)
    np.testing.assert_allclose(shown.data.pattern, wanted, atol=1e-12)


def test_the_residuals_are_those_of_each_token(
    model: FullEqPropLM, shown: AttentionAndSettling
) -> None:
    shown.reset()
    shown.set(sweep=4, token=3)
    path = relax(model, TEXTS[:1], 4, trajectory=True).trajectory
    assert path is not None
    new, old = (torch.cat(state, 1) for state in (path[4], path[3]))
    wanted = ((new - old).norm(dim=1) / new.norm(dim=1)).numpy()
    np.testing.assert_allclose(shown.data.residuals, wanted, rtol=1e-9)
    assert f"that of this token {wanted[2]:.1e}" in shown.alt
    assert f"the largest residual is {wanted.max():.1e}" in shown.alt
    first = int(np.flatnonzero(wanted > SETTLED)[0])
    assert f"The first {first} of 7 tokens" in shown.alt


def test_the_sentence_names_what_the_token_attends_to(shown: AttentionAndSettling) -> None:
    shown.reset()
    shown.set(token=1)
    assert "Token 1, a, attends to the sink 1.00." in shown.alt
    shown.set(token=6, text=1, sweep=0)
    row = shown.data.pattern[5]
    best = int(row.argmax())
    where = f"token {best} {'abcd⏎f␣'[best - 1]}" if best else "the sink"
    assert f"Token 6, f, attends to {where} {row[best]:.2f}" in shown.alt
    assert "at the start (sweep 0)" in shown.alt


@pytest.mark.parametrize(
    "change", [{"text": 2}, {"layer": 2}, {"head": 2}, {"sweep": 2}, {"token": 4}]
)
def test_every_control_changes_picture_and_sentence(
    shown: AttentionAndSettling, change: dict[str, int]
) -> None:
    shown.reset()
    png, alt = shown.png, shown.alt
    shown.set(**change)
    assert shown.png != png and shown.alt != alt and shown.errors == []


def test_one_text_one_layer_one_head_have_no_sliders_and_later_training_changes_nothing() -> None:
    model = RecurrentEqPropLM(10, 8, num_heads=1, max_seq_len=7, seed=0)
    shown = AttentionAndSettling(model, TEXTS[:1], LETTERS)
    assert set(shown.values) == {"sweep", "token"}
    before = shown.alt
    with torch.no_grad():
        model.embedding.token.weight.mul_(-1)
    shown.film.cache_clear()
    shown.set(sweep=shown.values["sweep"])
    assert shown.alt == before


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": LoopedMLPForLM(10, 8)}, TypeError, "runs through attention.*LoopedMLPForLM"),
        ({"x": TEXTS[:, :1]}, ValueError, r"at least two tokens, got \(2, 1\)"),
        ({"x": TEXTS.double()}, TypeError, "integer tokens"),
        ({"symbols": LETTERS[:-1]}, ValueError, "each of the 10 tokens, got 9"),
    ],
)
def test_bad_arguments_are_named(
    model: FullEqPropLM, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    given = {"model": model, "x": TEXTS, "symbols": LETTERS} | change
    with pytest.raises(error, match=words):
        AttentionAndSettling(**given)

"""The formulas in the docstrings, written out token by token with loops, against the models."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqprop_lab import relax
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.models.language.attention import (
    CausalAttention,
    bias_table,
    head_width,
    local_bias,
    split_heads,
    weights,
    with_sink,
)
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.ball import (
    ball,
    ball_entropy,
    ball_product,
    rms,
    squareplus,
    squareplus_integral,
)
from eqprop_lab.models.language.directed import DirectedLM
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.language.window import Window
from tests.models.language.small import MODELS, VARIANTS, B, D, T, V, X, Y, random

HEADS = 4
STEPS = 80


def normed(x: Tensor) -> Tensor:
    return x / (x.square().mean() + 1e-5).sqrt()


def in_ball(a: Tensor) -> Tensor:
    return a / (1 + a.square().mean()).sqrt()


def softened(x: Tensor) -> Tensor:
    return (x + (x * x + 1 / 64).sqrt()) / 2


def attended(
    q: Tensor, keys: list[Tensor], values: list[Tensor], bias: Tensor, distances: list[int]
) -> Tensor:
    """One query (d,) over keys and values (d,) each at its distance, with the sink."""
    width, parts = len(q) // HEADS, []
    for head in range(HEADS):
        cut = slice(head * width, (head + 1) * width)
        scores = [
            float(q[cut] @ k[cut]) / math.sqrt(width) + float(bias[head, far])
            for k, far in zip(keys, distances, strict=True)
        ]
        sums = 1 + sum(map(math.exp, scores))  # the sink: score 0
        part = torch.zeros(width, dtype=q.dtype)
        for score, v in zip(scores, values, strict=True):
            part = part + math.exp(score) / sums * v[cut]
        parts.append(part)
    return torch.cat(parts)


def embedded(model: nn.Module, token: int, place: int) -> Tensor:
    table = model.embedding
    return normed(table.token.weight[token] + table.position.weight[place])


def directed(model: DirectedLM, tokens: list[int]) -> Tensor:
    """Logits (T, V): one token after the other, each to its own end."""
    past: list[list[Tensor]] = []  # of every token, its embedding and its layers
    above = 0 if isinstance(model, FullEqPropLM) else 1  # full attends to the layer below
    logits = []
    for place, token in enumerate(tokens):
        e = embedded(model, token, place)
        outside = []
        for number, layer in enumerate(model.attention):
            w_k, w_v = layer.W_k.weight, layer.W_v.weight
            keys, values = ([w @ r[number + above] for r in past] for w in (w_k, w_v))
            distances = [place - j for j in range(place)]
            found = attended(layer.W_q.weight @ e, keys, values, layer.bias, distances)
            outside.append(model.gain[number] * e + layer.W_o.weight @ found)
        state = [torch.zeros(D, dtype=e.dtype) for _ in outside]
        for _ in range(STEPS):
            state = [in_ball(u + o) for u, o in zip(outside, inside(model, state), strict=True)]
        past.append([e, *state])
        logits.append(model.W_out(torch.cat([normed(r) for r in state])))
    return torch.stack(logits)


def inside(model: DirectedLM, state: list[Tensor]) -> list[Tensor]:
    if isinstance(model, RecurrentEqPropLM):
        hidden = softened(model.W_1.weight @ state[0] + model.b)
        return [model.W_2.weight @ hidden]
    assert isinstance(model, FullEqPropLM)
    found = []
    for number, r in enumerate(state):
        xi = model.xi[number].weight
        force = xi.T @ softened(xi @ r + model.c[number])
        if number > 0:
            force = force + model.B[number - 1].weight @ state[number - 1]
        if number + 1 < len(state):
            force = force + model.B[number].weight.T @ state[number + 1]
        found.append(force)
    return found


def retrieved(model: EqPropAttentionOnlyLM, tokens: list[int]) -> Tensor:
    h = [embedded(model, token, place) for place, token in enumerate(tokens)]
    for layer in model._layers():
        core, x = layer.settle.model, [normed(row) for row in h]
        keys = [
            torch.cat([in_ball(part) for part in (2 * core.W_k.weight @ row).chunk(HEADS)])
            for row in x
        ]
        for place, row in enumerate(x):
            a, seen = torch.zeros(D, dtype=row.dtype), keys[: place + 1]
            distances = [place - j for j in range(place + 1)]
            w_q = core.W_q.weight
            for _ in range(60):
                found = attended(w_q @ a, seen, seen, core.bias, distances)
                a = in_ball(row + w_q.T @ found)
            h[place] = h[place] + layer.W_o.weight @ a
            inner = F.gelu(layer.up.weight @ normed(h[place]) + layer.up.bias)
            h[place] = h[place] + layer.down.weight @ inner + layer.down.bias
    return torch.stack([model.W_out(normed(row)) for row in h])


def windowed(model: LoopedMLPForLM, tokens: list[int]) -> Tensor:
    padded = [V] * (model.window.length - 1) + tokens
    rows = [
        torch.cat([model.window.embedding.weight[t] for t in padded[i : i + model.window.length]])
        for i in range(len(tokens))
    ]
    return torch.stack([looped(model, row) for row in rows])


def looped(model: LoopedMLPForLM | HybridEqPropLM, f: Tensor) -> Tensor:
    u = model.W_in(f) + model.W_rec.bias
    r = torch.zeros_like(u)
    for _ in range(STEPS):
        r = torch.tanh(model.W_rec.weight @ r + u)
    logits: Tensor = model.W_out(r)
    return logits


def on_blocks(model: HybridEqPropLM, tokens: list[int]) -> Tensor:
    h = [embedded(model, token, place) for place, token in enumerate(tokens)]
    for block in model.blocks:
        qkv = [
            block.attention.qkv.weight @ (block.before_attention.weight * normed(row)) for row in h
        ]
        q, k, v = zip(*(row.chunk(3) for row in qkv), strict=True)
        for place in range(len(h)):
            distances = [place - j for j in range(place + 1)]
            bias = block.attention.bias
            found = attended(q[place], k[: place + 1], v[: place + 1], bias, distances)
            h[place] = h[place] + block.attention.out.weight @ found
            inner = block.up(block.before_mlp.weight * normed(h[place]))
            h[place] = h[place] + block.down(F.gelu(inner))
    features = [normed(row) for row in h]
    return torch.stack([looped(model, f) + model.W_skip.weight @ f for f in features])


BY_HAND = {
    "full": directed,
    "recurrent_core": directed,
    "hybrid": on_blocks,
    "looped_mlp": windowed,
    "attention_only": retrieved,
}


def settle_well(model: nn.Module) -> None:
    if isinstance(model, EquilibriumModel):
        model.max_steps = STEPS
    elif isinstance(model, EqPropAttentionOnlyLM):
        for layer in model._layers():
            layer.settle.use("response", free_steps=60, nudged_steps=60)


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_the_logits_are_those_of_the_formula(name: str) -> None:
    model = MODELS[name]().double()
    for parameter in model.parameters():  # gains, biases and tables that are not as at the start
        parameter.add_(0.1 * random(*parameter.shape, seed=parameter.numel()))
    settle_well(model)
    expected = BY_HAND[name](model, X[0].tolist())
    torch.testing.assert_close(model(X)[0], expected, rtol=0, atol=1e-9)
    assert float(expected.std(0).min()) > 1e-3  # tokens differ


def test_a_token_without_a_past_gets_nothing_and_no_row_is_lost() -> None:
    table = bias_table(local_bias(HEADS, T), strict=True)
    assert torch.isinf(table[:, 0, 1:]).all() and (table[:, :, 0] == 0).all()
    q, k = random(B, HEADS, T, 3), random(B, HEADS, T, 3, seed=1)
    p = weights(q, with_sink(k), table.double())
    assert torch.isfinite(p).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(B, HEADS, T).double())
    assert (p[:, :, 0, 0] == 1).all() and (p[:, :, 0, 1:] == 0).all()
    # huge scores, and a table of which only the sink is left
    shut = torch.full_like(table, -math.inf).double()
    shut[:, :, 0] = 0
    for scores in (1e4 * q, -1e4 * q):
        assert torch.isfinite(weights(scores, with_sink(k), table.double())).all()
        closed = weights(scores, with_sink(k), shut)
        assert (closed[..., 0] == 1).all() and (closed[..., 1:] == 0).all()


@pytest.mark.parametrize("strict", [True, False])
def test_the_table_is_the_bias_of_the_distance_and_its_gradient_counts_the_pairs(
    strict: bool,
) -> None:
    bias = random(2, 5).requires_grad_()
    table = bias_table(bias, strict)
    for i in range(5):
        for j in range(5):
            seen = j < i if strict else j <= i
            for head in range(2):
                expected = float(bias.detach()[head, i - j]) if seen else -math.inf
                assert float(table.detach()[head, i, 1 + j]) == expected
    table.masked_fill(torch.isinf(table), 0).sum().backward()
    pairs = [0.0, 4, 3, 2, 1] if strict else [5.0, 4, 3, 2, 1]
    assert bias.grad is not None and bias.grad.tolist() == [pairs] * 2


def test_heads_begin_at_a_distance_of_their_own() -> None:
    bias = local_bias(4, 20)
    assert bias.argmax(1).tolist() == [1, 2, 3, 4]
    assert bias[0, :3].tolist() == [2.5, 4.0, 2.5] and float(bias.min()) == 4 - 1.5 * 6


def test_heads_are_cut_side_by_side() -> None:
    rows = torch.arange(2 * 3 * 8.0).reshape(6, 8)
    parts = split_heads(rows, 4, 3)
    assert parts.shape == (2, 4, 3, 2)
    assert parts[1, 2, 0].tolist() == rows[3, 4:6].tolist()
    with pytest.raises(ValueError, match="num_heads must divide hidden_dim, got num_heads=3"):
        head_width(16, 3)


@pytest.mark.parametrize("name", ["full", "recurrent_core", "hybrid", "attention_only"])
def test_the_bias_that_is_hoisted_out_of_the_loop_is_trained(name: str) -> None:
    # against a finite difference: a reference by autograd would share a missing edge
    model = MODELS[name]().double()
    bias = next(
        p for key, p in model.named_parameters() if key.endswith("bias") and len(p) == HEADS
    )
    assert bias.shape == (HEADS, T)
    along, eps = random(HEADS, T, seed=7), 1e-5

    def loss() -> Tensor:
        return F.cross_entropy(model(X).flatten(0, 1), Y.flatten())

    settle_well(model)
    (gradient,) = torch.autograd.grad(loss(), bias)
    with torch.no_grad():
        ends = []
        for by in (eps, -2 * eps):
            bias.add_(by * along)
            ends.append(float(loss()))
    difference = (ends[0] - ends[1]) / (2 * eps)
    assert abs(difference) > 1e-6
    assert float((gradient * along).sum()) == pytest.approx(difference, rel=1e-5)


def test_attention_of_ordinary_blocks_sees_the_token_itself() -> None:
    attention = CausalAttention(D, HEADS, T)
    x = torch.randn(2, 1, D)
    assert float(attention(x)[0].detach().abs().max()) > 1e-3


def test_the_ball_norm_its_slope_and_its_entropy() -> None:
    a = 3 * random(5, D)
    r = ball(a)
    assert (r.norm(dim=1) < math.sqrt(D)).all()
    torch.testing.assert_close(r, torch.stack([in_ball(row) for row in a]))
    torch.testing.assert_close(ball(a * 1e-12), a * 1e-12)
    v = random(5, D, seed=1)
    jacobians = torch.stack([torch.autograd.functional.jacobian(ball, row) for row in a])
    torch.testing.assert_close(ball_product(r, v), (jacobians @ v[:, :, None])[:, :, 0])
    leaf = r.clone().requires_grad_()
    (slope,) = torch.autograd.grad(ball_entropy(leaf).sum(), leaf)
    torch.testing.assert_close(slope, a)
    sizes = torch.linalg.eigvalsh(jacobians)
    torch.testing.assert_close(jacobians, jacobians.mT)
    assert float(sizes.min()) > 0 and float(sizes.max()) < 1


def test_squareplus_its_two_derivatives_and_its_integral() -> None:
    x = torch.linspace(-5, 5, 41, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(squareplus(x), softened(x))
    torch.testing.assert_close(squareplus(x.detach()), softened(x).detach())
    assert torch.autograd.gradcheck(squareplus, (x,))
    assert torch.autograd.gradgradcheck(squareplus, (x,))
    (slope,) = torch.autograd.grad(squareplus_integral(x).sum(), x)
    torch.testing.assert_close(slope, softened(x).detach())
    (rise,) = torch.autograd.grad(squareplus(x).sum(), x)
    assert 0 < float(rise.min()) and float(rise.max()) < 1


def test_the_norm_outside_of_the_loop_has_an_epsilon() -> None:
    zero = torch.zeros(2, D, requires_grad=True)
    rms(zero).sum().backward()
    assert torch.isfinite(rms(zero)).all() and zero.grad is not None
    assert torch.isfinite(zero.grad).all()
    torch.testing.assert_close(rms(random(3, D)), torch.stack([normed(r) for r in random(3, D)]))


def test_windows_are_padded_before_the_first_token() -> None:
    window = Window(V, 2, 3)
    found = window(torch.tensor([[4, 5]])).reshape(2, 3, 2)
    table = window.embedding.weight
    assert torch.equal(found[0], table[[V, V, 4]]) and torch.equal(found[1], table[[V, 4, 5]])


@pytest.mark.parametrize("name", ["full", "recurrent_core", "hybrid", "looped_mlp"])
def test_the_state_of_forward_is_that_of_relax(name: str) -> None:
    model = MODELS[name]().double()
    with torch.no_grad():
        settled = model.readout(relax(model, X).state).unflatten(0, X.shape)
        assert torch.equal(model(X), settled) and model(X).shape == (B, T, V)

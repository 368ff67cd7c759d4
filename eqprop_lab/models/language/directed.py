"""What the two models have in common whose loop runs through causal attention.

    r^l_i <- n( g_l e_i + W_o^l sum_(j < i) p^l_ij W_v^l s^l_j + own(r_i) ),
    q_i = W_q^l e_i,   k_j = W_k^l s^l_j,   e = rms(token + position),   n the ball norm

s^l is what a layer attends to: its own states, s^l = r^l, or those of the layer below,
s^l = r^(l-1), where s^1 = e stands still and is a part of the drive.

The query comes from the drive, keys and values from the past, strictly: so attention never enters
the Jacobian of a token with respect to itself. That Jacobian alone decides existence, uniqueness
and convergence (by induction over the tokens); how large W_o W_v are decides only how many sweeps
the news take. And token i depends on the settled states of the tokens before it alone: generation
relaxes one token at a time, exactly.

Across tokens the Jacobian is strictly lower triangular and cannot be symmetric: no energy of the
whole exists, plain centered EqProp is wrong at every beta, and `asymmetric` is right.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.linear_maps import DenseMap
from eqprop_lab.equilibrium.spectral import Bounded, raw_norm
from eqprop_lab.equilibrium.state import State
from eqprop_lab.equilibrium.view import ModelView
from eqprop_lab.models.language.attention import (
    attend,
    bias_table,
    grown,
    head_width,
    local_bias,
    split_heads,
    with_sink,
)
from eqprop_lab.models.language.ball import ball, ball_product, squareplus
from eqprop_lab.models.language.generation import Cache, settled
from eqprop_lab.models.language.tokens import Embedding, TokenModel, last_rows
from eqprop_lab.validation import positive_int

START = 0.9  # share of its cap that a bounded weight has at the start


class Weight(nn.Module):
    """One matrix, orthogonal at the start; with a cap, its norm stays strictly below it."""

    def __init__(self, rows: int, columns: int, cap: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        nn.init.orthogonal_(self.weight)  # Gaussian weights of that norm are half as large
        if cap is not None:
            with torch.no_grad():
                self.weight.mul_(raw_norm(START * cap, cap))
            bound = Bounded(self.weight, DenseMap(columns, rows), cap)
            parametrize.register_parametrization(self, "weight", bound)

    def forward(self) -> Tensor:
        """The effective matrix."""
        return self.weight


class PastAttention(nn.Module):
    """W_o sum_(j < i) p_ij W_v r_j of one layer: its weights, and a bias for every distance."""

    def __init__(self, hidden_dim: int, num_heads: int, max_seq_len: int) -> None:
        super().__init__()
        self.W_q = Weight(hidden_dim, hidden_dim)
        self.W_k = Weight(hidden_dim, hidden_dim)
        self.W_v = Weight(hidden_dim, hidden_dim)
        self.W_o = Weight(hidden_dim, hidden_dim)
        self.bias = nn.Parameter(local_bias(num_heads, max_seq_len))


class DirectedLM(TokenModel, EquilibriumModel):
    """Base of the two: embeddings, attention layer by layer, ball norm, readout of all layers.

    A subclass gives `own`, the part of the force within the token, and `contraction_bound`.
    Shapes: tokens (B, T), T <= max_seq_len -> logits (B, T, V); state: a block (B T, d) a layer;
    drive: u of every layer (B T, d), then q (B, H, T, d_h) of every layer that attends in the loop.
    """

    estimator, limit = "asymmetric", "implicit"
    # at any fixed strength there are weights under which the nudged phases run away
    beta = "auto"
    nudged_steps = 20  # what a token is told of later ones comes from one to the next
    below = 0  # layer l attends to the states of layer l - below: 0 or 1
    contraction_metric = "l2 of a token over its layers, given the tokens before it"
    metric_condition = math.inf

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        max_seq_len: int,
        max_steps: int,
    ) -> None:
        super().__init__(max_steps)
        self.vocab_size = self.output_dim = positive_int("vocab_size", vocab_size)
        self.max_seq_len = positive_int("max_seq_len", max_seq_len)
        self.num_layers = positive_int("num_layers", num_layers)
        self.scale = head_width(hidden_dim, num_heads) ** -0.5
        self.hidden_dim, self.num_heads = hidden_dim, num_heads
        self.groups = (tuple(range(num_layers)),)
        self.kappa = (1.0,) * num_layers
        self.embedding = Embedding(vocab_size, hidden_dim, max_seq_len)
        self.gain = nn.Parameter(torch.ones(num_layers, hidden_dim))
        self.attention = nn.ModuleList(
            PastAttention(hidden_dim, num_heads, max_seq_len) for _ in range(num_layers)
        )

    def effective_weights(self) -> dict[str, Tensor]:
        """What a sweep reads: `attention_weights` of the layers that attend in the loop."""
        return self.attention_weights(range(self.below, self.num_layers))

    def attention_weights(self, layers: Iterable[int] | None = None) -> dict[str, Tensor]:
        """Of every layer (None: all): W_k and W_v stacked, W_o, and the table of the bias."""
        found = {}
        for number in range(self.num_layers) if layers is None else layers:
            layer = self._layer(number)
            found[f"kv{number}"] = torch.cat([layer.W_k(), layer.W_v()])
            found[f"o{number}"] = layer.W_o()
            found[f"table{number}"] = bias_table(layer.bias, strict=True)
        return found

    def _layer(self, number: int) -> PastAttention:
        layer = self.attention[number]
        assert isinstance(layer, PastAttention)
        return layer

    def drive(self, x: Tensor) -> State:
        return self.drive_from(self.embedding(x))

    def drive_from(self, e: Tensor) -> State:
        """The drive of embedded tokens (B, T, d)."""
        rows, tokens = e.flatten(0, 1), e.shape[1]
        own, queries = self.own_drive(rows, tokens)
        for number in range(self.below):  # what these attend to does not move
            weights = self.attention_weights([number])
            own[number] = own[number] + self.field(number, rows, queries[number], weights)
        return (*own, *queries[self.below :])

    def own_drive(self, rows: Tensor, tokens: int) -> tuple[list[Tensor], list[Tensor]]:
        """g_l e (B T, d) and q (B, H, T, d_h) of every layer, of embedded tokens (B T, d)."""
        queries = [
            split_heads(
                F.linear(rows, self._layer(number).W_q() * self.scale), self.num_heads, tokens
            )
            for number in range(self.num_layers)
        ]
        return [gain * rows for gain in self.gain], queries

    def initial_state(self, drive: State) -> State:
        return tuple(self.activate(u) for u in drive[: self.num_layers])

    def activate(self, a: Tensor) -> Tensor:
        return ball(a)

    def activation_product(self, state: State) -> Callable[[State], State]:
        return lambda v: tuple(ball_product(r, b) for r, b in zip(state, v, strict=True))

    def force(self, state: State, drive: State) -> State:
        return self.block_forces(range(self.num_layers), state, drive)

    def block_forces(self, group: Sequence[int], state: State, drive: State) -> State:
        weights = self._weights()
        return tuple(
            self.own(layer, state, self.outside(layer, state, drive, weights), weights)
            if layer in group
            else r
            for layer, r in enumerate(state)
        )

    def outside(self, layer: int, state: State, drive: State, weights: dict[str, Tensor]) -> Tensor:
        """Drive and field of the past (B T, d) of a layer: the force that is not of the token."""
        if layer < self.below:
            return drive[layer]
        q, seen = drive[self.num_layers + layer - self.below], state[layer - self.below]
        return drive[layer] + self.field(layer, seen, q, weights)

    def field(self, layer: int, seen: Tensor, q: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """W_o sum_(j < i) p_ij W_v s_j of what is seen (B T, d) and queries (B, H, T, d_h)."""
        tokens = q.shape[2]
        keys, values = self.keys_and_values(layer, seen, tokens, weights)
        table = weights[f"table{layer}"][:, :tokens, : tokens + 1]
        found = attend(q, with_sink(keys), with_sink(values), table)
        return found @ weights[f"o{layer}"].T

    def keys_and_values(
        self, layer: int, seen: Tensor, tokens: int, weights: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """k, v (B, H, T, d_h) of what is seen (B T, d)."""
        both = F.linear(seen, weights[f"kv{layer}"])
        k, v = (split_heads(part, self.num_heads, tokens) for part in both.chunk(2, 1))
        return k, v

    def begin(self, x: Tensor) -> tuple[Tensor, Cache]:
        e, tokens = self.embedding(x), x.shape[1]
        drive = self.drive_from(e)
        state = settled(self, self.initial_state(drive), drive, tokens)
        pairs = self._kept(e.flatten(0, 1), state, tokens, self._all_weights())
        kept = tuple((with_sink(k), with_sink(v)) for k, v in pairs)
        return self.readout(last_rows(state, tokens)), Cache(tokens, kept)

    def extend(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        rows = self.embedding(x, cache.tokens).flatten(0, 1)
        own, queries = self.own_drive(rows, 1)
        weights, fixed = self._all_weights(), []
        for layer, (k, v) in enumerate(cache.kept):
            row = weights[f"table{layer}"][:, cache.tokens, None, : cache.tokens + 1]
            found = attend(queries[layer], k, v, row)
            fixed.append(torch.addmm(own[layer], found, weights[f"o{layer}"].T))
        alone = OneToken(self)
        state = settled(alone, self.initial_state(tuple(fixed)), tuple(fixed))
        kept = tuple(
            (grown(k, new_k), grown(v, new_v))
            for (k, v), (new_k, new_v) in zip(
                cache.kept, self._kept(rows, state, 1, weights), strict=True
            )
        )
        return self.readout(state), Cache(cache.tokens + 1, kept)

    def _kept(
        self, rows: Tensor, state: State, tokens: int, weights: dict[str, Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of every layer, of embedded tokens (B T, d) and their settled states."""
        for layer in range(self.num_layers):
            yield self.keys_and_values(layer, self.seen(layer, rows, state), tokens, weights)

    def seen(self, layer: int, rows: Tensor, state: Sequence[Tensor]) -> Tensor:
        """What a layer attends to (B T, d), of embedded tokens (B T, d) and their states."""
        return rows if layer < self.below else state[layer - self.below]

    def _all_weights(self) -> dict[str, Tensor]:
        return self._weights() | self.attention_weights(range(self.below))

    @abstractmethod
    def own(self, layer: int, state: State, outside: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """The force on a layer (B T, d): what is of the token itself, and what comes from outside
        (B T, d).
        """


class OneToken(ModelView):
    """A token whose past has settled: what it attends to stands still, and is a part of the drive.

    force(r) = own(r) + drive: no attention inside the loop.
    """

    model: DirectedLM

    def force(self, state: State, drive: State) -> State:
        return self.block_forces(range(len(state)), state, drive)

    def block_forces(self, group: Sequence[int], state: State, drive: State) -> State:
        weights = self.model._weights()
        return tuple(
            self.model.own(layer, state, u, weights) if layer in group else r
            for layer, (r, u) in enumerate(zip(state, drive, strict=True))
        )


def with_memory(outside: Tensor, r: Tensor, up: Tensor, down: Tensor, bias: Tensor) -> Tensor:
    """outside + W_2 squareplus(W_1 r + b), rows (N, d); up = W_1 (m, d), down = W_2 (d, m)."""
    return torch.addmm(outside, squareplus(F.linear(r, up, bias)), down.T)

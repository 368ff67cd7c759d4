"""EqPropAttentionOnlyLM: attention that settles, in blocks with an ordinary network between them.

    a_i <- n( x_i + W_q^T sum_(j <= i) p_ij(a_i) k_j ),    k_j = n(2 W_k x_j) a head, x = rms h
    E_i  = G(a) - a.x_i - sqrt(d_h) sum_h LSE_(j <= i, sink)( W_q^h a.k_j / sqrt(d_h) + b_ij )
    h <- h + W_o a,    h <- h + W_2 gelu(W_1 rms h + b_1) + b_2

The query is the token's own state, the keys stand still: retrieval from a modern Hopfield network
whose memories are the tokens so far. Tokens do not meet in the loop, each has an energy, and plain
centered EqProp is exact. Certificate: sqrt(d_h) ||W_q||^2, as |k_j| < sqrt(d_h) bounds the
covariance of the keys that an attention can see. Between the blocks, autograd. Sources: Ramsauer et
al. 2020, arXiv:2008.02217; Bal and Sengupta 2022, arXiv:2209.09626 (EqProp for it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqprop_lab.equilibrium.block import EquilibriumBlock, evaluating
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.inputs import check_input
from eqprop_lab.equilibrium.norms import exact_norm, outward
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.language.attention import (
    bias_table,
    grown,
    head_width,
    join_heads,
    local_bias,
    split_heads,
    weights,
    with_sink,
)
from eqprop_lab.models.language.ball import ball, ball_entropy, ball_product, rms
from eqprop_lab.models.language.directed import Weight
from eqprop_lab.models.language.generation import Cache, settled
from eqprop_lab.models.language.tokens import Embedding, TokenModel
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int

BOUND = 0.95  # of the certificate


class Retrieval(EquilibriumModel):
    """One layer of attention as an equilibrium: x (B, T, d) -> a (B T, d).

    Args: hidden_dim, num_heads dividing it, max_seq_len; max_steps of a free phase.
    """

    def __init__(
        self, hidden_dim: int, num_heads: int, max_seq_len: int, max_steps: int = 15
    ) -> None:
        super().__init__(max_steps)
        width = head_width(hidden_dim, num_heads)
        self.output_dim = hidden_dim
        self.num_heads, self.scale = num_heads, width**-0.5
        self.W_q = Weight(hidden_dim, hidden_dim, math.sqrt(BOUND * self.scale))
        self.W_k = Weight(hidden_dim, hidden_dim)
        self.bias = nn.Parameter(local_bias(num_heads, max_seq_len))

    def check_batch(self, x: Tensor) -> None:
        check_input(x, self.bias)
        longest = self.bias.shape[1]
        if x.ndim != 3 or x.shape[2] != self.output_dim or not 0 < x.shape[1] <= longest:
            raise ValueError(
                f"x must be features (B, T, {self.output_dim}), T <= {longest}, got shape "
                f"{tuple(x.shape)}"
            )

    def tokens(self, x: Tensor) -> int | None:
        return x.shape[1]

    def effective_weights(self) -> dict[str, Tensor]:
        return {"q": self.W_q(), "table": bias_table(self.bias, strict=False)}

    def keys(self, x: Tensor) -> Tensor:
        """k_j of features (B, T, d), (B, H, T, d_h)."""
        rows = 2 * F.linear(x.flatten(0, 1), self.W_k())
        return ball(split_heads(rows, self.num_heads, x.shape[1]))

    def drive(self, x: Tensor) -> State:
        return x.flatten(0, 1), with_sink(self.keys(x))

    def initial_state(self, drive: State) -> State:
        return (ball(drive[0]),)

    def activate(self, a: Tensor) -> Tensor:
        return ball(a)

    def activation_product(self, state: State) -> Callable[[State], State]:
        return lambda v: (ball_product(state[0], v[0]),)

    def _attention(self, a: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(scaled queries (B, H, Q, d_h) of the last tokens, what the bias adds to their scores).

        There are as many queries as rows of a; keys of tokens before those may be known already.
        """
        held, tokens = self._weights(), keys.shape[2] - 1
        asking = a.shape[0] // keys.shape[0]
        queries = split_heads(a @ (held["q"] * self.scale).T, self.num_heads, asking)
        return queries, held["table"][:, tokens - asking : tokens, : tokens + 1]

    def force(self, state: State, drive: State) -> State:
        queries, table = self._attention(state[0], drive[1])
        found = join_heads(weights(queries, drive[1], table) @ drive[1])
        return (torch.addmm(drive[0], found, self._weights()["q"]),)

    def readout(self, state: State) -> Tensor:
        return state[0]

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return (cotangent,)

    def energy(self, state: State, drive: State) -> Tensor:
        """E_i of every token (B T,)."""
        a, keys = state[0], drive[1]
        queries, table = self._attention(a, keys)
        sums = torch.logsumexp(queries @ keys.mT + table, -1).sum(1).flatten()
        return ball_entropy(a) - (a * drive[0]).sum(1) - sums / self.scale

    def contraction_bound(self) -> float:
        """sqrt(d_h) ||W_q||^2 in l2 of each token, ||W_q|| exact."""
        return outward(exact_norm(self.W_q()) ** 2 / self.scale, self.output_dim)


class _Layer(nn.Module):
    def __init__(
        self, hidden_dim: int, num_heads: int, max_seq_len: int, inner_dim: int, max_steps: int
    ) -> None:
        super().__init__()
        core = Retrieval(hidden_dim, num_heads, max_seq_len, max_steps)
        self.settle = EquilibriumBlock(core)
        self.W_o = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.up = nn.Linear(hidden_dim, inner_dim)
        self.down = nn.Linear(inner_dim, hidden_dim)

    @property
    def core(self) -> Retrieval:
        """What settles."""
        assert isinstance(self.settle.model, Retrieval)
        return self.settle.model

    def forward(self, h: Tensor) -> Tensor:
        settled = self.settle(rms(h)).unflatten(0, h.shape[:2])
        return self.after(h, settled)

    def after(self, h: Tensor, settled: Tensor) -> Tensor:
        """What the rest of the layer makes of a settled state, both (B, T, d)."""
        h = h + self.W_o(settled)
        return h + self.down(F.gelu(self.up(rms(h))))


class EqPropAttentionOnlyLM(TokenModel):
    """An ordinary module with equilibrium blocks: ``EqPropTrainer(model)`` trains the blocks by
    `centered` (or the `gradient` asked for) and the rest by autograd.

    Args: as in FullEqPropLM; inner_dim, of the networks between (None: 4 hidden_dim).
    Shapes: tokens (B, T), T <= max_seq_len -> logits (B, T, vocab_size).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 68,
        num_layers: int = 2,
        num_heads: int = 4,
        max_seq_len: int = 128,
        inner_dim: int | None = None,
        max_steps: int = 15,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        head_width(hidden_dim, num_heads)
        self.vocab_size = self.output_dim = positive_int("vocab_size", vocab_size)
        self.max_seq_len = positive_int("max_seq_len", max_seq_len)
        self.hidden_dim, self.num_heads = hidden_dim, num_heads
        inner = self.inner_width(inner_dim, hidden_dim)
        with seeded(seed):
            self.embedding = Embedding(vocab_size, hidden_dim, max_seq_len)
            self.layers = nn.ModuleList(
                _Layer(hidden_dim, num_heads, max_seq_len, inner, max_steps)
                for _ in range(positive_int("num_layers", num_layers))
            )
            self.W_out = nn.Linear(hidden_dim, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        self.check_batch(x)
        h = self.embedding(x)
        for layer in self.layers:
            h = layer(h)
        return self.W_out(rms(h))

    def begin(self, x: Tensor) -> tuple[Tensor, Cache]:
        return self.extend(x, Cache())

    def extend(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        h = self.embedding(x, cache.tokens)
        past: list[Tensor | None] = [keys for (keys,) in cache.kept] or [None] * len(self.layers)
        kept = []
        for layer, known in zip(self._layers(), past, strict=True):
            core, before = layer.core, rms(h)
            keys = grown(known, core.keys(before))
            drive = before.flatten(0, 1), keys
            (a,) = settled(core, core.initial_state(drive), drive)
            h = layer.after(h, a.unflatten(0, h.shape[:2]))
            kept.append((keys,))
        return self.W_out(rms(h[:, -1])), Cache(cache.tokens + x.shape[1], tuple(kept))

    def residual(self, x: Tensor) -> float:
        """The largest residual of the blocks' free phases on a batch, as an evaluation has it."""
        with torch.no_grad(), evaluating() as ends:
            self(x)
        return max(ends)

    def contraction_bound(self) -> float:
        """The largest certified bound of the blocks."""
        return max(layer.core.contraction_bound() for layer in self._layers())

    def _layers(self) -> Iterator[_Layer]:
        return (layer for layer in self.layers if isinstance(layer, _Layer))

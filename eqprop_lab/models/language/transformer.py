"""The ordinary networks that every language model here is compared with, trained by backprop.

    BackpropTransformerLM  h <- h + Attn(rms h),  h <- h + W_2 gelu(W_1 rms h + b_1) + b_2
    BackpropWindowLM       z = W_3 tanh(W_2 tanh(W_1 [e_(t-15) ... e_t] + b_1) + b_2) + b_3

Same embeddings, attention and readout as the equilibrium models. Source: Vaswani et al. 2017,
arXiv:1706.03762, with the normalisation before each part (Xiong et al. 2020, arXiv:2002.04745).
"""

from __future__ import annotations

from itertools import zip_longest

import torch.nn.functional as F
from torch import Tensor, nn

from eqprop_lab.models.language.attention import CausalAttention, Pair, head_width
from eqprop_lab.models.language.generation import Cache
from eqprop_lab.models.language.tokens import Embedding, TokenModel
from eqprop_lab.models.language.window import WINDOW, Window
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int

EPSILON = 1e-5


class Block(nn.Module):
    """One pre-normalised block, (B, T, d) -> (B, T, d): attention and a GELU network of width m."""

    def __init__(self, hidden_dim: int, num_heads: int, max_seq_len: int, inner_dim: int) -> None:
        super().__init__()
        self.before_attention = nn.RMSNorm(hidden_dim, eps=EPSILON)
        self.attention = CausalAttention(hidden_dim, num_heads, max_seq_len)
        self.before_mlp = nn.RMSNorm(hidden_dim, eps=EPSILON)
        self.up = nn.Linear(hidden_dim, inner_dim)
        self.down = nn.Linear(inner_dim, hidden_dim)

    def forward(self, h: Tensor) -> Tensor:
        return self.cached(h, None)[0]

    def cached(self, h: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        """(h after the block, the keys and values of the past and of h)."""
        found, pair = self.attention.cached(self.before_attention(h), past)
        h = h + found
        return h + self.down(F.gelu(self.up(self.before_mlp(h)))), pair


class Blocks(nn.Sequential):
    """Blocks one after the other, (B, T, d) -> (B, T, d)."""

    def cached(self, h: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """h (B, T, d) after all blocks, and the cache with the T tokens in it."""
        kept: list[Pair] = []
        for block, past in zip_longest(self, cache.kept):
            assert isinstance(block, Block)
            h, pair = block.cached(h, past)
            kept.append(pair)
        return h, Cache(cache.tokens + h.shape[1], tuple(kept))


class BackpropTransformerLM(TokenModel):
    """Pre-norm causal transformer for ``EqPropTrainer(model, gradient="autograd")``.

    Args: vocab_size, hidden_dim, num_layers, num_heads, max_seq_len, integers >= 1, heads dividing
        the width; inner_dim, of the networks between (None: 4 hidden_dim); seed as in LoopedMLP.
    Shapes: tokens (B, T), T <= max_seq_len -> logits (B, T, vocab_size).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        max_seq_len: int = 128,
        inner_dim: int | None = None,
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
            self.blocks = Blocks(
                *(
                    Block(hidden_dim, num_heads, max_seq_len, inner)
                    for _ in range(positive_int("num_layers", num_layers))
                )
            )
            self.last = nn.RMSNorm(hidden_dim, eps=EPSILON)
            self.W_out = nn.Linear(hidden_dim, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        self.check_batch(x)
        return self.W_out(self.last(self.blocks(self.embedding(x))))

    def begin(self, x: Tensor) -> tuple[Tensor, Cache]:
        return self.extend(x, Cache())

    def extend(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        h, cache = self.blocks.cached(self.embedding(x, cache.tokens), cache)
        return self.W_out(self.last(h[:, -1])), cache


class BackpropWindowLM(TokenModel):
    """The feed-forward twin of LoopedMLPForLM: two tanh layers on the last `window` tokens.

    Args: vocab_size, embed_dim, hidden_dim (both layers), window, integers >= 1; seed as in
        LoopedMLP.
    Shapes: tokens (B, T) -> logits (B, T, vocab_size). Raises: TypeError or ValueError.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 200,
        embed_dim: int = 16,
        window: int = WINDOW,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = self.output_dim = positive_int("vocab_size", vocab_size)
        self.hidden_dim = positive_int("hidden_dim", hidden_dim)
        with seeded(seed):
            self.window = Window(vocab_size, embed_dim, window)
            self.layers = nn.Sequential(
                nn.Linear(self.window.width, hidden_dim),
                nn.Tanh(),
                nn.Linear(hidden_dim, hidden_dim),
                nn.Tanh(),
                nn.Linear(hidden_dim, vocab_size),
            )

    def forward(self, x: Tensor) -> Tensor:
        self.check_batch(x)
        return self.layers(self.window(x)).unflatten(0, x.shape)

    @property
    def context_length(self) -> int:
        return self.window.length

    def begin(self, x: Tensor) -> tuple[Tensor, None]:
        return self.layers(self.window(x)[x.shape[1] - 1 :: x.shape[1]]), None

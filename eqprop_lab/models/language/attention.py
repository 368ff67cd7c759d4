"""Causal attention with a bias for every distance and a sink, for ordinary blocks and loops alike.

    p_ij = softmax over {sink} and the keys j that i may see of (q_i . k_j / sqrt(d_h) + b[i - j])
    out_i = sum_j p_ij v_j

The sink has score 0, key and value zero: a token without a past attends to nothing, and nothing is
what it gets. b starts local: each head looks for a distance of its own. `strict` keys are those of
the past (j < i), without the token itself.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqprop_lab.validation import positive_int

NEAREST, SLOPE, FARTHEST = 4.0, 1.5, 6


def local_bias(heads: int, tokens: int) -> Tensor:
    """b (heads, tokens): b_h[delta] = 4 - 1.5 min(|delta - (h + 1)|, 6)."""
    place = torch.get_default_device()  # a new model lies where torch would put it
    own = torch.arange(1, heads + 1, device=place)
    distance = torch.arange(tokens, device=place) - own[:, None]
    return NEAREST - SLOPE * distance.abs().clamp_max(FARTHEST)


Pair = tuple[Tensor, ...]  # keys and values (B, H, 1 + T, d_h), the sink first


def bias_table(bias: Tensor, strict: bool, queries: int | None = None) -> Tensor:
    """b (H, T) -> scores to add (H, Q, 1 + T), sink first: b[i - j] where i may see j, else -inf.

    queries: only of the last Q tokens (None: of all). Differentiable in b.
    """
    tokens = bias.shape[1]
    place = torch.arange(tokens, device=bias.device)
    first = 0 if queries is None else tokens - queries
    distance = place[first:, None] - place
    seen = distance > 0 if strict else distance >= 0
    scores = bias[:, distance.clamp_min(0)].masked_fill(~seen, -math.inf)
    return F.pad(scores, (1, 0))


def split_heads(rows: Tensor, heads: int, tokens: int) -> Tensor:
    """(B T, d) -> (B, heads, T, d / heads)."""
    return rows.reshape(-1, tokens, heads, rows.shape[-1] // heads).transpose(1, 2)


def join_heads(parts: Tensor) -> Tensor:
    """(B, heads, T, d_h) -> (B T, d)."""
    return parts.transpose(1, 2).flatten(2).flatten(0, 1)


def with_sink(keys: Tensor) -> Tensor:
    """(B, H, T, d_h) -> (B, H, 1 + T, d_h): a row of zeros before the first."""
    return F.pad(keys, (0, 0, 1, 0))


def grown(past: Tensor | None, new: Tensor) -> Tensor:
    """Keys (B, H, T, d_h) after those of the past, which have the sink; None: there is no past."""
    return with_sink(new) if past is None else torch.cat([past, new], 2)


def weights(q: Tensor, k: Tensor, table: Tensor) -> Tensor:
    """p (B, H, Q, 1 + T) of queries (B, H, Q, d_h), scaled already, and keys (B, H, 1 + T, d_h)."""
    return torch.softmax(q @ k.mT + table, -1)


def attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """sum_j p_ij v_j as (B Q, d); k and v have the sink, q is scaled."""
    return join_heads(weights(q, k, table) @ v)


def head_width(hidden_dim: int, num_heads: int) -> int:
    """d / H. Raises ValueError unless the heads divide the width."""
    width, heads = positive_int("hidden_dim", hidden_dim), positive_int("num_heads", num_heads)
    if width % heads:
        raise ValueError(
            f"num_heads must divide hidden_dim, got num_heads={heads} and hidden_dim={width}"
        )
    return width // heads


class CausalAttention(nn.Module):
    """x (B, Q, d) -> W_o out (B, Q, d), tokens seeing themselves and the past: no biases but b."""

    def __init__(self, hidden_dim: int, num_heads: int, max_seq_len: int) -> None:
        super().__init__()
        self.heads = num_heads
        self.scale = head_width(hidden_dim, num_heads) ** -0.5
        self.qkv = nn.Linear(hidden_dim, 3 * hidden_dim, bias=False)
        self.out = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.bias = nn.Parameter(local_bias(num_heads, max_seq_len))

    def forward(self, x: Tensor) -> Tensor:
        return self.cached(x, None)[0]

    def cached(self, x: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        """(W_o out of x, after the tokens of the past; keys and values of those and of x)."""
        tokens = x.shape[1]
        q, k, v = (
            split_heads(part, self.heads, tokens) for part in self.qkv(x.flatten(0, 1)).chunk(3, 1)
        )
        before_k, before_v = past or (None, None)
        k, v = grown(before_k, k), grown(before_v, v)
        table = bias_table(self.bias[:, : k.shape[2] - 1], strict=False, queries=tokens)
        found = attend(q * self.scale, k, v, table)
        return self.out(found).unflatten(0, (-1, tokens)), (k, v)

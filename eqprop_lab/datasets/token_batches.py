"""Windows of a long text: x (B, T) the tokens, y (B, T) the token that follows each of them.

In training the text is cut into windows anew each time, from a random start on, and they come in a
random order: a token is seen once an epoch, with another past each time. Otherwise the windows lie
fixed, one after the other, and the last one is as short as the text leaves it, in a batch of its
own: every token but the first is predicted, and counted, exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.datasets.splits import Batches, Split
from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.devices import pick_device
from eqprop_lab.validation import positive_int, real


class TokenBatches(Batches):
    """(x, y) int64 of a stream of tokens (N,), iterable again and again.

    shuffle: the windows of training, drawn from `generator` and from nothing else.
    characters_per_token: of this text, 1.0 where a token is a character; it turns nats a token into
    bits a character.

    Raises: TypeError, ValueError naming the argument; ValueError for fewer than seq_len + 1 tokens.
    """

    def __init__(
        self,
        tokens: Tensor,
        seq_len: int,
        size: int,
        shuffle: bool,
        seed: int,
        vocab: Vocabulary,
        characters_per_token: float = 1.0,
    ) -> None:
        self.seq_len = positive_int("seq_len", seq_len)
        if tokens.ndim != 1 or tokens.dtype != torch.int64:
            raise TypeError(
                f"tokens must be one sequence (N,) of int64, got {tuple(tokens.shape)} of "
                f"{tokens.dtype}"
            )
        if len(tokens) <= self.seq_len:
            raise ValueError(
                f"seq_len must leave a next token: {len(tokens)} tokens have windows of at most "
                f"{len(tokens) - 1}, got {self.seq_len}"
            )
        super().__init__(Split(tokens[:-1], tokens[1:]), size, shuffle, seed)
        self.vocab = vocab
        self.characters_per_token = real("characters_per_token", characters_per_token, above=0.0)

    @property
    def windows(self) -> int:
        """Whole windows in one pass; in training one fewer, so that the start has room to move."""
        whole = len(self.split) // self.seq_len
        return max(1, (len(self.split) + 1) // self.seq_len - 1) if self.shuffle else whole

    def __len__(self) -> int:
        short = not self.shuffle and len(self.split) % self.seq_len > 0
        return -(-self.windows // self.size) + short

    @property
    def facts(self) -> dict[str, Any]:
        """See `Batches`."""
        return super().facts | {"seq_len": self.seq_len, "vocab": self.vocab.digest}

    def hold_out(self, fraction: float) -> tuple[Batches, Batches]:
        """(the beginning of the text, as before; its end, a `fraction`, in fixed windows)."""
        stream = torch.cat([self.split.x[:1], self.split.y])
        part = real("fraction", fraction, above=0.0, below=1.0)
        cut = len(stream) - round(len(stream) * part)
        if not self.seq_len < cut < len(stream) - self.seq_len:
            raise ValueError(
                f"fraction must leave windows of {self.seq_len} tokens in both parts: {fraction} "
                f"of {len(stream)} is {len(stream) - cut}"
            )
        rest, held = (
            TokenBatches(
                tokens, self.seq_len, self.size, shuffle, 0, self.vocab, self.characters_per_token
            )
            for tokens, shuffle in ((stream[:cut], self.shuffle), (stream[cut:], False))
        )
        rest.generator = self.generator
        return rest, held

    def _plain(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, length = self.windows, self.seq_len
        start = 0
        if self.shuffle:
            room = len(self.split) - count * length
            start = int(torch.randint(room + 1, (), generator=self.generator, device="cpu"))
        end = start + count * length
        x, y = (part[start:end].view(count, length) for part in (self.split.x, self.split.y))
        if self.shuffle:
            order = torch.randperm(count, generator=self.generator, device="cpu").to(x.device)
            for rows in order.split(self.size):
                yield x[rows], y[rows]
            return
        yield from zip(x.split(self.size), y.split(self.size), strict=True)
        if end < len(self.split):
            yield self.split.x[None, end:], self.split.y[None, end:]


@dataclass(frozen=True)
class TokenSplit:
    """The tokens (N,) of one split, to be read in windows of seq_len: for texts what `Split` is."""

    tokens: Tensor
    seq_len: int
    vocab: Vocabulary
    characters_per_token: float

    def __len__(self) -> int:
        """The tokens that are predicted."""
        return len(self.tokens) - 1

    def to(self, device: str | torch.device) -> TokenSplit:
        """The whole text on `device`; batches are cut there."""
        return replace(self, tokens=self.tokens.to(pick_device(device)))

    def batches(self, batch_size: int = 32, shuffle: bool = False, seed: int = 0) -> TokenBatches:
        """Windows anew each time (shuffle) or fixed. Raises as `TokenBatches`."""
        size = positive_int("batch_size", batch_size)
        return TokenBatches(
            self.tokens, self.seq_len, size, shuffle, seed, self.vocab, self.characters_per_token
        )

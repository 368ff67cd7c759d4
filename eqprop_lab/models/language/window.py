"""The last tokens side by side: the context of models without attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from eqprop_lab.validation import positive_int

WINDOW = 16


class Window(nn.Module):
    """x (B, T) -> [e(x_(t-w+1)) ... e(x_t)] of every token, (B T, w e).

    Before the first token stands a pad token.

    Args: vocab_size, embed_dim e, window w, integers >= 1.
    """

    def __init__(self, vocab_size: int, embed_dim: int, window: int = WINDOW) -> None:
        super().__init__()
        self.length = positive_int("window", window)
        self.pad = positive_int("vocab_size", vocab_size)
        self.embedding = nn.Embedding(self.pad + 1, positive_int("embed_dim", embed_dim))
        self.width = self.length * embed_dim

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (self.length - 1, 0), value=self.pad)
        return self.embedding(padded.unfold(1, self.length, 1)).flatten(2).flatten(0, 1)

"""What every language model here shares: tokens (B, T) in, logits (B, T, V) out.

A row of a state, of the drive and of the logits is one token, the samples one after the other:
row b T + t is token t of sample b.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.inputs import check_pair
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.language.ball import rms
from eqprop_lab.models.language.generation import Generates
from eqprop_lab.validation import positive_int


def check_tokens(
    x: object, vocab_size: int, max_seq_len: int | None, like: Tensor, name: str = "x"
) -> None:
    """Raise TypeError, ValueError unless x is integer tokens (B, T) below vocab_size.

    max_seq_len: the longest T, None for any. name: of the argument, for the message.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of tokens (B, T), got {type(x).__name__}")
    found = f"got {x.dtype} of shape {tuple(x.shape)}"
    if x.dtype not in (torch.int64, torch.int32) or x.ndim != 2:
        raise TypeError(f"{name} must be integer tokens (B, T), {found}")
    if not x.numel():
        raise ValueError(f"{name} must hold at least one token a sample, {found}")
    if max_seq_len is not None and x.shape[1] > max_seq_len:
        raise ValueError(
            f"{name} must have at most max_seq_len={max_seq_len} tokens a sample, got "
            f"{x.shape[1]}; cut it, or build the model with a larger max_seq_len (generate slides "
            "its context itself)"
        )
    if x.device != like.device:
        raise ValueError(f"{name} is on {x.device}, the model on {like.device}: move one of them")
    low, high = (int(value) for value in x.aminmax())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{name} must hold tokens 0..{vocab_size - 1}, got values from {low} to {high}"
        )


class TokenModel(Generates):
    """Mixin: the looks at tokens and targets, and the shapes, of a language model.

    Attributes: vocab_size; max_seq_len, the longest sequence (None: any); output_dim, the width of
    the logits; inner_ratio, inner_dim / hidden_dim where inner_dim is left out.
    """

    output_dim: int
    inner_ratio = 4.0

    def check_batch(self, x: Tensor) -> None:
        """Raise TypeError, ValueError unless x is a batch of tokens of this model."""
        check_tokens(x, self.vocab_size, self.max_seq_len, next(self.parameters()))

    def check_prompt(self, x: Tensor) -> None:
        check_tokens(x, self.vocab_size, None, next(self.parameters()), "prompt")

    def targets(self, x: Tensor, y: Tensor) -> Tensor:
        """One target a token, (B T,). Raises TypeError, ValueError for any other shape."""
        if not isinstance(y, Tensor):
            raise TypeError(f"y must be a torch.Tensor of tokens (B, T), got {type(y).__name__}")
        if y.shape != x.shape or y.is_floating_point():
            raise ValueError(
                f"y must be one token for each of x, as {tuple(x.shape)}, got {y.dtype} of shape "
                f"{tuple(y.shape)}"
            )
        check_pair(x, y)
        return y.flatten()

    def tokens(self, x: Tensor) -> int | None:
        """Rows of the state a sample has: its tokens."""
        return x.shape[1]

    @classmethod
    def inner_width(cls, inner_dim: int | None, hidden_dim: int) -> int:
        """inner_dim, or inner_ratio hidden_dim for None. Raises TypeError, ValueError."""
        if inner_dim is not None:
            return positive_int("inner_dim", inner_dim)
        return round(cls.inner_ratio * hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, T, V) of every token, at the state after `max_steps` steps."""
        self.check_batch(x)
        logits: Tensor = self.readout(self.settled(x))  # type: ignore[operator]
        return logits.unflatten(0, x.shape)


class Embedding(nn.Module):
    """x (B, T) -> rms(token + position) (B, T, d)."""

    def __init__(self, vocab_size: int, hidden_dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.token = nn.Embedding(positive_int("vocab_size", vocab_size), hidden_dim)
        self.position = nn.Embedding(positive_int("max_seq_len", max_seq_len), hidden_dim)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        place = torch.arange(start, start + x.shape[1], device=x.device)
        return rms(self.token(x) + self.position(place))


def last_rows(state: State, tokens: int) -> State:
    """(B T, ...) -> (B, ...): the last token of every sample, block by block."""
    return tuple(block[tokens - 1 :: tokens] for block in state)

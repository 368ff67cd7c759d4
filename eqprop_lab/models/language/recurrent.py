"""RecurrentEqPropLM: one directed block, used again and again until every token has settled.

    r_i <- n( g e_i + W_o sum_(j < i) p_ij W_v r_j + W_2 squareplus(W_1 r_i + b) )

W_1 and W_2 are free of each other, so not even a token has an energy. Certificate, within the
token: L <= ||W_2|| ||W_1|| < 0.9.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.norms import exact_norm, outward
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.language.ball import rms
from eqprop_lab.models.language.directed import DirectedLM, Weight, with_memory
from eqprop_lab.seeding import seeded

UP, DOWN = 1.0, 0.9  # caps of ||W_1|| and ||W_2||


class RecurrentEqPropLM(DirectedLM):
    """Args: as in FullEqPropLM, without num_layers: there is one block, of width hidden_dim.

    Shapes: tokens (B, T), T <= max_seq_len -> logits (B, T, vocab_size);
        state ((B T, hidden_dim),).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 96,
        num_heads: int = 4,
        max_seq_len: int = 128,
        inner_dim: int | None = None,
        max_steps: int = 30,
        seed: int | None = None,
    ) -> None:
        with seeded(seed):
            super().__init__(vocab_size, hidden_dim, 1, num_heads, max_seq_len, max_steps)
            self.inner_dim = inner = self.inner_width(inner_dim, hidden_dim)
            self.W_1 = Weight(inner, hidden_dim, UP)
            self.W_2 = Weight(hidden_dim, inner, DOWN)
            self.b = nn.Parameter(torch.zeros(inner))
            self.W_out = nn.Linear(hidden_dim, vocab_size)

    def effective_weights(self) -> dict[str, Tensor]:
        return super().effective_weights() | {"up": self.W_1(), "down": self.W_2()}

    def own(self, layer: int, state: State, outside: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return with_memory(outside, state[0], weights["up"], weights["down"], self.b)

    def readout(self, state: State) -> Tensor:
        return self.W_out(rms(state[0]))

    def contraction_bound(self) -> float:
        """||W_2|| ||W_1||, norms exact: of one token, given the tokens before it."""
        return outward(exact_norm(self.W_2()) * exact_norm(self.W_1()), self.hidden_dim)

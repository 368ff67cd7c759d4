"""TransformerEqProp: FullEqPropLM under the name by which one reaches for it, or a classifier.

    no num_classes    logits of the next token at every token (B, T, V)
    num_classes = C   logits of the whole sequence (B, C) = W mean over tokens of
                      [rms r^1; ...; rms r^L]

A classifier takes sequences of exactly max_seq_len tokens: their rows (B T, d) are what it finds
the sequences again by.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.language.ball import rms
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int


class TransformerEqProp(FullEqPropLM):
    """A transformer that settles: every layer of every token at once, its gradients by EqProp.

    Args: as in FullEqPropLM; num_classes, an integer >= 1 for a classifier of sequences, None for
        a language model.
    Shapes: tokens (B, T), T <= max_seq_len -> logits (B, T, vocab_size); with num_classes T =
        max_seq_len -> (B, num_classes), targets are then classes (B,); state: num_layers blocks
        (B T, hidden_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 64,
        num_layers: int = 2,
        max_seq_len: int = 128,
        num_heads: int = 4,
        num_classes: int | None = None,
        inner_dim: int | None = None,
        max_steps: int = 30,
        seed: int | None = None,
    ) -> None:
        with seeded(seed):
            super().__init__(
                vocab_size, hidden_dim, num_layers, num_heads, max_seq_len, inner_dim, max_steps
            )
            if num_classes is not None:
                self.num_classes = self.output_dim = positive_int("num_classes", num_classes)
                self.W_out = nn.Linear(num_layers * hidden_dim, self.output_dim)

    @classmethod
    def from_text(
        cls,
        text: str,
        *args: Any,
        level: str = "character",
        max_words: int | None = None,
        **how: Any,
    ) -> Self:
        """A model of the symbols of a text, its `vocab` set; args and how: as in the class, without
        vocab_size. level, max_words: as in `Vocabulary.of`. Raises TypeError, ValueError.
        """
        vocab = Vocabulary.of(text, level, max_words)
        model = cls(len(vocab), *args, **how)
        model.vocab = vocab
        return model

    def check_batch(self, x: Tensor) -> None:
        super().check_batch(x)
        if self.num_classes is not None and x.shape[1] != self.max_seq_len:
            raise ValueError(
                f"x must have exactly max_seq_len={self.max_seq_len} tokens a sequence to be "
                f"classified, got {x.shape[1]}"
            )

    def targets(self, x: Tensor, y: Tensor) -> Tensor:
        """One target a token (B T,), or one class a sequence (B,)."""
        if self.num_classes is None:
            return super().targets(x, y)
        return EquilibriumModel.targets(self, x, y)

    def readout(self, state: State) -> Tensor:
        if self.num_classes is None:
            return super().readout(state)
        sequences = (rms(r).unflatten(0, (-1, self.context_length)) for r in state)
        return self.W_out(torch.cat([rows.mean(1) for rows in sequences], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, T, vocab_size), or (B, num_classes), after `max_steps` steps."""
        return super().forward(x) if self.num_classes is None else EquilibriumModel.forward(self, x)

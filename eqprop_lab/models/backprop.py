"""BackpropMLP: the ordinary feed-forward network every EqProp result is compared with.

    z = W_3 tanh(W_2 tanh(W_1 x + b_1) + b_2) + b_3

Two hidden layers of the same width give exactly LoopedMLP's number of parameters (784-256-10: 269,322).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.models.base import as_vectors, check_input
from eqprop_lab.validation import positive_int


class BackpropMLP(nn.Module):
    """Feed-forward tanh network trained by backpropagation (``EqPropTrainer(model, gradient="autograd")``).

    Args: input_dim, hidden_dim (both hidden layers), output_dim, integers >= 1; seed as in LoopedMLP.
    Shapes: x (B, input_dim) or any image shape with as many pixels -> logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, seed: int | None = None) -> None:
        super().__init__()
        self.input_dim = positive_int("input_dim", input_dim)
        self.hidden_dim = positive_int("hidden_dim", hidden_dim)
        self.output_dim = positive_int("output_dim", output_dim)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Linear(input_dim, hidden_dim),
                nn.Tanh(),
                nn.Linear(hidden_dim, hidden_dim),
                nn.Tanh(),
                nn.Linear(hidden_dim, output_dim),
            )

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, dtype, device, NaN)."""
        check_input(x, next(self.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...) -> logits (B, output_dim)."""
        return self.layers(as_vectors(x, self.input_dim))

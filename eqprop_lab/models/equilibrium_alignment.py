"""EquilibriumAlignment (`eq_align`): a network that settles, and learns from its settled state by
direct random feedback.

    h* = tanh(W_in x + b_in + W_rec h* + b_rec)
    delta_o = p - y,    delta_h = (delta_o B) (1 - h*^2)
    G_out = delta_o^T h* / B,    G_rec = delta_h^T h* / B,    G_in = delta_h^T x / B

B (K, hidden) is fixed: there is one free phase and no second one, no W^T and no graph.

The predecessor's name, our definition; nearest: direct feedback alignment, Nokland 2016,
arXiv:1609.01596, at a fixed point, and Jacobian-free backpropagation, Fung et al. 2022,
arXiv:2103.12803.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.equilibrium.inputs import as_vectors, check_pair
from eqprop_lab.equilibrium.relaxation import free_state
from eqprop_lab.equilibrium.requirements import recording
from eqprop_lab.models.local_mlp import pulled_back
from eqprop_lab.models.local_rule import LocalGradients, LocalRule
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import real


class EquilibriumAlignment(LocalRule, LoopedMLP):
    """`LoopedMLP` with a directed W_rec, under this rule.

    Args: learning_rate: of `train_step`; the rest, shapes and errors as in LoopedMLP.
    """

    feedback: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        use_spectral_norm: bool = True,
        rho: float = 0.9,
        max_steps: int = 30,
        learning_rate: float = 1e-3,
        seed: int | None = None,
    ) -> None:
        with seeded(seed):
            sizes = (input_dim, hidden_dim, output_dim)
            LoopedMLP.__init__(self, *sizes, use_spectral_norm, rho, max_steps, symmetric=False)
            noise = torch.randn(self.output_dim, self.hidden_dim) / math.sqrt(self.output_dim)
        self.register_buffer("feedback", noise)
        self.learning_rate = real("learning_rate", learning_rate, above=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the relaxed state, without a graph: see `LocalMLP`."""
        return super().forward(x).detach()

    def local_gradients(self, x: Tensor, y: Tensor) -> LocalGradients:
        self.check_batch(x)
        check_pair(x, y)
        with recording(x) as inputs, torch.no_grad():
            cost = make_cost("cross_entropy", y, self.output_dim, self.W_out.weight)
            free = free_state(self, inputs, max_steps=self.max_steps)[1]
            (h,) = free.state
            logits = self.readout(free.state)
            out = cost.grad(logits)
            hidden = (out @ self.feedback) * (1 - h.square())
            bias = hidden.mean(0)
            name, original = pulled_back(self.W_rec, hidden.T @ h / len(h))
            found = {
                "W_in.weight": hidden.T @ as_vectors(inputs, self.input_dim) / len(h),
                "W_in.bias": bias,
                f"W_rec.{name}": original,
                "W_rec.bias": bias.clone(),
                "W_out.weight": out.T @ h / len(h),
                "W_out.bias": out.mean(0),
            }
            wanted = {name for name, p in self.named_parameters() if p.requires_grad}
            kept = {name: gradient for name, gradient in found.items() if name in wanted}
            return LocalGradients(kept, logits, cost.value(logits), free.residual)

    def exact_gradients(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """dL/dp at the fixed point, by the adjoint (`implicit`)."""
        return estimate_gradients(self, x, y, "implicit", nudged_steps=self.max_steps)

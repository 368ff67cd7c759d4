"""FullEqPropLM: all layers of all tokens settle together, each token in an energy of its own.

    r^l_i <- n( u^l_i + field^l_i(r^(l-1)_<i) + xi_l^T squareplus(xi_l r^l_i + c_l)
                + B_(l-1) r^(l-1)_i + B_l^T r^(l+1)_i )
    E_i = sum_l [G(r^l) - r^l.(u^l_i + field^l_i) - sum_mu SP(xi_mu.r^l + c_mu)]
          - sum_l r^(l+1).B_l r^l

u = g_l e_i; G and SP as in `ball`, field the attention of `directed` to the layer below (r^0 = e):
an external field to the token, so its weights need neither ties nor bounds. A sweep goes from the
first layer to the last, each hears what those below it have become, and it lowers E_i while the
tokens before i stand still. (The adjoint goes back down. 4 + 3 sweeps put the gradient of training
as far off as 6 + 4 of all layers at once do, about 1 %.) Certificate, within the token, in the
largest ||r^l|| / sin(pi l/(L+1)): L <= max_l ||xi_l||^2 + 2 cos(pi/(L+1)) max_l ||B_l||.

Layers that attend to their own states, as one first writes it, are a loop through time: news run
from token to token, phases take long, and bounds on W_v and W_o are needed. To the layer below,
news climb in one sweep, and tiny Shakespeare is learned 0.03 nats better.

Memory term: Ramsauer et al. 2020, arXiv:2008.02217, and Hoover et al. 2023, arXiv:2302.07253, tie
all weights; conditional energies of tokens: as in arXiv:2512.16762.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.norms import exact_norm, outward
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.language.ball import ball_entropy, rms, squareplus_integral
from eqprop_lab.models.language.directed import DirectedLM, Weight, with_memory
from eqprop_lab.seeding import seeded

WITHIN, BETWEEN = 0.5, 0.45  # shares of the bound 0.95: ||xi||^2, and 2 cos(..) ||B||


def path_factor(layers: int) -> float:
    """2 cos(pi/(L+1)): the norm of a path of L blocks coupled with norm 1."""
    return 2 * math.cos(math.pi / (layers + 1))


class FullEqPropLM(DirectedLM):
    """num_layers layers of attention, memory and couplings between the layers.

    Args: vocab_size, hidden_dim, num_layers, num_heads, max_seq_len, integers >= 1, heads dividing
        the width; inner_dim, memories a layer (None: 4 hidden_dim); max_steps, of a free phase;
        seed as in LoopedMLP.
    Shapes: tokens (B, T), T <= max_seq_len -> logits (B, T, vocab_size); state: num_layers blocks
        (B T, hidden_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    below = 1
    contraction_metric = (
        "largest l2 of a token's layers, over sin(pi l/(L+1)) each, given the tokens before it"
    )

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        max_seq_len: int = 128,
        inner_dim: int | None = None,
        max_steps: int = 30,
        seed: int | None = None,
    ) -> None:
        with seeded(seed):
            super().__init__(vocab_size, hidden_dim, num_layers, num_heads, max_seq_len, max_steps)
            self.inner_dim = memories = self.inner_width(inner_dim, hidden_dim)
            between = BETWEEN / path_factor(num_layers) if num_layers > 1 else None
            self.xi = nn.ModuleList(
                Weight(memories, hidden_dim, math.sqrt(WITHIN)) for _ in range(num_layers)
            )
            self.groups = tuple((layer,) for layer in range(num_layers))
            self.c = nn.Parameter(torch.zeros(num_layers, memories))
            self.B = nn.ModuleList(
                Weight(hidden_dim, hidden_dim, between) for _ in range(num_layers - 1)
            )
            self.W_out = nn.Linear(num_layers * hidden_dim, vocab_size)

    def effective_weights(self) -> dict[str, Tensor]:
        mine = {f"xi{number}": xi() for number, xi in enumerate(self.xi)}
        mine |= {f"B{number}": between() for number, between in enumerate(self.B)}
        return super().effective_weights() | mine

    def own(self, layer: int, state: State, outside: Tensor, weights: dict[str, Tensor]) -> Tensor:
        r, xi = state[layer], weights[f"xi{layer}"]
        force = with_memory(outside, r, xi, xi.T, self.c[layer])
        if layer > 0:
            force = torch.addmm(force, state[layer - 1], weights[f"B{layer - 1}"].T)
        if layer + 1 < self.num_layers:
            force = torch.addmm(force, state[layer + 1], weights[f"B{layer}"])
        return force

    def readout(self, state: State) -> Tensor:
        return self.W_out(torch.cat([rms(r) for r in state], 1))

    def energy(self, state: State, drive: State) -> Tensor:
        """E_i of every token (B T,), the tokens before it where they are."""
        weights = self._weights()
        total = torch.zeros(len(state[0]), dtype=state[0].dtype, device=state[0].device)
        for number, r in enumerate(state):
            memory = squareplus_integral(r @ weights[f"xi{number}"].T + self.c[number]).sum(1)
            outside = self.outside(number, state, drive, weights)
            total = total + ball_entropy(r) - (r * outside).sum(1) - memory
            if number > 0:
                total = total - (r * (state[number - 1] @ weights[f"B{number - 1}"].T)).sum(1)
        return total

    def contraction_bound(self) -> float:
        """max ||xi||^2 + 2 cos(pi/(L+1)) max ||B||, norms exact: of one token, see the module."""
        within = max(exact_norm(xi()) for xi in self.xi) ** 2
        between = max((exact_norm(weight()) for weight in self.B), default=0.0)
        return outward(within + path_factor(self.num_layers) * between, self.hidden_dim)

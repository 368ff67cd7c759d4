"""EquilibriumChain: deep Hopfield networks one after the other, joined by the chain rule.

    s^k = the equilibrium of block k at the input s_L^(k-1),    s_L^0 = x,    z = W_out s_L^N + c
    E^k = sum_l kappa_l [G(s^k_l) - <s^k_l, W^k_l s^k_(l-1) + b^k_l>],    s^k_0 = s_L^(k-1)

A layer feels the one above it inside its block and nothing beyond: across a joint news go forward
only. What comes back there is v^k = dL/ds_L^k, the nudge of block k; its displacement gives the
gradient of its weights and v^(k-1) = W_1^T d_1, d_1 that of the first force (see `block`).

One block is DeepEqProp. In blocks of one layer nothing would feed back: that is FeedforwardMLP,
whose layers are as many and as large.
Source: Nest and Ernoult 2024, arXiv:2409.03306 (energy-based blocks tied by feed-forward maps).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.block import EquilibriumBlock, evaluating
from eqprop_lab.equilibrium.inputs import as_vectors, check_input
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.conv import DeepEqProp
from eqprop_lab.models.layered import LayeredModel
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, shown, sizes

LAYERS = 2  # of a block, where one width stands for all


class HopfieldBlock(DeepEqProp):
    """DeepEqProp that is read at its top layer itself, without weights: what another block follows.

    Arguments, shapes and errors as there; logits are the top layer's states (B, hidden_dims[-1]).
    """

    def __init__(self, input_dim: int, hidden_dims: Sequence[int], **others: Any) -> None:
        super().__init__(input_dim, hidden_dims, hidden_dims[-1], **others)
        del self.W_out

    def readout(self, state: State) -> Tensor:
        return state[-1]

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return (*[None] * (len(state) - 1), cotangent)

    def add_pull(self, force: State, state: State, cotangent: Tensor, factor: float) -> State:
        return (*force[:-1], force[-1].add_(cotangent, alpha=factor))

    def readout_gradients(self, free: State, error: Tensor) -> dict[str, Tensor]:
        return {}


class EquilibriumChain(nn.Module):
    """Layers `input_dim`-`hidden_dims`-`output_dim` in `num_blocks` blocks that settle one by one.

    ``EqPropTrainer(model)`` trains the blocks by `centered` (or the `gradient` asked for).

    Args:
        hidden_dims: widths of all hidden layers as a list, as many in every block and two at least;
            an integer h stands for two layers of that width in every block.
        num_blocks: an integer >= 1.
        gamma, rho, use_spectral_norm, max_steps: of every block, as in ConvEqProp.
        seed: as in LoopedMLP.
    Shapes: x (B, input_dim) or any image shape with as many pixels; logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: int | Sequence[int],
        output_dim: int,
        num_blocks: int = 2,
        gamma: float | None = None,
        rho: float = 0.9,
        use_spectral_norm: bool = True,
        max_steps: int = 30,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.input_dim = positive_int("input_dim", input_dim)
        self.output_dim = positive_int("output_dim", output_dim)
        self.num_blocks = positive_int("num_blocks", num_blocks)
        shares = split_evenly(hidden_dims, self.num_blocks)
        self.hidden_dims = tuple(width for share in shares for width in share)
        shared: dict[str, Any] = {
            "gamma": gamma,
            "rho": rho,
            "use_spectral_norm": use_spectral_norm,
            "max_steps": max_steps,
        }
        self.blocks = nn.ModuleList()
        inputs, last = self.input_dim, self.num_blocks - 1
        with seeded(seed):
            for number, widths in enumerate(shares):
                model: LayeredModel
                if number < last:
                    model = HopfieldBlock(inputs, widths, **shared)
                else:
                    model = DeepEqProp(inputs, widths, self.output_dim, **shared)
                self.blocks.append(EquilibriumBlock(model))
                inputs = widths[-1]

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, dtype, device, NaN)."""
        check_input(x, next(self.parameters()))
        as_vectors(x, self.input_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = as_vectors(x, self.input_dim)
        for block in self.blocks:
            x = block(x)
        return x

    def models(self) -> list[LayeredModel]:
        """What settles, from the input to the output."""
        found = [block.get_submodule("model") for block in self.blocks]
        return [model for model in found if isinstance(model, LayeredModel)]

    def residual(self, x: Tensor) -> float:
        """The largest residual of the blocks' free phases on a batch, as an evaluation has it."""
        with torch.no_grad(), evaluating() as ends:
            self(x)
        return max(ends)

    def contraction_bound(self) -> float:
        """The largest certified bound of the blocks."""
        return max(model.contraction_bound() for model in self.models())


def split_evenly(hidden_dims: int | Sequence[int], num_blocks: int) -> list[tuple[int, ...]]:
    """The widths of each block. Arguments and errors as in EquilibriumChain."""
    widths = sizes("hidden_dims", hidden_dims)
    if isinstance(widths, int):
        widths = [widths] * (LAYERS * num_blocks)
    length, left = divmod(len(widths), num_blocks)
    if left or length < LAYERS:
        raise ValueError(
            f"hidden_dims must name as many layers for each of {num_blocks} blocks (num_blocks), "
            f"at least {LAYERS} (with one, nothing feeds back), got {shown(hidden_dims)}"
        )
    return [tuple(widths[k * length : (k + 1) * length]) for k in range(num_blocks)]

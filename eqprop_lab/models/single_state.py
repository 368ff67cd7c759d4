"""SingleStateConv: the simplest convolutional energy, an image of states that feeds back on itself.

    h <- tanh(K h + u),   u = embed(x) + b,   z = W_out vec(pool(h)) + c,   K = (A + A')/2
    E(h) = sum [h artanh h + 1/2 log(1 - h^2)] - 1/2 <h, K h> - <h, u>

A'(i, j, dy, dx) = A(j, i, -dy, -dx) is the transposed convolution of A, written as a convolution: K
is symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from eqprop_lab.equilibrium.activations import tanh_entropy
from eqprop_lab.equilibrium.inputs import check_shape
from eqprop_lab.equilibrium.linear_maps import ConvMap
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.conv import conv_maps
from eqprop_lab.models.layered import START, Layer
from eqprop_lab.models.tanh import TanhModel
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, real

POOL = 2


def symmetric_kernel(kernel: Tensor) -> Tensor:
    """K = (A + A')/2 of a kernel A (C, C, k, k), k odd: <K x, y> = <x, K y> at every image size."""
    return (kernel + kernel.transpose(0, 1).flip(2, 3)).mul(0.5)


@dataclass(frozen=True)
class SymmetricConvMap(ConvMap):
    """Convolution with the symmetric part of a kernel (C, C, k, k), stride 1: its own transpose."""

    def up(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return super().up(x, symmetric_kernel(weight), bias)

    def down(self, y: Tensor, weight: Tensor) -> Tensor:
        return self.up(y, weight)

    def weight_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return symmetric_kernel(super().weight_gradient(x, y))

    def norm_bound(self, weight: Tensor) -> float:
        return super().norm_bound(symmetric_kernel(weight))


class SingleStateConv(TanhModel):
    """One convolutional layer, symmetrically coupled to itself: the least example of the contract.

    Why ConvEqProp is not this: there is one block, hence no feedback gain to choose, and the bound
    ||K|| < rho holds down the very weights that have to do the work. A step costs about what a
    sweep of a layered net does that has smaller images above, and without alternating layers about
    twice as many are needed; accuracy is a little lower.

    Args:
        input_channels, channels, output_dim: integers >= 1. rho: cap of ||K||, in (0, 1).
        max_steps: steps of a free phase. seed: as in LoopedMLP. image_size: pixels a side, or
        (height, width).
    Shapes: x (B, input_channels, height, width); state ((B, channels, height, width),); the readout
        sees averages of 2x2 states; logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        input_channels: int,
        channels: int,
        output_dim: int,
        rho: float = 0.9,
        max_steps: int = 60,
        seed: int | None = None,
        *,
        image_size: int | Sequence[int],
    ) -> None:
        super().__init__(max_steps)
        self.channels = positive_int("channels", channels)
        self.output_dim = positive_int("output_dim", output_dim)
        self.rho = real("rho", rho, above=0.0, below=1.0)
        first, second = conv_maps(
            input_channels, [self.channels] * 2, image_size, kernel_size=3, strides=1
        )
        self.input_shape = first.in_shape
        pooled = [-(-side // POOL) for side in first.size]
        with seeded(seed):
            self.embed = nn.Conv2d(*first.channels, first.kernel, padding=first.padding, bias=False)
            self.recurrent = Layer(
                SymmetricConvMap(second.channels, second.size, second.kernel, second.stride)
            )
            self.W_out = nn.Linear(self.channels * pooled[0] * pooled[1], self.output_dim)
            self.recurrent.bound(self.rho, START * self.rho)

    def check_batch(self, x: Tensor) -> None:
        super().check_batch(x)
        check_shape(x, self.input_shape)

    def effective_weights(self) -> dict[str, Tensor]:
        return {"K": symmetric_kernel(self.recurrent.weight)}

    def _coupling(self, h: Tensor) -> Tensor:
        return self.recurrent.linear.up(h, self._weights()["K"])

    def drive(self, x: Tensor) -> State:
        return (self.embed(x) + self.recurrent.bias,)

    def initial_state(self, drive: State) -> State:
        return (self.activate(drive[0]),)

    def force(self, state: State, drive: State) -> State:
        return (self._coupling(state[0]) + drive[0],)

    def readout(self, state: State) -> Tensor:
        return self.W_out(F.avg_pool2d(state[0], POOL, ceil_mode=True).flatten(1))

    def energy(self, state: State, drive: State) -> Tensor:
        """E per sample (B,), finite up to |h| = 1. A step lowers it wherever ||K|| <= 1."""
        (h,), (u,) = state, drive
        return (tanh_entropy(h) - h * (0.5 * self._coupling(h) + u)).flatten(1).sum(1)

    def contraction_bound(self) -> float:
        """Certified ||K||_2: the Lipschitz constant of a step in l2, as tanh is 1-Lipschitz."""
        return self.recurrent.certified_norm()

    def extra_repr(self) -> str:
        return f"rho={self.rho:g}, max_steps={self.max_steps}"

"""The linear maps between the layers of a network: up, down, weight gradient, certified norm.

    <up(x), y> = <x, down(y)>,    weight_gradient(x, y) = d<up(x), y>/dW

A map knows shapes only; the weight is handed in, so that a parametrised one can be evaluated once
and used often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from eqprop_lab.equilibrium.norms import conv_bound, exact_norm, norm_of_rows

Shape = tuple[int, ...]
EXACT_UP_TO = 2048  # units on the smaller side of a convolution whose norm is computed exactly
FREQUENCIES = 16


def symmetric_part(matrix: Tensor) -> Tensor:
    """S = (A + A^T)/2 of a square matrix (n, n)."""
    # The transpose is copied first: adding along the columns of a matrix costs twice as much.
    return matrix.mT.clone(memory_format=torch.contiguous_format).add_(matrix).mul_(0.5)


class LinearMap(Protocol):
    """Shapes are those of one sample or one parameter, without the batch."""

    @property
    def in_shape(self) -> Shape:
        """Shape of one input."""

    @property
    def out_shape(self) -> Shape:
        """Shape of one output."""

    @property
    def weight_shape(self) -> Shape:
        """Shape of the weight."""

    @property
    def bias_shape(self) -> Shape:
        """Shape of a bias that broadcasts over one output."""

    def up(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x (+ bias): (B, *in_shape) -> (B, *out_shape)."""

    def down(self, y: Tensor, weight: Tensor) -> Tensor:
        """W^T y: (B, *out_shape) -> (B, *in_shape)."""

    def weight_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """d/dW sum <W x, y> over the batch."""

    def vec(self, y: Tensor) -> Tensor:
        """vec(y), (B, *out_shape) -> (B, units): no copy for what `up` has made."""

    def unvec(self, rows: Tensor) -> Tensor:
        """The inverse of `vec`, a view."""

    def norm_bound(self, weight: Tensor) -> float:
        """Certified upper bound of ||W||_2, float64."""


@dataclass(frozen=True)
class DenseMap(LinearMap):
    """x (B, inputs) -> x W^T (B, outputs)."""

    inputs: int
    outputs: int

    @property
    def in_shape(self) -> Shape:
        return (self.inputs,)

    @property
    def out_shape(self) -> Shape:
        return (self.outputs,)

    @property
    def weight_shape(self) -> Shape:
        return (self.outputs, self.inputs)

    @property
    def bias_shape(self) -> Shape:
        return (self.outputs,)

    def up(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)

    def down(self, y: Tensor, weight: Tensor) -> Tensor:
        return y @ weight

    def weight_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return y.T @ x

    def vec(self, y: Tensor) -> Tensor:
        return y

    def unvec(self, rows: Tensor) -> Tensor:
        return rows

    def norm_bound(self, weight: Tensor) -> float:
        return exact_norm(weight)


def _last(images: Tensor) -> Tensor:
    # Not `contiguous`: that leaves the strides of a single channel as they are, and the quick
    # kernel is not found.
    return images.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class ConvMap(LinearMap):
    """Square convolution with zero padding: (B, in, H, W) -> (B, out, H / stride, W / stride).

    `kernel` is odd, or even with a stride of 2 or more, and `stride` divides `size` = (H, W) of the
    input: then `down` gives back exactly H x W. A kernel of 4 with stride 2 holds every 3x3
    convolution followed by 2x2 average pooling. Images keep their channels last in memory: the
    transposed convolution takes a third of the time then. As a vector they are read row by row,
    the channels of one place side by side.
    """

    channels: tuple[int, int]
    size: tuple[int, int]
    kernel: int
    stride: int

    @property
    def padding(self) -> int:
        """Zeros around the input."""
        return (self.kernel - 1) // 2

    @property
    def in_shape(self) -> Shape:
        return (self.channels[0], *self.size)

    @property
    def out_shape(self) -> Shape:
        return (self.channels[1], self.size[0] // self.stride, self.size[1] // self.stride)

    @property
    def weight_shape(self) -> Shape:
        return (self.channels[1], self.channels[0], self.kernel, self.kernel)

    @property
    def bias_shape(self) -> Shape:
        return (self.channels[1], 1, 1)

    def up(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(
            _last(x), weight, None if bias is None else bias.flatten(), self.stride, self.padding
        )

    def down(self, y: Tensor, weight: Tensor) -> Tensor:
        # rows at the far edge that no output begins at
        extra = self.stride + 2 * self.padding - self.kernel
        return F.conv_transpose2d(_last(y), weight, None, self.stride, self.padding, extra)

    def weight_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        found = conv2d_weight(_last(x), self.weight_shape, _last(y), self.stride, self.padding)
        # Laid out in memory as the weight is: fused optimisers pair the numbers of the two by
        # place, not by index.
        return found.contiguous()

    def vec(self, y: Tensor) -> Tensor:
        return y.permute(0, 2, 3, 1).flatten(1)

    def unvec(self, rows: Tensor) -> Tensor:
        channels, height, width = self.out_shape
        return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)

    @torch.no_grad()
    def norm_bound(self, weight: Tensor) -> float:
        """||W||_2 at this image size, exact for small layers, else by the Fourier bound.

        On small images the Fourier bound may lie 20 % above the norm (most of it is border), so
        there the matrix is formed from unit vectors.
        """
        shape = min(self.in_shape, self.out_shape, key=math.prod)
        units = math.prod(shape)
        if units > EXACT_UP_TO:
            return conv_bound(weight, self.stride, frequencies=FREQUENCIES)
        kernel = weight.detach().cpu().double()
        across = self.down if shape == self.out_shape else self.up
        ones = torch.eye(units, dtype=torch.float64, device="cpu").unflatten(1, shape)
        return norm_of_rows(across(ones, kernel).flatten(1))

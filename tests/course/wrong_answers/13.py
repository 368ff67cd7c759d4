"""Answers to the exercises of notebook 13 as learners give them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, pad

from eqprop_lab import ResNetCifar, count_parameters
from tests.course.answers import right, wrong

# --- count_resnet


def count(
    depth: int,
    classes: int,
    channels: int,
    width: int,
    norm: int = 2,
    bias: int = 0,
    head: int = 1,
    first: int = 1,
    second: int = 1,
) -> int:
    total, inputs = first * (9 * channels + norm + bias) * width, width
    for maps in (width, 2 * width, 4 * width):
        for _ in range((depth - 2) // 6):
            total += (9 * inputs + norm + bias) * maps + second * (9 * maps + norm + bias) * maps
            inputs = maps
    return total + 4 * width * classes + head * classes


@wrong("count_resnet", "batch norm has a scale and a shift")
def without_norm(depth: int, classes: int, channels: int, width: int) -> int:
    return count(depth, classes, channels, width, norm=0)


@wrong("count_resnet", "what it remembers is no parameter")
def with_buffers(depth: int, classes: int, channels: int, width: int) -> int:
    return count(depth, classes, channels, width, norm=4)


@wrong("count_resnet", "the convolutions have no bias")
def with_bias(depth: int, classes: int, channels: int, width: int) -> int:
    return count(depth, classes, channels, width, bias=1)


@wrong("count_resnet", "the head has a bias")
def bare_head(depth: int, classes: int, channels: int, width: int) -> int:
    return count(depth, classes, channels, width, head=0)


@wrong("count_resnet", "the convolution before the first stage is missing")
def from_the_stages_on(depth: int, classes: int, channels: int, width: int) -> int:
    return count(depth, classes, channels, width, first=0)


@wrong("count_resnet", "a block has two convolutions")
def one_convolution(depth: int, classes: int, channels: int, width: int) -> int:
    return count(depth, classes, channels, width, second=0)


@wrong("count_resnet", "a convolution of 3x3 has 9 x inputs x outputs")
def all_square(depth: int, classes: int, channels: int, width: int) -> int:
    stages = sum((depth - 2) // 6 * 2 * (9 * m * m + 2 * m) for m in (width, 2 * width, 4 * width))
    return 9 * channels * width + 2 * width + stages + 4 * width * classes + classes


@wrong("count_resnet", "uses ResNetCifar; do it without")
def asked_the_network(depth: int, classes: int, channels: int, width: int) -> int:
    return count_parameters(ResNetCifar(depth, classes, channels, width))


@right("count_resnet")
def by_stages(depth: int, classes: int, channels: int, width: int) -> int:
    blocks, w = (depth - 2) // 6, width
    squares = 9 * (2 * blocks * (w**2 + 4 * w**2 + 16 * w**2) - 2 * w**2 - 8 * w**2)
    norms = 2 * (w + 2 * blocks * 7 * w)
    return 9 * channels * w + squares + norms + (4 * w + 1) * classes


# --- residual


def block(
    x: Tensor,
    W1: Tensor,
    a1: Tensor,
    b1: Tensor,
    W2: Tensor,
    a2: Tensor,
    b2: Tensor,
    inner: bool = True,
    mean: bool = False,
    behind: bool = False,
) -> tuple[Tensor, Tensor]:
    """What the two convolutions make, and skip(x)."""
    wide = len(W1) == 2 * x.shape[1]
    h = a1[:, None, None] * conv2d(x, W1, stride=1 + wide, padding=1) + b1[:, None, None]
    h = conv2d(h.relu() if inner else h, W2, padding=1)
    h = a2[:, None, None] * h + b2[:, None, None]
    if wide:
        half = x.shape[1] // 2
        ends = (0, x.shape[1]) if behind else (half, x.shape[1] - half)
        x = pad(avg_pool2d(x, 2) if mean else x[:, :, ::2, ::2], (0, 0, 0, 0, *ends))
    return h, x


@wrong("residual", "the sum comes before the last ReLU")
def sum_last(
    x: Tensor, W1: Tensor, a1: Tensor, b1: Tensor, W2: Tensor, a2: Tensor, b2: Tensor
) -> Tensor:
    h, skip = block(x, W1, a1, b1, W2, a2, b2)
    return h.relu() + skip


@wrong("residual", "a ReLU stands between the convolutions")
def linear(
    x: Tensor, W1: Tensor, a1: Tensor, b1: Tensor, W2: Tensor, a2: Tensor, b2: Tensor
) -> Tensor:
    h, skip = block(x, W1, a1, b1, W2, a2, b2, inner=False)
    return (h + skip).relu()


@wrong("residual", "skip takes every second pixel, not a mean")
def pooled(
    x: Tensor, W1: Tensor, a1: Tensor, b1: Tensor, W2: Tensor, a2: Tensor, b2: Tensor
) -> Tensor:
    h, skip = block(x, W1, a1, b1, W2, a2, b2, mean=True)
    return (h + skip).relu()


@wrong("residual", "maps of zeros come on both sides")
def zeros_behind(
    x: Tensor, W1: Tensor, a1: Tensor, b1: Tensor, W2: Tensor, a2: Tensor, b2: Tensor
) -> Tensor:
    h, skip = block(x, W1, a1, b1, W2, a2, b2, behind=True)
    return (h + skip).relu()


@wrong("residual", "the way around is missing")
def plain(
    x: Tensor, W1: Tensor, a1: Tensor, b1: Tensor, W2: Tensor, a2: Tensor, b2: Tensor
) -> Tensor:
    return block(x, W1, a1, b1, W2, a2, b2)[0].relu()


@wrong("residual", "scale, then shift")
def shifted_first(
    x: Tensor, W1: Tensor, a1: Tensor, b1: Tensor, W2: Tensor, a2: Tensor, b2: Tensor
) -> Tensor:
    h, skip = block(x, W1, a1, a1 * b1, W2, a2, a2 * b2)
    return (h + skip).relu()


@right("residual")
def with_pad(
    x: Tensor, W1: Tensor, a1: Tensor, b1: Tensor, W2: Tensor, a2: Tensor, b2: Tensor
) -> Tensor:
    h, skip = block(x, W1, a1, b1, W2, a2, b2)
    return torch.clamp(h + skip, min=0)


# --- normalise

Three = tuple[Tensor, Tensor, Tensor]


def norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    share: float,
    training: bool,
    stored: int = 1,
    of_batch: int = 0,
) -> Three:
    m, v = mean, var
    if training:
        m, v = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=of_batch)
        mean = (1 - share) * mean + share * m
        var = (1 - share) * var + share * x.var((0, 2, 3), correction=stored)
    return (x - m[:, None, None]) / (v[:, None, None] + 1e-5).sqrt(), mean, var


@wrong("normalise", "what is remembered is divided by n - 1")
def remembers_biased(
    x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool
) -> Three:
    return norm(x, mean, var, momentum, training, stored=0)


@wrong("normalise", "the batch itself is divided by n")
def unbiased_batch(x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool) -> Three:
    return norm(x, mean, var, momentum, training, of_batch=1)


@wrong("normalise", "momentum is the share of the new batch")
def share_of_the_old(
    x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool
) -> Three:
    return norm(x, mean, var, 1 - momentum, training)


@wrong("normalise", "in evaluation what is remembered normalises")
def one_mode(x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool) -> Three:
    return norm(x, mean, var, momentum, True)


@wrong("normalise", "in training what is remembered moves")
def forgets(x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool) -> Three:
    return norm(x, mean, var, momentum, training)[0], mean, var


@wrong("normalise", "mean and variance are taken over the batch, too")
def image_by_image(x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool) -> Three:
    y, mean, var = norm(x, mean, var, momentum, training)
    if training:
        spread = x.var((2, 3), correction=0, keepdim=True) + 1e-5
        y = (x - x.mean((2, 3), keepdim=True)) / spread.sqrt()
    return y, mean, var


@wrong("normalise", "it changes its argument 2 in place")
def torchs(x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool) -> Three:
    mean += momentum * (x.mean((0, 2, 3)) - mean)
    return norm(x, mean, var, momentum, training)


@wrong("normalise", "uses batch_norm; do it without")
def of_the_library(x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool) -> Three:
    mean, var = mean.clone(), var.clone()
    return batch_norm(x, mean, var, None, None, training, momentum), mean, var


@right("normalise")
def by_squares(x: Tensor, mean: Tensor, var: Tensor, momentum: float, training: bool) -> Three:
    if not training:
        return (x - mean[None, :, None, None]) / (var[None, :, None, None] + 1e-5).sqrt(), mean, var
    flat = x.transpose(0, 1).flatten(1)
    m = flat.mean(1)
    v = (flat - m[:, None]).square().mean(1)
    y = (x - m[:, None, None]) / (v[:, None, None] + 1e-5).sqrt()
    n = flat.shape[1]
    new = mean.lerp(m, momentum), var.lerp(v * n / (n - 1), momentum)
    return y, *new

"""Answers to the exercises of notebook 14 as learners give them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop_lab.instruments.looking import attention_rollout, grad_cam
from tests.course.answers import right, wrong

Pair = tuple[float, float]

# --- count_conv


def places(kernel: int, stride: int, size: int) -> int:
    return ((size + 2 * (kernel // 2) - kernel) // stride + 1) ** 2


@wrong("count_conv", "a multiplication and an addition are two")
def multiplications(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> Pair:
    weights = inputs * outputs * kernel**2
    return weights, weights * places(kernel, stride, size)


@wrong("count_conv", "the places of the output count")
def without_stride(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> Pair:
    weights = inputs * outputs * kernel**2
    return weights, 2 * weights * size**2


@wrong("count_conv", "every place of the output costs a whole kernel")
def one_place(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> Pair:
    weights = inputs * outputs * kernel**2
    return weights, 2 * weights


@wrong("count_conv", "one kernel for each pair of channels")
def one_input(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> Pair:
    weights = outputs * kernel**2
    return weights, 2 * weights * places(kernel, stride, size)


@right("count_conv")
def as_a_product(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> Pair:
    side = len(range(0, size + 2 * (kernel // 2) - kernel + 1, stride))
    return inputs * outputs * kernel**2, 2 * side**2 * inputs * outputs * kernel**2


# --- cam


def slopes(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    maps = features(x).detach().requires_grad_()
    chosen = head(maps)[torch.arange(len(c)), c].sum()
    return torch.autograd.grad(chosen, maps)[0], maps.detach()


@wrong("cam", "keep what is positive")
def with_negative_parts(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    slope, maps = slopes(features, head, x, c)
    return (slope.mean((2, 3), keepdim=True) * maps).sum(1)


@wrong("cam", "one weight for each map")
def place_by_place(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    slope, maps = slopes(features, head, x, c)
    return (slope * maps).sum(1).relu()


@wrong("cam", "the slope alone is no map")
def slopes_only(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    return slopes(features, head, x, c)[0].sum(1).relu()


@wrong("cam", "no absolute values")
def absolute(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    slope, maps = slopes(features, head, x, c)
    return (slope.mean((2, 3), keepdim=True) * maps).sum(1).abs()


@wrong("cam", "uses grad_cam; do it without")
def of_the_package(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    return grad_cam(nn.Sequential(features, head), x, c, "0")


@wrong("cam", "has shape")
def for_every_map(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    slope, maps = slopes(features, head, x, c)
    return (slope.mean((2, 3), keepdim=True) * maps).relu()


@right("cam")
def by_einsum(features: nn.Module, head: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    slope, maps = slopes(features, head, x, c)
    return torch.einsum("bk,bkij->bij", slope.flatten(2).mean(2), maps).clamp_min(0)


# --- roll


def product(maps: Sequence[Tensor], keep: float) -> Tensor:
    eye = torch.eye(maps[0].shape[-1])
    rolled = eye.expand(len(maps[0]), -1, -1)
    for heads in maps:
        rolled = ((1 - keep) * heads.mean(1) + keep * eye) @ rolled
    return rolled


@wrong("roll", "the last layer stands on the left")
def from_the_right(maps: Sequence[Tensor], keep: float) -> Tensor:
    return product(maps[::-1], keep)


@wrong("roll", "keep is the share of what was there before")
def swapped(maps: Sequence[Tensor], keep: float) -> Tensor:
    return product(maps, 1 - keep)


@wrong("roll", "the residual share is keep, not a half")
def always_a_half(maps: Sequence[Tensor], keep: float) -> Tensor:
    return product(maps, 0.5)


@wrong("roll", "the way around the layer is missing")
def attention_only(maps: Sequence[Tensor], keep: float) -> Tensor:
    return product(maps, 0.0)


@wrong("roll", "uses attention_rollout; do it without")
def packages(maps: Sequence[Tensor], keep: float) -> Tensor:
    return attention_rollout(maps)


@wrong("roll", "has shape")
def heads_kept(maps: Sequence[Tensor], keep: float) -> Tensor:
    return (1 - keep) * maps[0] + keep * torch.eye(maps[0].shape[-1])


@right("roll")
def by_recursion(maps: Sequence[Tensor], keep: float) -> Tensor:
    eye = torch.eye(maps[0].shape[-1])
    layers = [(1 - keep) * heads.mean(1) + keep * eye for heads in reversed(maps)]
    return torch.stack([torch.linalg.multi_dot([layer[b] for layer in layers]) for b in range(2)])

"""Two activations for loops of tokens: one that keeps a vector in a ball, one that stands for ReLU.

    n(a) = a / sqrt(1 + |a|^2/d),         |n(a)| < sqrt(d)
    dn/da = sqrt(1 - |r|^2/d) (1 - r r^T/d),  r = n(a):   symmetric, between 0 and 1
    G(r) = -d sqrt(1 - |r|^2/d),          grad G = n^-1: what the energy has in the place of artanh

    squareplus(x) = (x + sqrt(x^2 + b))/2,    b = 1/64, its slope in (0, 1)
    integral      = (x^2 + x sqrt(x^2 + b) + b asinh(x/sqrt b))/4

n is RMS normalisation with epsilon 1. With the usual small epsilon it has no Lipschitz bound near
zero and cannot stand inside a loop. ReLU has a kink, at which the nudged states of a finite beta
are off by more than beta^2. What enters it here is bounded, about 1 or less: with the usual corner
of width 1 it is nearly a line there (recurrent_core ended 0.03 nats higher on tiny Shakespeare).
Source of squareplus: Barron 2021, arXiv:2112.11687.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CORNER = 1 / 8  # sqrt(b), how far from 0 squareplus leaves ReLU


def ball(a: Tensor) -> Tensor:
    """n(a) along the last axis, same shape."""
    size = torch.linalg.vector_norm(a, dim=-1, keepdim=True).square()
    return a * torch.rsqrt(1 + size / a.shape[-1])


def ball_entropy(r: Tensor) -> Tensor:
    """G(r) of every vector (..., d) -> (...)."""
    width = r.shape[-1]
    return -width * (1 - r.square().sum(-1) / width).clamp_min(0).sqrt()


def ball_product(r: Tensor, v: Tensor) -> Tensor:
    """dn/da v at r = n(a), vectors along the last axis, same shape."""
    width = r.shape[-1]
    inside = (1 - r.square().sum(-1, keepdim=True) / width).clamp_min(0).sqrt()
    return inside * torch.addcmul(v, r, (r * v).sum(-1, keepdim=True), value=-1 / width)


def _root(x: Tensor) -> Tensor:
    return torch.addcmul(x.new_full((), CORNER**2), x, x).sqrt_()


class _SquarePlus(torch.autograd.Function):
    """With its slope kept: an adjoint phase asks for it at every step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        root = _root(x)
        value = (x + root).mul_(0.5)
        ctx.save_for_backward(x, value / root)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            slope = (1 + x / torch.sqrt(x * x + CORNER**2)) / 2
        return gradients[0] * slope


def squareplus(x: Tensor) -> Tensor:
    """(x + sqrt(x^2 + b))/2, elementwise, same shape."""
    if x.requires_grad:
        value: Tensor = _SquarePlus.apply(x)
        return value
    return _root(x).add_(x).mul_(0.5)


def squareplus_integral(x: Tensor) -> Tensor:
    """The function whose slope is squareplus, zero at zero; elementwise, same shape."""
    bend = CORNER**2 * torch.asinh(x / CORNER)
    return (x * (x + (x * x + CORNER**2).sqrt()) + bend) / 4


def rms(x: Tensor) -> Tensor:
    """x / sqrt(mean x^2 + 1e-5) along the last axis: outside of every loop only."""
    return torch.nn.functional.rms_norm(x, x.shape[-1:], eps=1e-5)

"""One layer of a predictive coding network: what it predicts, and what it hands down of an error.

    a = W s + b,    p = f(a) (+ s),    q = f'(a) e,    handed down: W^T q (+ e)

    f          [abar; alpha] -> [M; D] of f(abar +- alpha)         mean and half difference of f'
    tanh       see `activations.tanh_pair`                         1 - M^2 - D^2,    -2 M D
    relu       g abar + h alpha,    g alpha + h abar               g, h of [abar +- alpha > 0]
    identity   abar,    alpha                                      1,    0

(+ s): with a skip connection. No two close numbers are subtracted, however small alpha is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.activations import tanh, tanh_pair
from eqprop_lab.equilibrium.linear_maps import DenseMap, LinearMap

Slopes = tuple[Tensor, Tensor]  # mean and half difference of f'


class Unit(ABC):
    """An activation f. gain: variance of a weight times its fan-in, for which sizes are kept."""

    gain = 1.0

    @abstractmethod
    def value(self, a: Tensor) -> Tensor:
        """f(a)."""

    @abstractmethod
    def back(self, e: Tensor, t: Tensor) -> Tensor:
        """f'(a) e, by t = f(a)."""

    @abstractmethod
    def pair(self, a: Tensor) -> tuple[Tensor, Slopes | None]:
        """[abar; alpha] -> ([M; D], slopes of both; None: 1 and 0). `a` may be overwritten."""


class Tanh(Unit):
    """tanh(a)."""

    def value(self, a: Tensor) -> Tensor:
        return tanh(a)

    def back(self, e: Tensor, t: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(e, t)

    def pair(self, a: Tensor) -> tuple[Tensor, Slopes]:
        t = tanh_pair(a)
        mean, half = t.chunk(2)
        return t, (1 - mean.square() - half.square(), -2 * mean * half)


class Relu(Unit):
    """max(a, 0)."""

    gain = 2.0

    def value(self, a: Tensor) -> Tensor:
        return torch.relu(a)

    def back(self, e: Tensor, t: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(e, t, 0)

    def pair(self, a: Tensor) -> tuple[Tensor, Slopes]:
        mean, half = a.chunk(2)
        plus, minus = (((mean + sign * half) > 0).to(a.dtype) for sign in (1, -1))
        slopes = (plus + minus) / 2, (plus - minus) / 2
        return back_pair(a, slopes), slopes  # f(a) = f'(a) a


class Identity(Unit):
    """a."""

    def value(self, a: Tensor) -> Tensor:
        return a

    def back(self, e: Tensor, t: Tensor) -> Tensor:
        return e

    def pair(self, a: Tensor) -> tuple[Tensor, None]:
        return a, None


UNITS: dict[str, Unit] = {"tanh": Tanh(), "relu": Relu(), "identity": Identity()}
HIDDEN = ("tanh", "relu")


@dataclass(frozen=True)
class FlatMap(DenseMap):
    """A dense map that reads the images of `below` as vectors."""

    below: LinearMap

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.below.out_shape

    def up(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return super().up(self.below.vec(x), weight, bias)

    def down(self, y: Tensor, weight: Tensor) -> Tensor:
        return self.below.unvec(super().down(y, weight))

    def weight_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return super().weight_gradient(self.below.vec(x), y)


class PredictiveLayer(nn.Module):
    """Weight and bias of one linear map under an activation. skip: p = f(a) + s; gain: of the
    variance of the weights, beside that of the activation.
    """

    def __init__(self, linear: LinearMap, unit: str, skip: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        self.linear, self.unit, self.skip = linear, unit, skip
        fan_in = math.prod(linear.weight_shape[1:])
        std = math.sqrt(gain * UNITS[unit].gain / fan_in)
        self.weight = nn.Parameter(std * torch.randn(linear.weight_shape))
        self.bias = nn.Parameter(torch.zeros(linear.bias_shape))

    def predict(self, s: Tensor) -> Tensor:
        """p (B, *out_shape) of the state below (B, *in_shape)."""
        t = UNITS[self.unit].value(self.linear.up(s, self.weight, self.bias))
        return t + s if self.skip else t

    def back(self, e: Tensor, p: Tensor, s: Tensor) -> Tensor:
        """q = f'(a) e, where p is what the layer predicts of s."""
        return UNITS[self.unit].back(e, p - s if self.skip else p)

    def pull(self, q: Tensor, e: Tensor) -> Tensor:
        """W^T q (+ e): the error of the state below."""
        pulled = self.linear.down(q, self.weight)
        return pulled + e if self.skip else pulled

    def pair(self, s: Tensor) -> tuple[Tensor, Slopes | None]:
        """[M; D] of the predictions and the slopes, of the states below as [M; D]."""
        a = self.linear.up(s, self.weight)
        a[: len(a) // 2].add_(self.bias)
        t, slopes = UNITS[self.unit].pair(a)
        return (t + s if self.skip else t), slopes

    def extra_repr(self) -> str:
        return f"{self.unit}{', skip' if self.skip else ''}"


def back_pair(e: Tensor, slopes: Slopes | None) -> Tensor:
    """[M; D] of f'(a) e, of the errors as [M; D]."""
    if slopes is None:
        return e
    (mean, half), (g, h) = e.chunk(2), slopes
    return torch.cat([g * mean + h * half, g * half + h * mean])


def swapped(pair: Tensor) -> Tensor:
    """[M; D] -> [D; M]."""
    return torch.cat(pair.chunk(2)[::-1])

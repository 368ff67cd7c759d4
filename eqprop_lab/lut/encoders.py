"""Numbers as bits: what a LUT network reads of its input.

    thermometer               t_i = low + i (high - low) / (b + 1)           i = 1 .. b
    gaussian_thermometer      t_i = mean + std Phi^-1(i / (b + 1))
    distributive_thermometer  t_i = the value at rank N i / (b + 1)
    bit i of a feature        x > t_i

Bits stand feature by feature, the lowest threshold first. A constant feature has all its
thresholds at its value: its bits are 0. Values that are not finite are refused. Thresholds are
buffers: they travel with the weights.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import positive_int, switch

MANY_BITS = 32


class Encoder(nn.Module, ABC):
    """x (N, F) -> bits (N, F b), or (N, F, b) without `flatten`.

    Args: num_bits: b >= 1. feature_wise: thresholds for each feature, False: one set for all.
        clip_inputs: values outside the range seen in `fit` count as its ends. flatten: see above.
    Raises: TypeError, ValueError naming the argument. Warns above 32 bits a feature.
    """

    thresholds: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        num_bits: int = 4,
        feature_wise: bool = True,
        clip_inputs: bool = False,
        flatten: bool = True,
    ) -> None:
        super().__init__()
        self.num_bits = positive_int("num_bits", num_bits)
        self.feature_wise = switch("feature_wise", feature_wise)
        self.clip_inputs = switch("clip_inputs", clip_inputs)
        self.flatten = switch("flatten", flatten)
        self.features = 0
        self.fitted = False
        if self.num_bits > MANY_BITS:
            warnings.warn(
                f"num_bits={self.num_bits}: more than {MANY_BITS} bits a feature are many inputs",
                UserWarning,
                stacklevel=2,
            )
        self.build(0)
        self.register_load_state_dict_post_hook(_looked)

    def build(self, features: int) -> None:
        """Make room for the thresholds of that many features; they are unknown until `fit`."""
        self.features = features
        rows = features if self.feature_wise else min(features, 1)
        unknown = torch.full((rows, 1), torch.nan)
        self.register_buffer("thresholds", unknown.repeat(1, self.num_bits))
        self.register_buffer("low", unknown.clone())
        self.register_buffer("high", unknown.clone())

    def look(self) -> None:
        """Take note whether the thresholds that are there are known."""
        self.fitted = self.features > 0 and bool(torch.isfinite(self.thresholds).all())

    def fit(self, x: Tensor) -> Encoder:
        """Set the thresholds from samples (N, F). Raises TypeError, ValueError for what is none."""
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 2 or not x.numel():
            raise ValueError(f"data must be a floating tensor (samples, features), got {_form(x)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("data holds NaN or infinite values; every value must be finite")
        if self.features == 0:
            self.build(x.shape[1])
        if x.shape[1] != self.features:
            raise ValueError(f"data must have {self.features} features, got {_form(x)}")
        values = x.detach() if self.feature_wise else x.detach().reshape(-1, 1)
        found = self.find(values)
        for name, value in (
            ("thresholds", found),
            ("low", values.amin(0)[:, None]),
            ("high", values.amax(0)[:, None]),
        ):
            setattr(self, name, value.to(self.thresholds))
        self.look()
        return self

    @abstractmethod
    def find(self, values: Tensor) -> Tensor:
        """Thresholds (F, b), rising, from values (N, F)."""

    def encode(self, x: Tensor) -> Tensor:
        """Bits of x (N, F) as numbers of its kind. Raises RuntimeError before `fit`; ValueError."""
        if not self.fitted:
            raise RuntimeError("Encoder must be fitted before encoding. Call fit_encoder() first.")
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(f"x must have shape (N, {self.features}), got {_form(x)}")
        # by features: a layer takes whole rows of samples
        columns = x.t()
        if self.clip_inputs:
            columns = torch.minimum(torch.maximum(columns, self.low), self.high)
        bits = (columns.unsqueeze(1) > self.thresholds.unsqueeze(2)).to(x.dtype)
        return bits.flatten(0, 1).t() if self.flatten else bits.permute(2, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def extra_repr(self) -> str:
        return f"{self.features} features of {self.num_bits} bits"


def _looked(encoder: Encoder, _: object) -> None:
    """After weights are loaded; a function, so that models can be pickled."""
    encoder.look()


def _form(x: object) -> str:
    return f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"


def _steps(encoder: Encoder, like: Tensor) -> Tensor:
    """i / (b + 1), i = 1 .. b."""
    count = torch.arange(1, encoder.num_bits + 1, dtype=like.dtype, device=like.device)
    return count / (encoder.num_bits + 1)


@REGISTRY.register_encoder("thermometer")
class Thermometer(Encoder):
    """Thresholds at equal distances between the smallest and the largest value."""

    def find(self, values: Tensor) -> Tensor:
        low, high = values.amin(0)[:, None], values.amax(0)[:, None]
        return low + _steps(self, values) * (high - low)


@REGISTRY.register_encoder("gaussian_thermometer")
class GaussianThermometer(Encoder):
    """Thresholds that cut a normal distribution into equal parts."""

    def find(self, values: Tensor) -> Tensor:
        spread = values.std(0, correction=1 if len(values) > 1 else 0)[:, None]
        return values.mean(0)[:, None] + spread * torch.special.ndtri(_steps(self, values))


@REGISTRY.register_encoder("distributive_thermometer")
class DistributiveThermometer(Encoder):
    """Thresholds that cut the values seen into equal parts."""

    def find(self, values: Tensor) -> Tensor:
        number = torch.arange(1, self.num_bits + 1, device=values.device)
        ranks = len(values) * number // (self.num_bits + 1)
        return values.sort(0).values[ranks].t().contiguous()

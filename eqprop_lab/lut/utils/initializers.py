"""How the parameters of a layer's nodes begin.

    normal, uniform, xavier_*, kaiming_*, zeros, ones    every parameter, from one distribution
    variance_stabilized     N(0, 4 v / (fan_in + fan_out))
    residual                logits +-clarity by the first pin, plus N(0, noise^2): nearly a wire

fan_in is n, fan_out how many pins an output feeds on average; both are filled in. Residual:
LogicTreeNet (arXiv:2411.04732); noise keeps the nodes of a layer apart.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from eqprop_lab.lut.nodes.base import LUTNodes
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import real

SLOW_CLARITY = 4.0


def _fill(nodes: LUTNodes, generator: torch.Generator, mean: float, std: float) -> None:
    with torch.no_grad():
        for parameter in nodes.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, device="cpu")
            parameter.copy_(mean + std * drawn)


def _between(nodes: LUTNodes, generator: torch.Generator, low: float, high: float) -> None:
    with torch.no_grad():
        for parameter in nodes.parameters():
            drawn = torch.rand(parameter.shape, generator=generator, device="cpu")
            parameter.copy_(low + (high - low) * drawn)


@REGISTRY.register_initializer("zeros")
def zeros(nodes: LUTNodes, generator: torch.Generator) -> None:
    """0."""
    _fill(nodes, generator, 0.0, 0.0)


@REGISTRY.register_initializer("ones")
def ones(nodes: LUTNodes, generator: torch.Generator) -> None:
    """1."""
    _fill(nodes, generator, 1.0, 0.0)


@REGISTRY.register_initializer("normal")
def normal(
    nodes: LUTNodes, generator: torch.Generator, mean: float = 0.0, std: float = 1.0
) -> None:
    """N(mean, std^2). std >= 0."""
    _fill(nodes, generator, real("mean", mean), real("std", std, at_least=0.0))


@REGISTRY.register_initializer("uniform")
def uniform(
    nodes: LUTNodes, generator: torch.Generator, low: float = -1.0, high: float = 1.0
) -> None:
    """U(low, high). high >= low."""
    low = real("low", low)
    _between(nodes, generator, low, real("high", high, at_least=low))


@REGISTRY.register_initializer("xavier_uniform")
def xavier_uniform(
    nodes: LUTNodes, generator: torch.Generator, fan_in: float, fan_out: float, gain: float = 1.0
) -> None:
    """U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)). gain > 0."""
    edge = real("gain", gain, above=0.0) * math.sqrt(6 / (fan_in + fan_out))
    _between(nodes, generator, -edge, edge)


@REGISTRY.register_initializer("xavier_normal")
def xavier_normal(
    nodes: LUTNodes, generator: torch.Generator, fan_in: float, fan_out: float, gain: float = 1.0
) -> None:
    """N(0, gain^2 2 / (fan_in + fan_out)). gain > 0."""
    std = real("gain", gain, above=0.0) * math.sqrt(2 / (fan_in + fan_out))
    _fill(nodes, generator, 0.0, std)


@REGISTRY.register_initializer("kaiming_uniform")
def kaiming_uniform(nodes: LUTNodes, generator: torch.Generator, fan_in: float) -> None:
    """U(-a, a), a = sqrt(6 / fan_in)."""
    edge = math.sqrt(6 / fan_in)
    _between(nodes, generator, -edge, edge)


@REGISTRY.register_initializer("kaiming_normal")
def kaiming_normal(nodes: LUTNodes, generator: torch.Generator, fan_in: float) -> None:
    """N(0, 2 / fan_in)."""
    _fill(nodes, generator, 0.0, math.sqrt(2 / fan_in))


@REGISTRY.register_initializer("variance_stabilized")
def variance_stabilized(
    nodes: LUTNodes,
    generator: torch.Generator,
    fan_in: float,
    fan_out: float,
    v_target: float = 1.0,
) -> None:
    """N(0, 4 v_target / (fan_in + fan_out)). v_target > 0."""
    variance = 4 * real("v_target", v_target, above=0.0) / (fan_in + fan_out)
    _fill(nodes, generator, 0.0, math.sqrt(variance))


@REGISTRY.register_initializer("residual")
def residual(
    nodes: LUTNodes, generator: torch.Generator, clarity: float = 2.0, noise: float = 0.5
) -> None:
    """Logits +-clarity by the first pin, plus N(0, noise^2). clarity > 0, noise >= 0.

    Warns from clarity 4 on, where sigmoid' is below 0.02: such tables move at rates from 0.05 on
    only (measured on digits: 16 % after 20 epochs at 0.01, 97 % at 0.1).
    """
    clarity = real("clarity", clarity, above=0.0)
    noise = real("noise", noise, at_least=0.0)
    if clarity >= SLOW_CLARITY:
        warnings.warn(
            f"init_clarity={clarity:g}: tables that begin this clear hardly move at learning rates "
            "below 0.05; 2 trains at any rate",
            UserWarning,
            stacklevel=2,
        )
    shape = (nodes.count, nodes.entries)
    first: Tensor = (torch.arange(nodes.entries, device="cpu") & 1).float()
    drawn = torch.randn(shape, generator=generator, device="cpu")
    target = clarity * (2 * first - 1) + noise * drawn
    nodes.set_logits(target.to(next(nodes.parameters())))

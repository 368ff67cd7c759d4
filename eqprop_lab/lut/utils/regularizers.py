"""Penalties on the tables of a layer, p (O, 2^n) in [0, 1]; each is 0 for truth tables or small.

    entropy      mean of -p log2 p - (1 - p) log2 (1 - p)
    clarity      mean of 1 - |2p - 1|
    l1, l2       mean over entries and pins of |p_k - p_(k ^ 2^l)|^e, e = 1, 2
    functional   the same for any exponent
    spectral     mean over nodes of sum_S |S| t_S^2, t the Walsh coefficients of 2p - 1

Means, so that a weight means the same for every width. The last three are about how strongly an
output hangs on single pins, and are exact: table differences, no samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import real


@REGISTRY.register_regularizer("entropy")
def entropy(table: Tensor) -> Tensor:
    """Mean entropy of an entry in bits, 0 to 1."""
    other = 1 - table
    return -(torch.xlogy(table, table) + torch.xlogy(other, other)).mean() / math.log(2)


@REGISTRY.register_regularizer("clarity")
def clarity(table: Tensor) -> Tensor:
    """Mean distance from 0 and 1, 0 to 1."""
    return (1 - (2 * table - 1).abs()).mean()


@REGISTRY.register_regularizer("functional")
def functional(table: Tensor, exponent: float = 2.0) -> Tensor:
    """Mean |p_k - p_(k ^ 2^l)|^exponent over entries k and pins l. exponent >= 1."""
    exponent = real("exponent", exponent, at_least=1.0)
    entries = torch.arange(table.shape[1], device=table.device)
    pins = range(table.shape[1].bit_length() - 1)
    moved = [table - table[:, entries ^ (1 << pin)] for pin in pins]
    return torch.stack(moved).abs().pow(exponent).mean()


@REGISTRY.register_regularizer("l1")
def l1(table: Tensor) -> Tensor:
    """`functional` with exponent 1."""
    return functional(table, 1.0)


@REGISTRY.register_regularizer("l2")
def l2(table: Tensor) -> Tensor:
    """`functional` with exponent 2."""
    return functional(table, 2.0)


@REGISTRY.register_regularizer("spectral")
def spectral(table: Tensor) -> Tensor:
    """Mean sum_S |S| t_S^2, which is the total influence of the pins of a truth table."""
    entries = torch.arange(table.shape[1], device=table.device)
    parity = torch.zeros_like(entries[:, None] & entries)
    size = torch.zeros_like(entries)
    for pin in range(table.shape[1].bit_length() - 1):
        parity = parity + ((entries[:, None] & entries) >> pin & 1)
        size = size + (entries >> pin & 1)
    walsh = (2 * table - 1) @ (1 - 2 * (parity % 2)).to(table.dtype) / table.shape[1]
    return (walsh.square() @ size.to(table.dtype)).mean()

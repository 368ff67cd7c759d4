"""All nodes of a layer as one module: O tables of 2^n entries, and how they are relaxed."""

from __future__ import annotations

from eqprop_lab.lut.nodes.base import LUTNodes, address, look_up
from eqprop_lab.lut.nodes.linear import (
    LinearNodes,
    PolynomialNodes,
    ProbabilisticNodes,
    WalshNodes,
)

__all__ = [
    "LUTNodes",
    "LinearNodes",
    "PolynomialNodes",
    "ProbabilisticNodes",
    "WalshNodes",
    "address",
    "look_up",
]

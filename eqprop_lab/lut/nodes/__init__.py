"""All nodes of a layer as one module: O tables of 2^n entries, and how they are relaxed."""

from __future__ import annotations

from eqprop_lab.lut.nodes.base import LUTNodes, address, look_up
from eqprop_lab.lut.nodes.dwn import DWNNodes, HybridNodes, efd
from eqprop_lab.lut.nodes.gates import GateNodes
from eqprop_lab.lut.nodes.linear import (
    LinearNodes,
    PolynomialNodes,
    ProbabilisticNodes,
    WalshNodes,
)

__all__ = [
    "DWNNodes",
    "GateNodes",
    "HybridNodes",
    "LUTNodes",
    "LinearNodes",
    "PolynomialNodes",
    "ProbabilisticNodes",
    "WalshNodes",
    "address",
    "efd",
    "look_up",
]

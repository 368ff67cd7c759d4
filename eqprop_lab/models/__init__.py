"""The models, one file each; `equilibrium.contract` is what they keep."""

from __future__ import annotations

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.models.backprop import BackpropCNN, BackpropMLP
from eqprop_lab.models.conv import ConvEqProp, DeepEqProp
from eqprop_lab.models.looped_mlp import LoopedMLP

__all__ = [
    "BackpropCNN",
    "BackpropMLP",
    "ConvEqProp",
    "DeepEqProp",
    "EquilibriumModel",
    "LoopedMLP",
]

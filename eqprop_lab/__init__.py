"""eqprop_lab: learn and research Equilibrium Propagation, in notebooks backed by one compact package."""

from __future__ import annotations

from eqprop_lab.datasets import DataUnavailable, build_dataset
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, DivergenceError, Equilibrium, relax
from eqprop_lab.models import BackpropMLP, EquilibriumModel, LoopedMLP
from eqprop_lab.training import EqPropTrainer, StopTraining

__version__ = "0.1.0"

__all__ = [
    "BackpropMLP",
    "ConvergenceWarning",
    "DataUnavailable",
    "DivergenceError",
    "EqPropTrainer",
    "Equilibrium",
    "EquilibriumModel",
    "LoopedMLP",
    "StopTraining",
    "__version__",
    "build_dataset",
    "estimate_gradients",
    "relax",
]

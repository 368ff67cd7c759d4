"""eqprop_lab: learn and research Equilibrium Propagation, in notebooks backed by one compact package."""

from __future__ import annotations

from eqprop_lab.datasets import DataUnavailable, build_dataset
from eqprop_lab.equilibrium.block import EquilibriumBlock
from eqprop_lab.equilibrium.check import check_gradient, check_model
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, DivergenceError, Equilibrium, relax
from eqprop_lab.equilibrium.verification import verify_spectral_norm
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
    "EquilibriumBlock",
    "EquilibriumModel",
    "LoopedMLP",
    "StopTraining",
    "__version__",
    "build_dataset",
    "check_gradient",
    "check_model",
    "estimate_gradients",
    "relax",
    "verify_spectral_norm",
]

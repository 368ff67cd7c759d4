"""eqprop_lab: learn and research Equilibrium Propagation, in notebooks backed by one compact
package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eqprop_lab import acceleration
from eqprop_lab.acceleration import check_cupy_available, compile_model
from eqprop_lab.datasets import DataUnavailable, build_dataset
from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.devices import get_optimal_backend
from eqprop_lab.equilibrium.block import EquilibriumBlock
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.equilibrium.relaxation import (
    ConvergenceWarning,
    DivergenceError,
    Equilibrium,
    RoundingWarning,
    relax,
)
from eqprop_lab.experiments.config import load_config, train_from_config
from eqprop_lab.experiments.presets import create_model_preset, get_dataset_info, get_model_config
from eqprop_lab.experiments.trained import list_trained, load_trained, save_trained, trained_info
from eqprop_lab.instruments.gradient_check import check_gradient, check_model
from eqprop_lab.instruments.spectral_check import verify_spectral_norm
from eqprop_lab.instruments.validity import radius_of_validity
from eqprop_lab.models import (
    BackpropCNN,
    BackpropMLP,
    ConvEqProp,
    DeepEqProp,
    EquilibriumModel,
    LoopedMLP,
)
from eqprop_lab.models.registry import ModelRegistry, model_registry
from eqprop_lab.training import EqPropTrainer, StopTraining
from eqprop_lab.utils import compute_gradient_norm, count_parameters, estimate_memory_usage

__version__ = "0.1.0"

__all__ = [
    "Augmentation",
    "BackpropCNN",
    "BackpropMLP",
    "ConvEqProp",
    "ConvergenceWarning",
    "DataUnavailable",
    "DeepEqProp",
    "DivergenceError",
    "EqPropTrainer",
    "Equilibrium",
    "EquilibriumBlock",
    "EquilibriumModel",
    "HAS_CUPY",
    "LoopedMLP",
    "ModelRegistry",
    "RoundingWarning",
    "StopTraining",
    "__version__",
    "build_dataset",
    "check_cupy_available",
    "check_gradient",
    "check_model",
    "compile_model",
    "compute_gradient_norm",
    "count_parameters",
    "create_model_preset",
    "estimate_gradients",
    "estimate_memory_usage",
    "get_dataset_info",
    "get_model_config",
    "get_optimal_backend",
    "list_trained",
    "load_config",
    "load_trained",
    "model_registry",
    "radius_of_validity",
    "relax",
    "save_trained",
    "train_from_config",
    "trained_info",
    "verify_spectral_norm",
]

if TYPE_CHECKING:
    HAS_CUPY: bool
else:

    def __getattr__(name: str) -> Any:
        # Asked for, not at import: the probe starts the CUDA runtime.
        if name == "HAS_CUPY":
            return acceleration.HAS_CUPY
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

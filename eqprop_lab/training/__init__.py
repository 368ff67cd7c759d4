"""One training loop for every source of gradients."""

from __future__ import annotations

from eqprop_lab.training.trainer import BatchError, EqPropTrainer, History, StopTraining

__all__ = ["BatchError", "EqPropTrainer", "History", "StopTraining"]

"""One training loop for every source of gradients, with checkpoints, callbacks, loggers and a store
of runs.
"""

from __future__ import annotations

from eqprop_lab.seeding import seed_everything
from eqprop_lab.training.callbacks import Budget, EarlyStopping, ModelCheckpoint
from eqprop_lab.training.history import BatchError, CheckpointError, History, StopTraining
from eqprop_lab.training.trainer import EqPropTrainer

__all__ = [
    "BatchError",
    "Budget",
    "CheckpointError",
    "EarlyStopping",
    "EqPropTrainer",
    "History",
    "ModelCheckpoint",
    "StopTraining",
    "seed_everything",
]

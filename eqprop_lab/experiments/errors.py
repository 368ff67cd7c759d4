"""Errors that are the user's: a config, run, checkpoint, data set or device that will not do."""

from __future__ import annotations

from eqprop_lab.datasets import DataUnavailable
from eqprop_lab.experiments.runs import RunError
from eqprop_lab.training import BatchError, CheckpointError

USERS_ERRORS = (
    BatchError, CheckpointError, DataUnavailable, ImportError, OSError, RunError, TypeError,
    ValueError,
)  # fmt: skip

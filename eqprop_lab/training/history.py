"""What a training leaves behind, and the ways in which it ends early."""

from __future__ import annotations

import math
from typing import Any

Record = dict[str, Any]


class StopTraining(Exception):
    """Raised by a callback to end `fit` cleanly; the history so far is returned."""


class BatchError(RuntimeError):
    """A batch that failed; the message names the epoch and the batch, the cause is chained."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read or used; the message names file and reason."""


class History(dict[str, list[Any]]):
    """Curves of a training, one entry an epoch.

    Keys: "epoch", "estimator", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "residual" (worst free-phase residual of the epoch), "nudged_residual" (worst last movement of
    what is divided by beta, relative to itself; nan where nothing is), "val_residual" (free phases
    of the evaluation after it), "norm" (certified contraction bound then; nan of a module that
    has none), "sigma_error" (relative error of d sigma/dW of the bounded weights
    after the last step, against converged vectors; nan where nothing is bounded), "seconds" (wall
    time of the training part).
    """

    def append(self, record: Record) -> None:
        """Add one epoch. A curve that starts late is filled up with nan, so that all have one entry
        an epoch.
        """
        done = max(map(len, self.values()), default=0)
        for key in {**self, **record}:
            curve = self.setdefault(key, [])
            curve.extend([math.nan] * (done - len(curve)))
            curve.append(record.get(key, math.nan))

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.get("epoch", ()))

    def records(self) -> list[Record]:
        """The curves as one record an epoch."""
        return [dict(zip(self, row, strict=True)) for row in zip(*self.values(), strict=True)]


def worse(so_far: float, value: float) -> float:
    """The larger one; nan stands for nothing so far."""
    return value if math.isnan(so_far) else max(so_far, value)

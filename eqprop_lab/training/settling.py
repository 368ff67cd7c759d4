"""What the phases of an epoch's batches were like: both residuals, and at most one warning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from eqprop_lab.equilibrium.contrast import Estimate, bent, rounded, unsettled
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, RoundingWarning
from eqprop_lab.training.history import worse

# Mean expected error of an epoch's gradients from which a training is told: above the 10 % or so
# that the recipe for MNIST has (8 free and 6 nudged steps on a trained net), whose accuracy is
# stored. A choice: neither that a training stays as good below it was measured, nor that settled
# phases would make it no better.
TOLD = 0.2


class Settling:
    """Collects the estimates of one epoch: one a batch, or one for every block of a batch.

    residual, nudged_residual: the worst of all batches, nan before the first (and for gradients
        without phases).
    """

    def __init__(self) -> None:
        self.residual = self.nudged_residual = math.nan
        self.batches = 0
        self.missed = 0  # batches in which a phase missed tol
        self.errors = np.zeros(4)  # free, nudged, bend, rounding: sums over the batches

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One batch more, as bad as the worst estimate that is noted in the body."""
        self._missed, self._errors = False, np.zeros(4)
        yield
        self.batches += 1
        self.missed += self._missed
        self.errors += self._errors

    def note(self, found: Estimate) -> None:
        """One estimate of the batch."""
        self._missed = self._missed or bool(found.missed)
        errors = (found.free_error, found.nudged_error, found.bend, found.rounding)
        self._errors = np.maximum(self._errors, errors)
        self.residual = worse(self.residual, found.free.residual)
        self.nudged_residual = worse(self.nudged_residual, found.nudged_residual)

    def told(self) -> list[float]:
        """What was noted of the batch so far, as numbers: what other processes may `hear`."""
        return [self.residual, self.nudged_residual, float(self._missed), *self._errors.tolist()]

    def hear(self, others: Sequence[Sequence[float]]) -> None:
        """Make the batch as bad as the worst of what processes, this one too, have `told`."""
        self.residual = self.nudged_residual = math.nan  # theirs may be rounded
        for residual, nudged, missed, *errors in others:
            self.residual = worse(self.residual, residual)
            self.nudged_residual = worse(self.nudged_residual, nudged)
            self._missed = self._missed or bool(missed)
            self._errors = np.maximum(self._errors, errors)

    def warn(self, epoch: int) -> None:
        """One warning for the epoch: of what is 20 % off in the mean, whatever the reason."""
        free, nudged, bend, rounding = (self.errors / max(self.batches, 1)).tolist()
        missed = f"relaxation not converged to tol in {self.missed} of {self.batches} batches"
        doubts = (
            (self.missed > 0, missed, ConvergenceWarning),
            (free > TOLD, unsettled("free", self.residual, free), ConvergenceWarning),
            (nudged > TOLD, unsettled("nudged", self.nudged_residual, nudged), ConvergenceWarning),
            (bend > TOLD, bent(bend), ConvergenceWarning),
            (rounding > TOLD, rounded(rounding), RoundingWarning),
        )
        told = [(text, kind) for doubt, text, kind in doubts if doubt]
        if told:
            text = "; ".join(text for text, _ in told)
            warnings.warn(f"epoch {epoch}: {text}", told[0][1], stacklevel=4)

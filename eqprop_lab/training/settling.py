"""What the phases of an epoch's batches were like: both residuals for the history, and at most one
warning.
"""

from __future__ import annotations

import math
import warnings

from eqprop_lab.equilibrium.contrast import Estimate, rounded, unsettled
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, RoundingWarning

# Mean expected error of an epoch's gradients from which a training is told: above the 10 % or so
# that the recipe for MNIST has (8 free and 6 nudged steps on a trained net), whose accuracy is
# stored. A choice: neither that a training stays as good below it was measured, nor that settled
# phases would make it no better.
TOLD = 0.2


class Settling:
    """Collects the estimates of one epoch.

    residual, nudged_residual: the worst of all batches, nan before the first (and for gradients
        without phases).
    """

    def __init__(self) -> None:
        self.residual = self.nudged_residual = math.nan
        self.batches = 0
        self.errors = {"free": 0.0, "nudged": 0.0, "rounding": 0.0}  # sums over the batches
        self.missed: dict[str, int] = {}  # phase: batches that missed tol

    def note(self, found: Estimate) -> None:
        """One batch more."""
        self.batches += 1
        self.residual = _worse(self.residual, found.free.residual)
        self.nudged_residual = _worse(self.nudged_residual, found.nudged_residual)
        for name, error in (
            ("free", found.free_error),
            ("nudged", found.nudged_error),
            ("rounding", found.rounding),
        ):
            self.errors[name] += error
        for text in found.missed:
            self.missed[text.split(":")[0]] = self.missed.get(text.split(":")[0], 0) + 1

    def doubts(self) -> list[tuple[str, type[UserWarning]]]:
        """What is to be told: of phases that were off, or rounded, by more than 20 % in the mean
        over the batches.
        """
        if self.batches == 0:
            return []
        told: list[tuple[str, type[UserWarning]]] = [
            (f"{text} to tol in {count} of {self.batches} batches", ConvergenceWarning)
            for text, count in self.missed.items()
        ]
        mean = {name: total / self.batches for name, total in self.errors.items()}
        for phase, residual in (("free", self.residual), ("nudged", self.nudged_residual)):
            if mean[phase] > TOLD:
                told.append((unsettled(phase, residual, mean[phase]), ConvergenceWarning))
        if mean["rounding"] > TOLD:
            told.append((rounded(mean["rounding"]), RoundingWarning))
        return told

    def warn(self, epoch: int) -> None:
        """One warning for the epoch, if there is anything to tell."""
        told = self.doubts()
        if told:
            text = "; ".join(text for text, _ in told)
            warnings.warn(f"epoch {epoch}: {text}", told[0][1], stacklevel=4)


def _worse(so_far: float, value: float) -> float:
    return value if math.isnan(so_far) else max(so_far, value)

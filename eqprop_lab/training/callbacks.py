"""The callbacks that users expect: stop early, keep the best, end when the time is up.

What a callback is, and when it is called, stands in `hooks`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from eqprop_lab.training.history import Record, StopTraining
from eqprop_lab.training.soundness import check_parameters_fit
from eqprop_lab.training.state import Trainer
from eqprop_lab.validation import a_path, one_of, positive_int, real, switch

MARGIN = 1.1  # an epoch may take this much longer than the longest one so far


class Best:
    """The best value of a curve: its smallest, or its largest for mode="max" (for accuracies)."""

    def __init__(self, monitor: str, mode: str | None = None, min_delta: float = 0.0) -> None:
        if mode is None:
            mode = "max" if "accuracy" in monitor else "min"
        one_of("mode", mode, ("min", "max"))
        self.how = (monitor, mode, real("min_delta", min_delta, at_least=0.0))
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.value = math.nan
        self.epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, and how it looks."""
        return {"best": (self.value, self.epoch), "how": self.how}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was seen. Raises ValueError when it was looked at in another way."""
        check_settings("monitor, mode, min_delta", state.get("how"), self.how)
        value, epoch = state["best"]
        self.value = float(value)
        self.epoch = int(epoch)

    def improved(self, record: Mapping[str, Any]) -> bool:
        """Whether this epoch is the best so far, by more than min_delta; nan never is.

        Raises ValueError for a record without the curve.
        """
        monitor, mode, min_delta = self.how
        if monitor not in record:
            hint = "; pass val_loader to fit" if monitor.startswith("val_") else ""
            raise ValueError(
                f"monitor must be one of {', '.join(map(repr, record))}, got {monitor!r}{hint}"
            )
        value = float(record[monitor])
        gain = value - self.value if mode == "max" else self.value - value
        better = gain > min_delta or (math.isnan(self.value) and not math.isnan(value))
        if better:
            self.value = value
            self.epoch = int(record["epoch"])
        return better


def check_settings(names: str, there: Any, here: tuple[Any, ...]) -> None:
    """Raise ValueError when a callback goes on with other settings."""
    if there is None or tuple(there) != here:
        raise ValueError(f"a callback had {names} = {there!r}, now {here!r}")


class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    restore_best: give the model its best parameters back when the fit ends; files written then hold
    them too, and the last ones beside them, from which a resumed fit goes on. Every fit that is not
    resumed begins without a memory.
    mode: "min", "max", or None: "max" for accuracies, "min" for all else. Raises ValueError at the
    first epoch that does not report `monitor`.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        self.best = Best(monitor, mode, min_delta)
        self.patience = positive_int("patience", patience)
        self.restore_best = switch("restore_best", restore_best)
        self.waited = 0
        self.parameters: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """A new fit begins anew; a resumed one goes on counting, and stays stopped if it was."""
        if not trainer.state.resumed:
            self.best.forget()
            self.waited = 0
            self.parameters = None
        if self.waited >= self.patience:
            raise StopTraining

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Count the epochs without progress."""
        if self.best.improved(record):
            self.waited = 0
            if self.restore_best:
                self.parameters = copy.deepcopy(trainer.model.state_dict())
            return
        self.waited += 1
        if self.waited >= self.patience:
            raise StopTraining

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the best parameters back."""
        if self.parameters is not None:
            trainer.model.load_state_dict(self.parameters)

    def check_model(self, model: nn.Module) -> None:
        """Raise ValueError when the best parameters are not those of this model."""
        if self.parameters is not None:
            check_parameters_fit(model, self.parameters, "the memory of EarlyStopping")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "waited": self.waited,
            "settings": (self.patience, self.restore_best),
            "parameters": self.parameters,
            **self.best.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the count of the interrupted fit. Raises ValueError where it stops otherwise."""
        check_settings(
            "patience, restore_best", state.get("settings"), (self.patience, self.restore_best)
        )
        self.best.load_state_dict(state)
        self.waited = int(state["waited"])
        self.parameters = state["parameters"]


class ModelCheckpoint:
    """Save the trainer after every epoch (`save="last"`) or after those that improve `monitor`
    (`save="best"`).

    "last" saves once more when the fit ends, if another callback has given the model other
    parameters then: the file holds what the fit left. Every fit that is not resumed begins without
    a memory of the best. It runs after the callbacks that do not say so, so that the file holds
    their state of the same epoch.
    """

    runs_last = True

    def __init__(
        self,
        path: str | Path,
        save: str = "last",
        monitor: str = "val_loss",
        mode: str | None = None,
    ) -> None:
        self.path = a_path("path", path)
        self.save = one_of("save", save, ("last", "best"))
        self.best = Best(monitor, mode)

    def on_fit_start(self, trainer: Trainer) -> None:
        """A new fit begins anew."""
        if not trainer.state.resumed:
            self.best.forget()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Save, if it is time to."""
        if self.save == "last" or self.best.improved(record):
            trainer.save_checkpoint(self.path)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Save what the fit left, if that is not what its last epoch left."""
        if self.save == "last" and trainer.state.left_behind() is not None:
            trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: nothing, where every epoch is saved."""
        return self.best.state_dict() if self.save == "best" else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the best value of the interrupted fit."""
        self.best.load_state_dict(state)


class Budget:
    """The minutes of one call: ends a fit cleanly when another epoch would not fit into them.

    The clock starts when it is made. An epoch is taken to need 1.1 times the longest one so far,
    with all that belongs to it (validation, checkpoint), so that a checkpoint lies there before the
    time is over; the first one is always granted, so that repeated calls get ahead. One budget may
    be spent on several fits. seconds: of every epoch so far; up: whether it has ended a fit.
    Raises TypeError, ValueError for minutes that are not > 0.
    """

    runs_last = True

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * real("minutes", minutes, above=0.0)
        self.seconds: list[float] = []
        self.up = False
        self._began = 0.0

    def fits(self) -> bool:
        """Whether there is time for another epoch, or for as much work as one."""
        return not self.seconds or time.monotonic() + MARGIN * max(self.seconds) <= self.end

    @property
    def mean(self) -> float:
        """Seconds an epoch takes."""
        return sum(self.seconds) / max(len(self.seconds), 1)

    def on_fit_start(self, trainer: Trainer) -> None:
        """Start the clock of the first epoch."""
        self._began = time.monotonic()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Note how long the epoch took, and stop where the next one would be too long."""
        now = time.monotonic()
        self.seconds.append(now - self._began)
        self._began = now
        if not self.fits():
            self.up = True
            raise StopTraining

"""Callbacks: what a fit tells others, and two that users expect.

A callback is a function of the epoch's record, or an object with any of

    on_fit_start(trainer), on_batch_end(trainer, batch, batches), on_epoch_end(trainer, record),
    on_fit_end(trainer)

and, if it has something to keep across an interruption, state_dict() and load_state_dict(state)
(tensors and plain containers; one that keeps nothing returns {}). A fit that is not resumed
(`trainer.resumed` in on_fit_start) must begin without another fit's memory. `runs_last = True` puts
it behind the others. Raising StopTraining ends the fit cleanly.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from eqprop_lab.training.checkpoint import left_behind
from eqprop_lab.training.history import Record, StopTraining
from eqprop_lab.training.soundness import check_parameters_fit
from eqprop_lab.validation import a_path, one_of, positive_int, real, switch

if TYPE_CHECKING:
    from eqprop_lab.training.trainer import EqPropTrainer

HOOKS = ("on_fit_start", "on_batch_end", "on_epoch_end", "on_fit_end")


class Callbacks:
    """The callbacks of one fit, in the order in which they run. Raises TypeError, ValueError for
    what is none.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        for number, callback in enumerate(callbacks):
            hooked = any(hasattr(callback, hook) for hook in HOOKS)
            if not (callable(callback) or hooked):
                raise TypeError(
                    f"callbacks must be functions or have one of {', '.join(HOOKS)}, got {callback!r}"
                )
            if hooked and isinstance(callback, type):
                raise TypeError(
                    f"callbacks must be objects, got the class {callback.__name__}; call it"
                )
            if hooked and any(callback is other for other in callbacks[:number]):
                raise ValueError(
                    f"callbacks must be named once: {type(callback).__name__} would count every epoch twice"
                )
        self.members = sorted(
            callbacks, key=lambda callback: bool(getattr(callback, "runs_last", False))
        )
        self.watchers = [c for c in self.members if hasattr(c, "on_batch_end")]
        self._started: list[Any] = []

    def start(self, trainer: EqPropTrainer) -> None:
        """Before the first batch. Those that have started are ended by `end`, whatever happens.

        All of them start, also when one has nothing left to do: StopTraining is raised at the end.
        """
        stop: StopTraining | None = None
        for callback in self.members:
            try:
                if hasattr(callback, "on_fit_start"):
                    callback.on_fit_start(trainer)
            except StopTraining as request:
                stop = request
            self._started.append(callback)
        if stop is not None:
            raise stop

    def epoch(self, trainer: EqPropTrainer, record: Record) -> None:
        """After an epoch. All of them see it, also when one wants to stop: StopTraining is raised
        at the end.
        """
        stop: StopTraining | None = None
        for callback in self.members:
            try:
                if hasattr(callback, "on_epoch_end"):
                    callback.on_epoch_end(trainer, record)
                elif callable(callback):
                    callback(record)
            except StopTraining as request:
                stop = request
        if stop is not None:
            raise stop

    def end(self, trainer: EqPropTrainer) -> None:
        """After the last batch. All of them are ended, also when one fails."""
        with ExitStack() as ends:
            for callback in reversed(self._started):
                if hasattr(callback, "on_fit_end"):
                    ends.callback(callback.on_fit_end, trainer)

    def state(self) -> list[tuple[str, dict[str, Any]]]:
        """(class name, state) of every callback that keeps one."""
        return [(type(callback).__name__, state) for state, callback in self._keepers()]

    def _keepers(self) -> list[tuple[dict[str, Any], Any]]:
        kept = [
            (callback.state_dict(), callback)
            for callback in self.members
            if hasattr(callback, "state_dict")
        ]
        return [(state, callback) for state, callback in kept if state]

    def load(self, states: Sequence[tuple[str, dict[str, Any]]], model: nn.Module) -> None:
        """Hand out what `state` gave: the n-th callback of a class gets the n-th state of that
        class.

        Raises ValueError when the callbacks that keep a state are not those, before any has got its
        own, or when one keeps parameters of another model.
        """
        keepers = [callback for _, callback in self._keepers()]
        had, has = (
            sorted(name for name, _ in states),
            sorted(type(callback).__name__ for callback in keepers),
        )
        if had != has:
            raise ValueError(
                f"the callbacks with a memory were {_listed(had)}, now they are {_listed(has)}"
            )
        left = list(states)
        for callback in keepers:
            mine = next(entry for entry in left if entry[0] == type(callback).__name__)
            left.remove(mine)
            callback.load_state_dict(mine[1])
            if isinstance(callback, EarlyStopping):
                callback.check_model(model)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


class Best:
    """The best value of a monitored curve: smallest, or largest for mode="max" (the default for
    accuracies).
    """

    def __init__(self, monitor: str, mode: str | None = None, min_delta: float = 0.0) -> None:
        self.monitor = monitor
        self.mode = one_of(
            "mode",
            ("max" if "accuracy" in monitor else "min") if mode is None else mode,
            ("min", "max"),
        )
        self.min_delta = real("min_delta", min_delta, at_least=0.0)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.value, self.epoch = math.nan, 0

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, and how it looks."""
        return {"best": (self.value, self.epoch), "how": (self.monitor, self.mode, self.min_delta)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was seen. Raises ValueError when it was looked at in another way."""
        check_settings(
            "monitor, mode, min_delta", state.get("how"), (self.monitor, self.mode, self.min_delta)
        )
        value, epoch = state["best"]
        self.value, self.epoch = float(value), int(epoch)

    def improved(self, record: Mapping[str, Any]) -> bool:
        """Whether this epoch is the best so far, by more than `min_delta`; nan never is. Raises
        ValueError.
        """
        if self.monitor not in record:
            hint = "; pass val_loader to fit" if self.monitor.startswith("val_") else ""
            raise ValueError(
                f"monitor must be one of {', '.join(map(repr, record))}, got {self.monitor!r}{hint}"
            )
        value = float(record[self.monitor])
        gain = value - self.value if self.mode == "max" else self.value - value
        better = gain > self.min_delta or (math.isnan(self.value) and not math.isnan(value))
        if better:
            self.value, self.epoch = value, int(record["epoch"])
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

    def on_fit_start(self, trainer: EqPropTrainer) -> None:
        """A new fit begins anew; a resumed one goes on counting, and stays stopped if it was."""
        if not trainer.resumed:
            self.best.forget()
            self.waited, self.parameters = 0, None
        if self.waited >= self.patience:
            raise StopTraining

    def on_epoch_end(self, trainer: EqPropTrainer, record: Record) -> None:
        """Count the epochs without progress."""
        if self.best.improved(record):
            self.waited = 0
            if self.restore_best:
                self.parameters = copy.deepcopy(trainer.model.state_dict())
            return
        self.waited += 1
        if self.waited >= self.patience:
            raise StopTraining

    def on_fit_end(self, trainer: EqPropTrainer) -> None:
        """Give the best parameters back."""
        if self.parameters is not None:
            trainer.model.load_state_dict(self.parameters)

    def check_model(self, model: nn.Module) -> None:
        """Raise ValueError when the best parameters are not those of this model."""
        if self.parameters is not None:
            check_parameters_fit(model, self.parameters, "the memory of EarlyStopping")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        own = {
            "waited": self.waited,
            "settings": (self.patience, self.restore_best),
            "parameters": self.parameters,
        }
        return own | self.best.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the count of the interrupted fit. Raises ValueError for that of another kind of
        stopping.
        """
        check_settings(
            "patience, restore_best", state.get("settings"), (self.patience, self.restore_best)
        )
        self.best.load_state_dict(state)
        self.waited, self.parameters = int(state["waited"]), state["parameters"]


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

    def on_fit_start(self, trainer: EqPropTrainer) -> None:
        """A new fit begins anew."""
        if not trainer.resumed:
            self.best.forget()

    def on_epoch_end(self, trainer: EqPropTrainer, record: Record) -> None:
        """Save, if it is time to."""
        if self.save == "last" or self.best.improved(record):
            trainer.save_checkpoint(self.path)

    def on_fit_end(self, trainer: EqPropTrainer) -> None:
        """Save what the fit left, if that is not what its last epoch left."""
        if self.save == "last" and left_behind(trainer) is not None:
            trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: nothing, where every epoch is saved."""
        return self.best.state_dict() if self.save == "best" else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the best value of the interrupted fit."""
        self.best.load_state_dict(state)

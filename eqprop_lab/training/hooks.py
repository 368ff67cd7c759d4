"""What a fit tells its callbacks: functions of the epoch's record, or objects with any of

    on_fit_start(trainer)                      before the first batch
    on_batch_end(trainer, batch, batches)      after an update; batches: of the epoch, or None
    on_epoch_end(trainer, record)              after an epoch and its validation
    on_fit_end(trainer)                        at the end, however it came

and, if they have something to keep across an interruption, state_dict() and load_state_dict(state)
(tensors and plain containers; one that keeps nothing returns {}). `trainer` is described by
`state.Trainer`. A fit that is not resumed (`trainer.state.resumed` in on_fit_start) must begin
without another fit's memory. `runs_last = True` puts a callback behind the others. Raising
StopTraining ends the fit cleanly.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from eqprop_lab.training.history import Record, StopTraining

HOOKS = ("on_fit_start", "on_batch_end", "on_epoch_end", "on_fit_end")


class Callbacks:
    """The callbacks of one fit, in the order in which they run.

    Raises TypeError, ValueError for what is none.
    """

    def __init__(self, callbacks: Sequence[Any] = ()) -> None:
        for number, callback in enumerate(callbacks):
            hooked = any(hasattr(callback, hook) for hook in HOOKS)
            if not (callable(callback) or hooked):
                raise TypeError(
                    f"callbacks must be functions or have one of {', '.join(HOOKS)}, "
                    f"got {callback!r}"
                )
            if hooked and isinstance(callback, type):
                raise TypeError(
                    f"callbacks must be objects, got the class {callback.__name__}; call it"
                )
            if hooked and any(callback is other for other in callbacks[:number]):
                raise ValueError(
                    f"callbacks must be named once: {type(callback).__name__} would count every "
                    "epoch twice"
                )
        self.members = sorted(callbacks, key=lambda member: getattr(member, "runs_last", False))
        self.watchers = [c for c in self.members if hasattr(c, "on_batch_end")]
        self._started: list[Any] = []

    def start(self, trainer: object) -> None:
        """Before the first batch. Those that have started are ended by `end`, whatever happens."""
        self._tell("on_fit_start", trainer)

    def epoch(self, trainer: object, record: Record) -> None:
        """After an epoch."""
        self._tell("on_epoch_end", trainer, record)

    def _tell(self, hook: str, *news: Any) -> None:
        """All of them hear it, also when one wants to stop: StopTraining is raised at the end."""
        stop: StopTraining | None = None
        for callback in self.members:
            try:
                if hasattr(callback, hook):
                    getattr(callback, hook)(*news)
                elif hook == "on_epoch_end" and callable(callback):
                    callback(news[-1])
            except StopTraining as request:
                stop = request
            if hook == "on_fit_start":
                self._started.append(callback)
        if stop is not None:
            raise stop

    def end(self, trainer: object) -> None:
        """After the last batch. All of them are ended, also when one fails."""
        with ExitStack() as ends:
            for callback in reversed(self._started):
                if hasattr(callback, "on_fit_end"):
                    ends.callback(callback.on_fit_end, trainer)

    def state(self) -> list[tuple[str, dict[str, Any]]]:
        """(class name, state) of every callback that keeps one."""
        return [(type(callback).__name__, state) for state, callback in self._keepers()]

    def _keepers(self) -> list[tuple[dict[str, Any], Any]]:
        able = [callback for callback in self.members if hasattr(callback, "state_dict")]
        return [(state, callback) for callback in able if (state := callback.state_dict())]

    def load(self, states: Sequence[tuple[str, dict[str, Any]]], model: nn.Module) -> None:
        """Hand out what `state` gave: the n-th callback of a class gets its n-th state.

        Raises ValueError when the callbacks that keep a state are not those, before any has got its
        own, or when one keeps parameters of another model (`check_model`, where it has that).
        """
        keepers = [callback for _, callback in self._keepers()]
        had = sorted(name for name, _ in states)
        has = sorted(type(callback).__name__ for callback in keepers)
        if had != has:
            raise ValueError(
                f"the callbacks with a memory were {', '.join(had) or 'none'}, "
                f"now they are {', '.join(has) or 'none'}"
            )
        left = list(states)
        for callback in keepers:
            mine = next(entry for entry in left if entry[0] == type(callback).__name__)
            left.remove(mine)
            callback.load_state_dict(mine[1])
            if hasattr(callback, "check_model"):
                callback.check_model(model)

"""What a training is at a moment, and where its next fit begins: anew, or where one was left.

    a step changes        model, optimizer, scheduler
    an epoch adds to      history
    the running fit       plan, loaders, sources (what they were seen to give), callbacks, resumed
    between two fits      rest (where the next one may go on), last (the parameters it goes on from)

Checkpoints store it; callbacks and loggers read it as `trainer.state`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eqprop_lab.seeding import rng_state, set_rng_state
from eqprop_lab.training import sources
from eqprop_lab.training.batches import length
from eqprop_lab.training.history import CheckpointError, History
from eqprop_lab.training.hooks import Callbacks
from eqprop_lab.training.optim import Scheduler, make_schedule
from eqprop_lab.training.soundness import check_schedule


@dataclass
class Rest:
    """Where a training stands between two fits: states of loaders, callbacks, global generators.

    from_file: a checkpoint has told it, so that the schedule is to be taken up too.
    """

    loaders: dict[str, Any]
    callbacks: list[tuple[str, dict[str, Any]]]
    rng: dict[str, Any]
    scheduler: Any = None
    from_file: bool = False


@dataclass(eq=False)
class TrainingState:
    """See the top of the file. settings: of the trainer, plain values that a resumed fit shares.

    config: the experiment it belongs to, if any. plan: {"first": epoch, "epochs": n, "batches": a
    whole epoch's or None, "inside": the epoch that is unfinished, or 0}.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: str | None
    settings: dict[str, Any]
    config: dict[str, Any] | None = None
    scheduler: Scheduler | None = None
    history: History = field(default_factory=History)
    plan: dict[str, Any] | None = None
    loaders: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    callbacks: Callbacks = field(default_factory=Callbacks)
    resumed: bool = False
    rest: Rest | None = None
    last: dict[str, Any] | None = None

    @property
    def cuda(self) -> bool:
        """Whether the model is on such a device, so that its generators count too."""
        return next(self.model.parameters()).device.type == "cuda"

    def left_behind(self) -> dict[str, Any] | None:
        """The parameters a fit ended with, where a callback has put others in their place."""
        here = self.model.state_dict()
        kept = {k: v for k, v in (self.last or {}).items() if isinstance(v, Tensor)}
        return None if all(torch.equal(v, here[k]) for k, v in kept.items()) else self.last

    def begin(
        self, loaders: dict[str, Any], callbacks: Callbacks, epochs: int, resume: bool
    ) -> range:
        """The epochs to be trained now; schedule, loaders and callbacks are ready for the first.

        Raises CheckpointError when the fit that goes on is another one, or was left inside an
        epoch.
        """
        goes_on = resume and self.plan is not None
        if goes_on:
            planned = self._go_on(loaders, callbacks, epochs)
        else:
            planned = self._begin_anew(loaders, epochs)
        self.resumed = goes_on
        self.rest = None
        self.loaders = loaders
        self.callbacks = callbacks
        return planned

    def _begin_anew(self, loaders: dict[str, Any], epochs: int) -> range:
        first = self.history.epochs + 1
        loader = loaders["train"]
        self.scheduler = make_schedule(self.schedule, self.optimizer, loader, epochs)
        if self.rest is not None and self.rest.from_file:
            for name, kept in self.rest.loaders.items():
                own = sources.generators(loaders.get(name))
                if isinstance(kept, dict) and kept.keys() == own.keys():
                    sources.set_states(loaders[name], kept)
        self.plan = {"first": first, "epochs": epochs, "batches": length(loader), "inside": 0}
        self.sources = {name: {"facts": sources.facts(loader)} for name, loader in loaders.items()}
        self.last = None
        return range(first, first + epochs)

    def _go_on(self, loaders: dict[str, Any], callbacks: Callbacks, epochs: int) -> range:
        plan, rest = self.plan, self.rest
        assert plan is not None
        done = self.history.epochs
        if plan["inside"]:
            epoch = done + 1 if plan["inside"] is True else plan["inside"]
            raise CheckpointError(
                f"cannot resume inside epoch {epoch}: a fit goes on from the end of an epoch; load "
                "a checkpoint of one, or go on without resume=True"
            )
        batches = length(loaders["train"])
        if plan["batches"] != batches:
            raise CheckpointError(
                f"cannot resume: an epoch had {plan['batches']} batches, train_loader has {batches}"
            )
        if self.schedule is not None and plan["epochs"] != epochs:
            raise CheckpointError(
                f"cannot resume: the schedule {self.schedule!r} was laid out for {plan['epochs']} "
                f"epochs, got {epochs}"
            )
        assert rest is not None  # none is left by a fit that ended inside an epoch
        try:
            self._check_sources(loaders, rest)
            callbacks.load(rest.callbacks, self.model)
            for name, loader in loaders.items():
                sources.set_states(loader, rest.loaders[name])
            if rest.from_file:
                self._take_up_schedule(loaders["train"], epochs, rest.scheduler)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"cannot resume: {error}") from error
        if self.last is not None:
            self.model.load_state_dict(self.last)
            self.last = None
        set_rng_state(rest.rng)
        plan["epochs"] = epochs
        return range(done + 1, plan["first"] + epochs)

    def _check_sources(self, loaders: dict[str, Any], rest: Rest) -> None:
        for name, loader in loaders.items():
            note = self.sources[name]
            former = self.loaders.get(name)
            if not rest.from_file and former is loader:
                # It goes on as it stands; reading it twice would only disturb a state that nobody
                # can put back.
                sources.check_facts(name, loader, note)
                continue
            if not rest.from_file:
                sources.data_of(note, former)
            sources.check_same(name, loader, note)

    def _take_up_schedule(self, loader: object, epochs: int, saved: Any) -> None:
        # Laying out a schedule sets the rates of its first batch; the optimiser has those of the
        # next one.
        rates = self.optimizer.state_dict()
        self.scheduler = make_schedule(self.schedule, self.optimizer, loader, epochs)
        if self.scheduler is None:
            return
        batches = length(loader)
        assert self.plan is not None and batches is not None
        steps = batches * (self.history.epochs + 1 - self.plan["first"])
        check_schedule(self.scheduler.state_dict(), saved, steps)
        self.scheduler.load_state_dict(saved)
        self.optimizer.load_state_dict(rates)

    def mark(self, inside: int) -> None:
        """Note the epoch that the fit is inside, 0 between two: only there it can go on exactly."""
        assert self.plan is not None
        self.plan["inside"] = inside

    def watch(self, name: str, loader: Any, batches: Any = None) -> Any:
        """The batches of a loader, of which the first in a fit are noted."""
        note = self.sources.get(name)
        batches = loader if batches is None else batches
        if note is None or "first" in note:
            return batches
        return sources.watched(loader, batches, note, self.cuda)

    def keep(self) -> None:
        """At the end of a fit, before callbacks have the last word: keep what it can go on from."""
        assert self.plan is not None
        self.last = self.rest = None
        if self.plan["inside"]:
            return
        self.last = copy.deepcopy(dict(self.model.state_dict()))
        loaders = {name: sources.states(loader) for name, loader in self.loaders.items()}
        self.rest = Rest(loaders, copy.deepcopy(self.callbacks.state()), rng_state(self.cuda))


class Trainer(Protocol):
    """What callbacks and loggers may ask of the trainer that runs them."""

    model: nn.Module
    history: History
    state: TrainingState

    def save_checkpoint(self, path: str | Path) -> Path:
        """Write a checkpoint, whole or not at all."""

"""Where a fit begins and ends: a new one, or an interrupted one that goes on."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop_lab.datasets import Batches
from eqprop_lab.training import checkpoint, sources
from eqprop_lab.training.batches import length
from eqprop_lab.training.callbacks import Callbacks
from eqprop_lab.training.checkpoint import CheckpointError
from eqprop_lab.training.optim import make_schedule
from eqprop_lab.training.seeds import rng_state, set_rng_state
from eqprop_lab.training.soundness import check_schedule
from eqprop_lab.validation import real

if TYPE_CHECKING:
    from eqprop_lab.training.trainer import EqPropTrainer


def begin(
    trainer: EqPropTrainer,
    loaders: dict[str, Any],
    callbacks: Callbacks,
    epochs: int,
    path: str | Path | None,
    resume: bool,
) -> range:
    """The epochs that are to be trained now; schedule, loaders and callbacks are made ready for the
    first of them.

    A plan is {"first": epoch, "epochs": n, "batches": a whole epoch's or None, "inside": the epoch
    that is unfinished, or 0}. Raises CheckpointError when the fit that goes on is another one, or
    was left inside an epoch; nothing has changed then.
    """
    file = path if resume and path is not None and Path(path).exists() else None
    # Without a file everything is looked at before anything is changed: no copy is needed.
    with nullcontext() if file is None else checkpoint.unchanged(trainer):
        if file is not None:
            checkpoint.load(trainer, file, same_settings=True)
        goes_on = resume and trainer.plan is not None
        planned = (
            _go_on(trainer, loaders, callbacks, epochs)
            if goes_on
            else _begin_anew(trainer, loaders, epochs)
        )
    trainer.resumed, trainer.pending, trainer.stood = goes_on, None, None
    trainer.loaders, trainer.callbacks = loaders, callbacks
    return planned


def _begin_anew(trainer: EqPropTrainer, loaders: dict[str, Any], epochs: int) -> range:
    done, loader = trainer.history.epochs, loaders["train"]
    trainer.scheduler = make_schedule(trainer.schedule, trainer.optimizer, loader, epochs)
    if trainer.pending is not None:
        for name, kept in trainer.pending["loaders"].items():
            if (
                isinstance(kept, dict)
                and kept.keys() == sources.generators(loaders.get(name)).keys()
            ):
                sources.set_states(loaders[name], kept)
    trainer.plan = {"first": done + 1, "epochs": epochs, "batches": length(loader), "inside": 0}
    trainer.sources = {name: {"facts": sources.facts(loader)} for name, loader in loaders.items()}
    trainer.last = None
    return range(done + 1, done + epochs + 1)


def _go_on(
    trainer: EqPropTrainer, loaders: dict[str, Any], callbacks: Callbacks, epochs: int
) -> range:
    plan, done, content = trainer.plan, trainer.history.epochs, trainer.pending or trainer.stood
    assert plan is not None
    if plan["inside"]:
        epoch = done + 1 if plan["inside"] is True else plan["inside"]
        raise CheckpointError(
            f"cannot resume inside epoch {epoch}: a fit goes on from the end of an epoch; load a checkpoint of one, "
            "or go on without resume=True"
        )
    batches = length(loaders["train"])
    if plan["batches"] != batches:
        raise CheckpointError(
            f"cannot resume: an epoch had {plan['batches']} batches, train_loader has {batches}"
        )
    if trainer.schedule is not None and plan["epochs"] != epochs:
        raise CheckpointError(
            f"cannot resume: the schedule {trainer.schedule!r} was laid out for {plan['epochs']} epochs, got {epochs}"
        )
    assert content is not None
    try:
        _check_sources(trainer, loaders)
        callbacks.load(content["callbacks"], trainer.model)
        for name, loader in loaders.items():
            sources.set_states(loader, content["loaders"][name])
        if trainer.pending is not None:
            _take_up_schedule(trainer, loaders["train"], epochs, content["scheduler"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot resume: {error}") from error
    if trainer.last is not None:
        trainer.model.load_state_dict(trainer.last)
        trainer.last = None
    set_rng_state(content["rng"])
    plan["epochs"] = epochs
    return range(done + 1, plan["first"] + epochs)


def _check_sources(trainer: EqPropTrainer, loaders: dict[str, Any]) -> None:
    for name, loader in loaders.items():
        note, former = trainer.sources[name], trainer.loaders.get(name)
        if trainer.pending is None and former is loader:
            # It goes on as it stands; reading it twice would only disturb a state that nobody can
            # put back.
            sources.check_facts(name, loader, note)
            continue
        if trainer.pending is None:
            note.setdefault("data", sources.digest(former))
        sources.check_same(name, loader, note)


def _take_up_schedule(trainer: EqPropTrainer, loader: object, epochs: int, state: Any) -> None:
    # Laying out a schedule sets the rates of its first batch; the optimiser has those of the next
    # one.
    rates = trainer.optimizer.state_dict()
    trainer.scheduler = make_schedule(trainer.schedule, trainer.optimizer, loader, epochs)
    if trainer.scheduler is None:
        return
    batches = length(loader)
    assert trainer.plan is not None and batches is not None
    steps = batches * (trainer.history.epochs + 1 - trainer.plan["first"])
    check_schedule(trainer.scheduler.state_dict(), state, steps)
    trainer.scheduler.load_state_dict(state)
    trainer.optimizer.load_state_dict(rates)


def mark(trainer: EqPropTrainer, inside: int) -> None:
    """Note the epoch that the trainer is inside, 0 between two; only from the end of one can a fit
    go on exactly.
    """
    assert trainer.plan is not None
    trainer.plan["inside"] = inside


def watch(trainer: EqPropTrainer, name: str, loader: Any, batches: Any = None) -> Any:
    """The batches of a loader, of which the first in a fit are noted."""
    note, batches = trainer.sources.get(name), loader if batches is None else batches
    if note is None or "first" in note:
        return batches
    return sources.watched(loader, batches, note, trainer.device.type == "cuda")


def keep(trainer: EqPropTrainer) -> None:
    """At the end of a fit, before callbacks have the last word: keep what it goes on from, if it
    can go on.
    """
    assert trainer.plan is not None
    trainer.last = trainer.stood = None
    if not trainer.plan["inside"]:
        trainer.last = copy.deepcopy(dict(trainer.model.state_dict()))
        trainer.stood = {
            "loaders": {name: sources.states(loader) for name, loader in trainer.loaders.items()},
            "callbacks": copy.deepcopy(trainer.callbacks.state()),
            "rng": rng_state(trainer.device.type == "cuda"),
        }


def hold_out(loader: object, val_loader: object, part: float) -> tuple[Batches, Batches]:
    """Two loaders from one: the part that trains, shuffled and augmented as before, and the part
    that validates, as is.

    The samples held out are drawn with a fixed seed, so that every fit holds out the same ones.
    Raises TypeError, ValueError.
    """
    part = real("validation_split", part, above=0.0, below=1.0)
    if val_loader is not None:
        raise ValueError(
            "validation_split and val_loader are two ways to validate: give one of them"
        )
    if not isinstance(loader, Batches):
        raise TypeError(
            f"validation_split needs a train_loader made by Split.batches, got {type(loader).__name__}; "
            "give a val_loader instead"
        )
    kept, held = loader.split.split(part)
    rest = Batches(kept, loader.size, loader.shuffle, seed=0, augment=loader.augment)
    rest.generator = loader.generator
    return rest, held.batches(loader.size)

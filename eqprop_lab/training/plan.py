"""Where a fit begins and ends: a new one, or an interrupted one that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqprop_lab.datasets import Batches
from eqprop_lab.training import checkpoint
from eqprop_lab.training.batches import length
from eqprop_lab.training.checkpoint import CheckpointError
from eqprop_lab.training.optim import make_schedule
from eqprop_lab.validation import real

if TYPE_CHECKING:
    from eqprop_lab.training.trainer import EqPropTrainer


def begin(trainer: EqPropTrainer, epochs: int, path: str | Path | None, resume: bool) -> range:
    """The epochs that are to be trained now; schedule, loaders and callbacks are made ready for the first of them.

    A plan is {"first": epoch, "epochs": n, "batches": a whole epoch's or None, "inside": an epoch is unfinished}.
    Raises CheckpointError when the fit that goes on is another one, or was left inside an epoch.
    """
    loader = trainer.loaders["train"]
    batches = length(loader)
    if resume and path is not None and Path(path).exists():
        checkpoint.load(trainer, path, same_settings=True)
    done = trainer.history.epochs
    trainer.resumed = resume and trainer.plan is not None
    content, trainer.pending = trainer.pending, None
    if content is not None:
        _set_loaders(trainer, content["loaders"], strict=trainer.resumed)
    if not trainer.resumed:
        trainer.plan = {"first": done + 1, "epochs": epochs, "batches": batches, "inside": False}
        trainer.scheduler = make_schedule(trainer.schedule, trainer.optimizer, loader, epochs)
        return range(done + 1, done + epochs + 1)

    plan = trainer.plan
    assert plan is not None
    if plan["inside"]:
        raise CheckpointError(
            f"cannot resume inside epoch {done + 1}: a fit goes on from the end of an epoch; load a checkpoint of one, "
            "or go on without resume=True"
        )
    if plan["batches"] != batches:
        raise CheckpointError(f"cannot resume: an epoch had {plan['batches']} batches, train_loader has {batches}")
    if trainer.schedule is not None and plan["epochs"] != epochs:
        raise CheckpointError(
            f"cannot resume: the schedule {trainer.schedule!r} was laid out for {plan['epochs']} epochs, got {epochs}"
        )
    plan["epochs"] = epochs
    if content is not None:
        trainer.callbacks.load(content["callbacks"])
        # Laying out a schedule sets the rates of its first batch; the optimiser has those of the next one.
        rates = trainer.optimizer.state_dict()
        trainer.scheduler = make_schedule(trainer.schedule, trainer.optimizer, loader, epochs)
        if trainer.scheduler is not None:
            trainer.scheduler.load_state_dict(content["scheduler"])
            trainer.optimizer.load_state_dict(rates)
    return range(done + 1, plan["first"] + epochs)


def _set_loaders(trainer: EqPropTrainer, states: dict[str, Any], strict: bool) -> None:
    for name, loader in trainer.loaders.items():
        generator, state = getattr(loader, "generator", None), states.get(name)
        if generator is not None and state is not None:
            generator.set_state(state)
        elif strict and (generator is None) != (state is None):
            had, has = ("a" if given is not None else "no" for given in (state, generator))
            raise CheckpointError(f"cannot resume: the {name} loader had {had} generator of its own, now it has {has}")


def mark(trainer: EqPropTrainer, inside: bool) -> None:
    """Note whether the trainer is inside an epoch; only from the end of one can a fit go on exactly."""
    assert trainer.plan is not None
    trainer.plan["inside"] = inside


def hold_out(loader: object, val_loader: object, part: float) -> tuple[Batches, Batches]:
    """Two loaders from one: the part that trains, shuffled and augmented as before, and the part that validates, as is.

    The samples held out are drawn with a fixed seed, so that every fit holds out the same ones. Raises TypeError,
    ValueError.
    """
    part = real("validation_split", part, above=0.0, below=1.0)
    if val_loader is not None:
        raise ValueError("validation_split and val_loader are two ways to validate: give one of them")
    if not isinstance(loader, Batches):
        raise TypeError(
            f"validation_split needs a train_loader made by Split.batches, got {type(loader).__name__}; "
            "give a val_loader instead"
        )
    kept, held = loader.split.split(part)
    rest = Batches(kept, loader.size, loader.shuffle, seed=0, augment=loader.augment)
    rest.generator = loader.generator
    return rest, held.batches(loader.size)

"""Batches of a split: each sample once, anew each time, augmented or not, and exact when a fit goes
on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eqprop_lab import Augmentation, EqPropTrainer, LoopedMLP, StopTraining, build_dataset
from eqprop_lab.datasets import Split

SMALL = Split(build_dataset("digits").train.x[:96], build_dataset("digits").train.y[:96])


def test_batches_cover_the_split_once_and_reshuffle() -> None:
    train = build_dataset("digits").train
    loader = train.batches(100, shuffle=True, seed=1)
    first, second = list(loader), list(loader)
    assert len(loader) == len(first) == 13
    assert torch.equal(torch.cat([y for _, y in first]).sort().values, train.y.sort().values)
    assert not torch.equal(first[0][0], second[0][0])
    again = list(train.batches(100, shuffle=True, seed=1))
    assert torch.equal(first[0][0], again[0][0])
    assert torch.equal(torch.cat([x for x, _ in train.batches(64)]), train.x)


def test_batches_refuse_a_bad_size() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        build_dataset("digits").train.batches(0)


def test_augmented_batches_are_new_each_time_and_leave_the_split_alone() -> None:
    before = SMALL.x.clone()
    loader = SMALL.batches(40, augment=Augmentation(shift=1))
    first, second = (torch.cat([x for x, _ in loader]) for _ in range(2))
    assert first.shape == SMALL.x.shape and not torch.equal(first, second)
    assert torch.equal(SMALL.x, before) and torch.equal(torch.cat([y for _, y in loader]), SMALL.y)
    again = torch.cat([x for x, _ in SMALL.batches(40, augment=Augmentation(shift=1))])
    other = torch.cat([x for x, _ in SMALL.batches(40, augment=Augmentation(shift=1), seed=1)])
    assert torch.equal(again, first) and not torch.equal(other, first)
    with pytest.raises(ValueError, match="shift must be at most 7 for images of 8x8 pixels, got 8"):
        SMALL.batches(40, augment=Augmentation(shift=8))
    with pytest.raises(ValueError, match="augmentation needs images"):
        build_dataset("xor").train.batches(40, augment=Augmentation(shift=1))


def fit(path: Path, epochs: int, stop: int | None = None, resume: bool = False) -> EqPropTrainer:
    def leave(record: dict[str, float]) -> None:
        if record["epoch"] == stop:
            raise StopTraining

    trainer = EqPropTrainer(
        LoopedMLP(64, 12, 10, seed=0), schedule="one_cycle", lr=0.01, free_steps=6, nudged_steps=4
    )
    loader = SMALL.to("cpu").batches(
        32, shuffle=True, seed=7, augment=Augmentation(shift=1, crop=1, flip=True, cutout=2)
    )
    trainer.fit(loader, epochs, callbacks=[leave], checkpoint_path=path, resume=resume)
    return trainer


def test_two_and_two_epochs_with_augmentation_are_four(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole.pt", 4)
    fit(tmp_path / "parts.pt", 4, stop=2)
    resumed = fit(tmp_path / "parts.pt", 4, resume=True)
    assert resumed.history["epoch"] == [1, 2, 3, 4]
    assert resumed.history["train_loss"] == whole.history["train_loss"]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_what_is_held_out_of_augmented_batches_is_not_augmented() -> None:
    trainer = EqPropTrainer(LoopedMLP(64, 12, 10, seed=0), free_steps=6, nudged_steps=4)
    augment = Augmentation(shift=1)
    trainer.fit(SMALL.batches(32, shuffle=True, augment=augment), 1, validation_split=0.25)
    assert (
        trainer.state.loaders["train"].augment == augment
        and trainer.state.loaders["val"].augment is None
    )


def test_a_split_moves_whole() -> None:
    moved = SMALL.to("meta")
    assert moved.x.device.type == moved.y.device.type == "meta" and moved.x.shape == SMALL.x.shape
    assert len(moved) == 96 and SMALL.x.device.type == "cpu"

"""Callbacks: their order, their errors, early stopping and saving the best; validation held out of
the training set.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eqprop_lab import EqPropTrainer, LoopedMLP, StopTraining, build_dataset
from eqprop_lab.datasets import Split
from eqprop_lab.training import BatchError, Budget, EarlyStopping, ModelCheckpoint, callbacks
from eqprop_lab.training.checkpoint import read

DATA = build_dataset("digits")
SMALL = Split(DATA.train.x[:100], DATA.train.y[:100])


def trainer() -> EqPropTrainer:
    return EqPropTrainer(LoopedMLP(64, 8, 10, seed=0), lr=0.01)


class Scripted:
    """Overwrites a curve with given values, and keeps the parameters of every epoch."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values
        self.weights: list[torch.Tensor] = []

    def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
        record[self.name] = self.values[len(self.weights)]
        self.weights.append(trainer.model.W_out.weight.detach().clone())


def test_early_stopping_waits_and_restores_the_best() -> None:
    script, t = Scripted("val_loss", [3.0, 1.0, 0.95, 1.2, 0.7, 0.1]), trainer()
    history = t.fit(
        SMALL.batches(50), 6, callbacks=[script, EarlyStopping(patience=2, min_delta=0.1)]
    )
    assert history["epoch"] == [1, 2, 3, 4]
    assert torch.equal(t.model.W_out.weight, script.weights[1]) and not torch.equal(
        script.weights[1], script.weights[3]
    )


def test_early_stopping_can_leave_the_last() -> None:
    script, t = Scripted("val_accuracy", [0.5, 0.9, float("nan"), 0.8, 0.8]), trainer()
    stop = EarlyStopping("val_accuracy", patience=3, restore_best=False)
    assert stop.best.how[1] == "max"
    assert t.fit(SMALL.batches(50), 5, callbacks=[script, stop])["epoch"] == [1, 2, 3, 4, 5]
    assert stop.best.value == 0.9 and stop.best.epoch == 2
    assert torch.equal(t.model.W_out.weight, script.weights[-1])
    assert t.fit(SMALL.batches(50), 1, callbacks=[stop.__class__("train_loss")])["epoch"][-1] == 6


def test_what_is_not_reported_cannot_be_monitored() -> None:
    with pytest.raises(
        ValueError, match="monitor must be one of 'epoch'.*got 'val_loss'; pass val_loader to fit"
    ):
        trainer().fit(SMALL.batches(50), 1, callbacks=[EarlyStopping()])
    with pytest.raises(ValueError, match="mode must be one of 'min', 'max'"):
        EarlyStopping(mode="smallest")
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="save must be one of 'last', 'best'"):
        ModelCheckpoint("c.pt", save="all")


def test_model_checkpoint_keeps_the_best(tmp_path: Path) -> None:
    best, last = (
        ModelCheckpoint(tmp_path / "best.pt", save="best"),
        ModelCheckpoint(tmp_path / "last.pt"),
    )
    # Named before the script, it still runs after it.
    trainer().fit(
        SMALL.batches(50), 3, callbacks=[last, best, Scripted("val_loss", [2.0, 1.0, 1.5])]
    )
    assert [read(tmp_path / f"{name}.pt")["history"]["epoch"][-1] for name in ("best", "last")] == [
        2,
        3,
    ]


def test_every_callback_sees_the_last_epoch_and_the_end() -> None:
    seen: list[str] = []

    class Stopper:
        def on_fit_start(self, trainer: EqPropTrainer) -> None:
            seen.append("start")

        def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
            raise StopTraining

        def on_fit_end(self, trainer: EqPropTrainer) -> None:
            seen.append("end")
            raise OSError("the disk is full")

    class Witness:
        def on_fit_end(self, trainer: EqPropTrainer) -> None:
            seen.append("end too")

    t = trainer()
    with pytest.raises(OSError, match="disk is full"):
        t.fit(
            SMALL.batches(50),
            3,
            callbacks=[Stopper(), lambda record: seen.append("epoch"), Witness()],
        )
    assert seen == ["start", "epoch", "end", "end too"] and t.history["epoch"] == [1]


def test_callbacks_end_when_a_batch_fails() -> None:
    ended: list[bool] = []

    class Witness:
        def on_fit_end(self, trainer: EqPropTrainer) -> None:
            ended.append(True)

    with pytest.raises(BatchError):
        trainer().fit(
            [(torch.full((2, 64), float("nan")), torch.zeros(2).long())], 1, callbacks=[Witness()]
        )
    assert ended == [True]


def test_validation_split_holds_out_the_same_samples_every_time() -> None:
    t, loader = trainer(), SMALL.batches(30, shuffle=True, seed=3)
    history = t.fit(loader, 2, validation_split=0.2)
    assert len(history["val_loss"]) == 2
    held, rest = t.state.loaders["val"].split, t.state.loaders["train"].split
    assert (len(held), len(rest)) == (20, 80)
    t.fit(loader, 1, validation_split=0.2)
    assert torch.equal(t.state.loaders["val"].split.x, held.x)
    together = torch.cat([held.x, rest.x]).flatten(1)
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, SMALL.x.flatten(1).tolist()))


def test_validation_split_says_what_it_needs() -> None:
    with pytest.raises(TypeError, match="made by Split.batches or get_lm_dataset, got list"):
        trainer().fit(list(SMALL.batches(50)), 1, validation_split=0.2)
    with pytest.raises(ValueError, match="give one of them"):
        trainer().fit(SMALL.batches(50), 1, SMALL.batches(50), validation_split=0.2)
    for fraction in (0.0, 1.0, 0.001):
        with pytest.raises(ValueError, match="validation_split|fraction"):
            trainer().fit(SMALL.batches(50), 1, validation_split=fraction)


def test_a_curve_that_starts_late_stays_aligned() -> None:
    t = trainer()
    t.fit(SMALL.batches(50), 2)
    history = t.fit(SMALL.batches(50), 1, SMALL.batches(50))
    assert [str(v) for v in history["val_loss"][:2]] == ["nan", "nan"] and history["val_loss"][
        2
    ] > 0
    assert [record["epoch"] for record in history.records()] == [1, 2, 3]
    assert t.fit(SMALL.batches(50), 1)["val_loss"][3] != t.history["val_loss"][3]


def test_the_budget_predicts_whether_the_next_epoch_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    anyone: Any = None

    def run(budget: Budget, seconds: list[float]) -> int:
        """Epochs of a fit whose epochs take so long."""
        budget.on_fit_start(anyone)
        for number, length in enumerate(seconds, start=1):
            now[0] += length
            try:
                budget.on_epoch_end(anyone, {})
            except StopTraining:
                return number
        return len(seconds)

    # after the third 15 s are left, and 16.5 might be needed
    budget = Budget(minutes=1)
    assert run(budget, [15] * 9) == 3 and budget.up and budget.mean == 15
    # 20 s are left: too few for another long one
    assert run(Budget(minutes=1), [10, 20, 10, 10]) == 3
    assert run(Budget(minutes=1), [100, 1]) == 1  # one is always granted
    # what is done between two fits counts, and the second has the epochs of the first to go by
    twice = Budget(minutes=1)
    assert run(twice, [20]) == 1 and twice.fits() and not twice.up
    now[0] += 19
    assert not twice.fits() and run(twice, [1, 1]) == 1
    for minutes, error in ((0, ValueError), (math.nan, ValueError), ("9", TypeError)):
        with pytest.raises(error, match="minutes"):
            Budget(minutes)  # type: ignore[arg-type]


def test_a_budget_ends_a_fit_that_goes_on_later(tmp_path: Path) -> None:
    def fit(t: EqPropTrainer, *budget: Budget) -> None:
        loader = SMALL.batches(50, shuffle=True, seed=1)
        path = tmp_path / ("parts.pt" if budget else "whole.pt")
        t.fit(loader, 3, callbacks=budget, checkpoint_path=path, resume=True)

    whole = trainer()
    fit(whole)
    for done in (1, 2, 3):
        part = trainer()
        fit(part, Budget(1e-9))
        assert part.history.epochs == done == read(tmp_path / "parts.pt")["history"]["epoch"][-1]
    assert part.history["train_loss"] == whole.history["train_loss"]
    for mine, its in zip(part.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, its)

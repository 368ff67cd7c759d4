"""Temperatures epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eqprop_lab import EqPropTrainer, StopTraining
from eqprop_lab.datasets import Split
from eqprop_lab.experiments.runs import fingerprint
from eqprop_lab.lut.cooling import Cooling
from eqprop_lab.training.history import CheckpointError
from tests.lut.pieces import X, model

Y = torch.arange(len(X)) % 3


def trainer() -> EqPropTrainer:
    return EqPropTrainer(model(), "autograd", lr=0.03, progress=False)


def batches() -> Any:
    return Split(X, Y).batches(20, shuffle=True, seed=1)


def test_temperatures_fall_by_one_factor_and_stay() -> None:
    cooling = Cooling(2.0, 0.5, epochs=3)
    assert [cooling.temperature(e) for e in (1, 2, 3, 9)] == pytest.approx([2.0, 1.0, 0.5, 0.5])
    assert Cooling(2.0, 0.5, epochs=1).temperature(1) == 2.0


def test_each_epoch_is_trained_at_its_temperature() -> None:
    cooled, seen = trainer(), []

    class Watch:
        def on_batch_end(self, trainer: Any, batch: int, of: int) -> None:
            seen.append(trainer.model.runtime.temperature)

    cooled.fit(batches(), 3, callbacks=[Cooling(2.0, 0.5, epochs=3), Watch()])
    assert seen == pytest.approx([2.0, 2.0, 1.0, 1.0, 0.5, 0.5])
    plain = trainer()
    plain.fit(batches(), 3)
    assert fingerprint(plain.model) != fingerprint(cooled.model)


def test_a_resumed_fit_cools_on(tmp_path: Path) -> None:
    class Stop:
        def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
            if record["epoch"] == 2 and not trainer.state.resumed:
                raise StopTraining

    whole, path = trainer(), tmp_path / "one.pt"
    whole.fit(batches(), 4, callbacks=[Cooling(2.0, 0.5, 4)])
    trainer().fit(batches(), 4, callbacks=[Cooling(2.0, 0.5, 4), Stop()], checkpoint_path=path)
    again = trainer()
    again.fit(
        batches(), 4, callbacks=[Cooling(2.0, 0.5, 4), Stop()], checkpoint_path=path, resume=True
    )
    assert again.history.epochs == 4 and fingerprint(again.model) == fingerprint(whole.model)
    with pytest.raises(ValueError, match="a schedule had"):
        Cooling(2.0, 0.4, 4).load_state_dict(Cooling(2.0, 0.5, 4).state_dict())


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.7}, {"flip_probability": 0.1}, {"regularizers": {"entropy": 0.1}}],
    ids=str,
)
def test_a_resumed_fit_has_the_same_runtime_parameters(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "one.pt"
    trainer().fit(batches(), 2, callbacks=[Cooling(2.0, 0.5, 4)], checkpoint_path=path)
    other = trainer()
    other.model.apply_runtime_overrides(change)
    with pytest.raises(CheckpointError, match=f"runtime.{next(iter(change))} is .* there"):
        other.fit(batches(), 4, callbacks=[Cooling(2.0, 0.5, 4)], checkpoint_path=path, resume=True)
    assert other.history.epochs == 0


def test_what_cannot_be_cooled() -> None:
    other = EqPropTrainer(nn.Linear(12, 3), "autograd", progress=False)
    with pytest.raises(TypeError, match="model must be a BaseLUTModel"):
        other.fit(batches(), 1, callbacks=[Cooling(1.0, 0.5, 2)])
    for name, value in (("start", 0.0), ("end", -1.0), ("epochs", 0)):
        with pytest.raises(ValueError, match=name):
            Cooling(**({"start": 1.0, "end": 0.5, "epochs": 3} | {name: value}))

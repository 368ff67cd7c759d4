"""Every logger gets the settings, every epoch once, and the end."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eqprop_lab import BackpropMLP, EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.datasets import Split
from eqprop_lab.training.loggers import (
    CSVLogger,
    JSONLogger,
    Logger,
    TensorBoardLogger,
    WandbLogger,
    numbers,
)

DATA = build_dataset("digits")
SMALL = Split(DATA.train.x[:60], DATA.train.y[:60])


def trainer() -> EqPropTrainer:
    return EqPropTrainer(LoopedMLP(64, 8, 10, seed=0), lr=0.01)


class Recorder(Logger):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def start(self, config: Any) -> None:
        self.calls.append(dict(config))

    def log(self, record: dict[str, Any], step: int) -> None:
        self.calls.append((step, record["train_loss"]))

    def finish(self) -> None:
        self.calls.append("finish")


def test_the_protocol_is_three_methods() -> None:
    recorder, t = Recorder(), trainer()
    t.state.config = {"experiment": {"name": "x"}}
    t.fit(SMALL.batches(30), 2, callbacks=[recorder])
    settings, one, two, end = recorder.calls
    assert (
        settings["gradient"] == "centered" and settings["lr"] == 0.01 and settings["beta"] == 0.03
    )
    assert settings["experiment"] == t.state.config and settings["model"] == "LoopedMLP"
    assert [one, two, end] == [
        (1, t.history["train_loss"][0]),
        (2, t.history["train_loss"][1]),
        "finish",
    ]
    t.fit(SMALL.batches(30), 1, callbacks=[recorder])
    assert [call[0] for call in recorder.calls[5:-1]] == [1, 2, 3]


def test_csv_holds_every_epoch_once(tmp_path: Path) -> None:
    t, path = trainer(), tmp_path / "deep" / "log.csv"
    t.fit(SMALL.batches(30), 2, callbacks=[CSVLogger(path)])
    t.fit(SMALL.batches(30), 1, SMALL.batches(30), callbacks=[CSVLogger(path)])
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["train_loss"]) for row in rows] == t.history["train_loss"]
    assert float(rows[2]["val_loss"]) == t.history["val_loss"][2]


def test_json_lines_are_strict_json(tmp_path: Path) -> None:
    t, path = EqPropTrainer(BackpropMLP(64, 8, 10), gradient="autograd"), tmp_path / "log.jsonl"
    t.fit(SMALL.batches(30), 2, callbacks=[JSONLogger(path)])
    first, *rest = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert first["config"]["optimizer"] == "Adam"
    assert [r["train_loss"] for r in rest] == t.history["train_loss"] and rest[0]["norm"] is None


def test_numbers_are_what_a_plot_can_show() -> None:
    record = {
        "epoch": 1,
        "train_loss": 0.5,
        "norm": float("nan"),
        "estimator": "centered",
        "count": 3,
        "ok": True,
    }
    assert numbers(record) == {"train_loss": 0.5, "count": 3.0}


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ImportError,
        match="TensorBoardLogger needs the package tensorboard: pip install tensorboard",
    ):
        TensorBoardLogger("runs")
    with pytest.raises(ImportError, match="WandbLogger needs the package wandb: pip install wandb"):
        WandbLogger()


def test_wandb_is_offline_unless_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    run = SimpleNamespace(
        log=lambda row, step: asked.append((step, row)), finish=lambda: asked.append("finish")
    )

    def init(**options: Any) -> SimpleNamespace:
        asked.append(options)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    t = trainer()
    t.fit(
        SMALL.batches(30), 1, callbacks=[WandbLogger("digits", folder=tmp_path / "w", name="first")]
    )
    options, (step, row), end = asked
    assert (
        options["mode"] == "offline"
        and options["project"] == "digits"
        and options["name"] == "first"
    )
    assert (
        options["dir"] == str(tmp_path / "w")
        and (tmp_path / "w").is_dir()
        and options["config"]["lr"] == 0.01
    )
    assert (
        step == 1
        and row["train_loss"] == t.history["train_loss"][0]
        and "estimator" not in row
        and end == "finish"
    )


def test_tensorboard_reads_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tracking` is not installed")
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    t = trainer()
    t.fit(SMALL.batches(30), 2, callbacks=[TensorBoardLogger(tmp_path)])
    t.fit(SMALL.batches(30), 1, callbacks=[TensorBoardLogger(tmp_path)])
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    points = events.Scalars("train_loss")
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == pytest.approx(t.history["train_loss"])
    assert "config/text_summary" in events.Tags()["tensors"]


@pytest.mark.filterwarnings("default")
def test_wandb_writes_offline_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra `tracking` is not installed")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WANDB_SILENT", "true")
    trainer().fit(SMALL.batches(30), 2, callbacks=[WandbLogger(folder=tmp_path)])
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert file.stat().st_size > 0 and b"train_loss" in file.read_bytes()

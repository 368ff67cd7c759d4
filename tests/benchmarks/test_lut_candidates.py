"""The script that tries recipes: trained within a time, collected, the best one published."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab.lut import build_model
from tests.benchmarks import lut_candidates
from tests.benchmarks.lut_candidates import (
    CANDIDATES,
    DWN,
    WIDTHS,
    Candidate,
    OutOfTime,
    best,
    collect,
    loaded,
    publish_best,
    run_all,
    trained,
    work,
)
from tests.benchmarks.published import read
from tests.benchmarks.test_lut_networks import few

SMALL = {"input_size": 64, "layer_widths": [30, 20], "encoder_config": {"name": "thermometer"}}
HOW = {"epochs": 4, "batch_size": 20, "shift": 1}


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> dict[str, Candidate]:
    """A good recipe and a bad one for the same name, at toy size."""
    found = {
        "good": Candidate("mnist_small", SMALL, {**HOW, "learning_rate": 0.1}),
        "bad": Candidate("mnist_small", {**SMALL, **DWN}, {**HOW, "learning_rate": 1e-6}),
    }
    monkeypatch.setattr(lut_candidates, "CANDIDATES", found)
    return found


def test_every_candidate_can_be_built() -> None:
    for candidate in CANDIDATES.values():
        config = candidate.config()
        assert config.layer_type == "fixed" and config.layer_widths == WIDTHS[candidate.name]
        assert config.metadata["recipe"]["layer_type"] == "learnable"
        assert sum(config.layer_widths) <= 4000


def test_the_best_candidate_is_published_as_it_was_trained(
    two: dict[str, Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, end = few(), time.time() + 1000
    for name in two:
        work(name, data, "cpu", end, tmp_path)
    rows = collect(tmp_path, tmp_path)
    assert {row["candidate"] for row in rows} == set(two)
    row = best(rows, "mnist_small")
    assert row is not None and row["candidate"] == "good" and best(rows, "mnist_large") is None
    assert row["epochs"] == 4 == len(row["val_accuracy"])
    model, _ = loaded(row, tmp_path)
    monkeypatch.setattr(lut_candidates, "RESULTS", tmp_path / "results")
    path = tmp_path / "models" / "feedforward" / "mnist_small.yaml"
    monkeypatch.setattr(
        lut_candidates, "get_pretrained_model_info", lambda name: {"config_path": path}
    )
    path.parent.mkdir(parents=True)
    assert publish_best(rows, "mnist_large", data, tmp_path) is None
    publish_best(rows, "mnist_small", data, tmp_path)
    shipped = build_model("mnist_small", pretrained_dir=tmp_path / "models")
    with torch.no_grad():
        assert torch.equal(shipped(data.test.x), model(data.test.x))
        hard = float((model(data.test.x).argmax(1) == data.test.y).double().mean())
    result = read(tmp_path / "results" / "mnist_small_lut.json")
    assert result is not None and result["lut"][0]["test_accuracy"] == pytest.approx(hard)
    assert result["recipe"]["layer_type"] == "learnable" and result["device"].startswith("CPU")
    wrong = [{**row, "val_accuracy": [0.123]}]
    with pytest.raises(RuntimeError, match="its row has 0.123"):
        publish_best(wrong, "mnist_small", data, tmp_path)


def test_epochs_are_cut_to_the_time(
    two: dict[str, Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = few()
    monkeypatch.setattr(lut_candidates, "epoch_seconds", lambda *_: 100.0)
    config, _, row = trained(two["good"], data, "cpu", time.time() + 400 + lut_candidates.SPARE)
    assert row["epochs"] == 3 == config.metadata["recipe"]["epochs"]
    with pytest.raises(OutOfTime, match="2 epochs of 100.0 s would fit"):
        trained(two["good"], data, "cpu", time.time() + 300 + lut_candidates.SPARE)


def test_a_device_that_fails_is_replaced(
    two: dict[str, Candidate], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work("good", few(), "no device", time.time() + 1000, tmp_path)
    assert "no device failed" in capsys.readouterr().out
    assert json.loads((tmp_path / "good.json").read_text())["device"].startswith("CPU")


def test_processes_are_collected_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    row = {"candidate": "a", "val_accuracy": [0.9], "train_accuracy": [1.0], "epochs": 1}
    row |= {"seconds": 1.0, "device": "CPU"}

    class Job:
        returncode = 0

        def __init__(self, arguments: Any) -> None:
            name, folder = (arguments[arguments.index(f) + 1] for f in ("--work", "--output"))
            self.lasts = name == "b"
            if not self.lasts:
                (Path(folder) / f"{name}.pth").write_bytes(b"123")
                (Path(folder) / f"{name}.json").write_text(json.dumps({**row, "candidate": name}))

        def poll(self) -> int | None:
            return None if self.lasts else 0

        def kill(self) -> None:
            print("killed")

        def wait(self) -> None: ...

    monkeypatch.setattr(lut_candidates, "_started", Job)
    monkeypatch.setattr(lut_candidates, "SPARE", 0.1)
    rows = run_all(["a", "b", "c"], [], time.time() + 2, 2, output)
    assert [one["candidate"] for one in rows] == ["a", "c"]
    assert "b did not end in time\nkilled" in capsys.readouterr().out
    stored = torch.load(output / lut_candidates.WEIGHTS, weights_only=True)
    assert bytes(stored["c"].tolist()) == b"123"

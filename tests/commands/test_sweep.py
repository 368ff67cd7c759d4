"""The command `sweep`: a small grid trains, is not made twice, and bad files are refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("optuna")
from eqprop_lab.__main__ import main  # noqa: E402
from eqprop_lab.commands.sweep import placed  # noqa: E402

CONFIG = """
model: {name: BackpropMLP, params: {hidden_dim: 8}}
training: {epochs: 2, batch_size: 50}
data: {dataset: two_moons, samples: 100}
experiment: {name: small}
sweep:
  space:
    training.learning_rate: [1e-4, 0.05]
    model.params.hidden_dim: [4, 16]
"""


def run(tmp_path: Path, text: str) -> int:
    (tmp_path / "sweep.yaml").write_text(text)
    return main(["sweep", str(tmp_path / "sweep.yaml"), "--runs", str(tmp_path / "runs")])


def test_a_grid_of_trainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, CONFIG) == 0
    first = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "runs/small.csv").read_text().splitlines()))
    assert [r["state"] for r in rows] == ["COMPLETE"] * 4 and "4 COMPLETE" in first
    values = {(r["training.learning_rate"], r["model.params.hidden_dim"]): r["value"] for r in rows}
    assert len(values) == 4 and float(values["0.05", "16"]) > float(values["0.0001", "4"])
    assert run(tmp_path, CONFIG) == 0 and capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFIG.replace("sweep:", "swep:"), "must have a section 'sweep'"),
        (CONFIG.replace("training.learning", "training.lerning"), "did you mean 'learning_rate'"),
        (CONFIG.replace("training.learning", "trainig.learning"), "did you mean 'training'"),
        (CONFIG.replace("  space:", "  metrc: x\n  space:"), "did you mean 'metric'"),
        (CONFIG.replace("  space:", "  metric: val_acuracy\n  space:"), "'val_accuracy'"),
        (CONFIG.replace("[4, 16]", "{low: 4, high: 16}"), "must be a list where trials=None"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, text) == 2
    assert message in capsys.readouterr().err


def test_dotted_names_lead_into_the_sections() -> None:
    base = {"model": {"params": {"a": 1}}, "training": None}
    found = placed(base, {"model.params.a": 2, "training.epochs": 3})
    assert found == {"model": {"params": {"a": 2}}, "training": {"epochs": 3}}
    assert base == {"model": {"params": {"a": 1}}, "training": None}
    with pytest.raises(ValueError, match="'params' is no section"):
        placed({"model": {"params": 3}}, {"model.params.a": 1})

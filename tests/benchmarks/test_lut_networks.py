"""The script behind the shipped LUT networks, at toy size; and what is stored keeps what the
project promises.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import build_dataset
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.splits import Split
from eqprop_lab.lut import ModelConfig, build_model, get_pretrained_model_info
from tests.benchmarks import lut_networks
from tests.benchmarks.lut_networks import NAMES, main, run, ship
from tests.benchmarks.published import RESULTS, read

RECIPE = {
    "epochs": 2, "batch_size": 30, "optimizer": "adam", "learning_rate": 0.1,
    "schedule": "one_cycle", "shift": 1,
}  # fmt: skip


def few() -> DataSet:
    """Digits, a few of each split."""
    whole = build_dataset("digits")
    train, validation, test = (
        Split(p.x[:60], p.y[:60]) for p in (whole.train, whole.validation, whole.test)
    )
    return DataSet("digits", train, validation, test, whole.classes)


def toy(folder: Path) -> dict[str, Any]:
    """A small configuration in a folder of its own."""
    config = ModelConfig(
        "feedforward", "random", "probabilistic", {"name": "thermometer", "num_bits": 2},
        4, [40, 20], 10, pretrained_name="toy", input_size=64, metadata={"recipe": RECIPE},
    )  # fmt: skip
    config.save_to_pretrained("toy", folder)
    return get_pretrained_model_info("toy", folder)


def test_what_is_shipped_is_what_was_stored(tmp_path: Path) -> None:
    info, data, path = toy(tmp_path / "models"), few(), tmp_path / "toy_lut.json"
    result = run(info["config"], data, [0, 1], path, tmp_path / "weights")
    assert [row["seed"] for row in result["lut"]] == [0, 1] and result["dataset"] == "digits"
    assert result["recipe"]["node_type"] == "probabilistic"
    assert run(info["config"], data, [1, 0], path, tmp_path / "weights") == result
    file = ship(info, result, tmp_path / "weights", 1)
    assert file == tmp_path / "models" / "feedforward" / "toy.pth"
    model = build_model("toy", pretrained_dir=tmp_path / "models")
    row = result["lut"][1]
    with torch.no_grad():
        hard = float((model(data.test.x).argmax(1) == data.test.y).double().mean())
    assert hard == pytest.approx(row["test_accuracy"])
    config = model.get_config()
    assert config.seed == 1 and config.pretrained
    assert config.metadata["test_accuracy"] == row["test_accuracy"]
    assert row["gap"] == pytest.approx(100 * (row["test_soft_accuracy"] - hard), abs=0.01)
    with pytest.raises(RuntimeError, match="seed 7 is not trained"):
        ship(info, result, tmp_path / "weights", 7)


def test_the_command_trains_and_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = toy(tmp_path / "models")
    monkeypatch.setattr(lut_networks, "get_pretrained_model_info", lambda name: info)
    monkeypatch.setattr(lut_networks, "build_dataset", lambda name: few())
    info["dataset"] = "digits"
    folders = ["--output", str(tmp_path), "--weights", str(tmp_path / "weights")]
    main(["digits_small", "--seeds", "0", *folders])
    main(["digits_small", "--ship", "0", *folders])
    assert "wrote digits_small_lut.json" in capsys.readouterr().out
    assert (tmp_path / "models" / "feedforward" / "toy.pth").is_file()


STORED = [name for name in NAMES if (RESULTS / f"{name}_lut.json").is_file()]


@pytest.mark.parametrize("name", STORED)
def test_shipped_weights_are_those_of_a_stored_run(name: str) -> None:
    info, result = get_pretrained_model_info(name), read(RESULTS / f"{name}_lut.json")
    assert result is not None and info["has_weights"]
    (row,) = [row for row in result["lut"] if row["seed"] == info["config"].seed]
    told = info["metadata"]
    assert told["test_accuracy"] == row["test_accuracy"]
    assert told["validation_accuracy"] == row["val_accuracy"][-1]
    assert told["recipe"].items() <= result["recipe"].items()
    assert info["weights_path"].stat().st_size < 1.2e6


def test_digits_keep_their_promise() -> None:
    result = read(RESULTS / "digits_small_lut.json")
    assert result is not None and len(result["lut"]) == 5
    rows = result["lut"]
    assert statistics.mean(row["test_accuracy"] for row in rows) >= 0.96
    assert abs(statistics.mean(row["gap"] for row in rows)) <= 1
    assert max(row["cpu_seconds"] for row in rows) < 30


def test_mnist_keeps_its_promise() -> None:
    """At least 97 % of the hard network, with at most 4,000 tables."""
    for name in ("mnist_small", "mnist_large"):
        result = read(RESULTS / f"{name}_lut.json")
        assert result is not None and sum(result["sizes"][1:-1]) <= 4000
        assert all(row["test_accuracy"] >= 0.97 and row["gap"] < 1 for row in result["lut"])


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_tells_what_is_stored(name: str) -> None:
    result = read(RESULTS / f"{name}_lut.json")
    assert result is not None
    rows, tables = result["lut"], sum(result["sizes"][1:-1])
    hard, gap = (statistics.mean(row[key] for row in rows) for key in ("test_accuracy", "gap"))
    told = f"| `{name}` | {result['dataset']} | {tables:,} | {100 * hard:.2f} % | {gap:+.2f} | "
    readme = (RESULTS.parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"{told}{len(rows)} | {result['device']} |" in readme


def test_the_shipped_digits_are_as_good_as_they_say() -> None:
    data, model = build_dataset("digits"), build_model("digits_small")
    with torch.no_grad():
        found = float((model(data.test.x).argmax(1) == data.test.y).double().mean())
    assert found == pytest.approx(
        get_pretrained_model_info("digits_small")["metadata"]["test_accuracy"]
    )

"""Rows of the CIFAR-10 job become one stored result: from one toy training, and copies of it."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eqprop_lab.notebook.metrics import stored
from tests.benchmarks import cifar_playground, store_cifar
from tests.benchmarks.cifar_playground import config_of
from tests.benchmarks.published import Row


def jpeg(value: int) -> bytes:
    """A 32x32 picture of one grey."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (value, value, value)).save(file, "JPEG")
    return file.getvalue()


def small_batches(*arguments: Any) -> dict[str, Any]:
    """The job's experiment with batches of which a few images make several."""
    content = config_of(*arguments)
    content["training"]["batch_size"] = 8
    return content


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    """What the job writes: one epoch of the backprop network on 30 grey images."""
    folder = tmp_path_factory.mktemp("rows")
    for part, count in (("train", 30), ("test", 10)):
        files = [jpeg(7 * i) for i in range(count)]
        ends = np.cumsum([0, *map(len, files)])
        labels = np.arange(count) % 10
        arrays = {"jpeg": np.frombuffer(b"".join(files), np.uint8), "offsets": ends}
        classes = np.array([f"class {i}" for i in range(10)])
        np.savez(folder / f"{part}.npz", **arrays, labels=labels, classes=classes)
    words = ["backprop", "--archives", str(folder), "--output", str(folder), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar_playground, "config_of", small_batches)
        cifar_playground.main([*words, "--epochs", "1"])
    (path,) = folder.glob("backprop_*.json")
    made: Row = json.loads(path.read_text())
    return made


def like(row: Row, network: str, rate: float, seed: int, val: float, test: float) -> Row:
    """The row of another training."""
    other = copy.deepcopy(row) | {"network": network, "test_accuracy": test, "val_accuracy": [val]}
    other["config"]["training"]["learning_rate"] = rate
    other["config"]["experiment"]["seed"] = seed
    return other


def written(folder: Path, rows: list[Row]) -> Path:
    for number, row in enumerate(rows):
        (folder / f"{number}.json").write_text(json.dumps(row))
    return folder


def test_the_rate_is_the_best_on_validation_and_the_twin_is_compared_seed_by_seed(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        like(row, "eqprop", 0.004, 0, 0.70, 0.69),
        like(row, "eqprop", 0.004, 1, 0.10, 0.67),
        # the better one on the test images is not taken
        like(row, "eqprop", 0.008, 0, 0.65, 0.80),
        like(row, "backprop", 0.004, 0, 0.72, 0.70),
        like(row, "backprop", 0.004, 1, 0.71, 0.71),
        like(row, "resnet8", 0.1, 3, 0.8, 0.79) | {"device": "NVIDIA H200"},
    ]
    rows[0]["norm"] = [None, 0.8, 0.7]
    (tmp_path / "rows").mkdir()
    path = tmp_path / f"{store_cifar.NAME}.json"
    folder = written(tmp_path / "rows", rows)
    store_cifar.main(["--rows", str(folder), "--output", str(path)])
    assert "eqprop          68.00 % of 2 seeds, +2.50 points behind" in capsys.readouterr().out
    monkeypatch.setenv("EQPROP_RESULTS_DIR", str(tmp_path))
    made = stored(store_cifar.NAME)
    kept = {(run["network"], run["learning_rate"], run["seed"]) for run in made["runs"]}
    assert kept == {("eqprop", 0.004, 0), ("eqprop", 0.004, 1), ("backprop", 0.004, 0),
                    ("backprop", 0.004, 1), ("resnet8", 0.1, 3)}  # fmt: skip
    assert [(t["learning_rate"], t["val_accuracy"]) for t in made["tuning"]] == [
        (0.004, 0.70), (0.008, 0.65)
    ]  # fmt: skip
    assert made["runs"][0]["largest_norm"] == 0.8 and made["seeds"] == [0, 1, 3]
    assert made["device"].endswith(", NVIDIA H200") and made["twins"] == {"eqprop": "backprop"}
    assert made["samples"] == {"train": 24, "validation": 6, "test": 10}
    assert made["recipes"]["backprop"]["params"]["hidden_channels"] == 32
    assert store_cifar.gaps(made, "eqprop") == pytest.approx([1.0, 4.0])
    assert all(paper["paper"] for paper in made["published"])


def test_a_twin_that_was_trained_as_long_is_compared_apart(row: Row) -> None:
    def long(made: Row, epochs: int) -> Row:
        made["epoch"] = list(range(epochs))
        return made | {"val_accuracy": made["val_accuracy"] * epochs}

    rows = [
        long(like(row, "eqprop", 0.004, 0, 0.6, 0.61), 3),
        long(like(row, "eqprop", 0.004, 1, 0.6, 0.62), 2),
        long(like(row, "backprop", 0.004, 0, 0.6, 0.63), 3),
        long(like(row, "backprop", 0.004, 0, 0.7, 0.70), 9),
        long(like(row, "backprop", 0.004, 1, 0.7, 0.71), 9),
        # shorter, and as long as nothing
        long(like(row, "backprop", 0.004, 1, 0.6, 0.64), 3),
    ]
    made = store_cifar.result(rows)
    assert [run["epochs"] for run in made["runs"]] == [3, 2, 9, 9]
    assert [(run["seed"], run["epochs"]) for run in made["equal_epochs"]] == [(0, 3)]
    assert store_cifar.gaps(made, "eqprop") == pytest.approx([9.0, 9.0])
    assert store_cifar.gaps(made, "eqprop", "equal_epochs") == pytest.approx([2.0])


def tuned(row: Row, rate: float, val: float, optimizer: str = "adamw") -> Row:
    """A row that has not looked at the test images."""
    other = like(row, "eqprop", rate, 0, val, 0.0)
    other["config"]["training"]["optimizer"] = optimizer
    return {key: value for key, value in other.items() if not key.startswith("test_")}


def test_settings_are_chosen_among_rows_of_tuning_where_there_are_any(row: Row) -> None:
    tuning = [tuned(row, 0.01, 0.5), tuned(row, 0.01, 0.6, "sgd"), tuned(row, 0.02, 0.4, "sgd")]
    wanted = like(row, "eqprop", 0.01, 3, 0.7, 0.6)
    other = copy.deepcopy(wanted) | {"val_accuracy": [0.9]}  # best on validation, not in tuning
    wanted["config"]["training"]["optimizer"] = "sgd"
    made = store_cifar.result([*tuning, other, wanted])
    assert [(r["optimizer"], r["seed"], r["test_accuracy"]) for r in made["runs"]] == [
        ("sgd", 3, 0.6)
    ]
    assert [t["val_accuracy"] for t in made["tuning"]] == [0.5, 0.6, 0.4]
    assert made["recipes"]["eqprop"]["optimizer"] == "sgd"
    with pytest.raises(ValueError, match=r"eqprop must have a run at \('sgd', 0.01\)"):
        store_cifar.result([*tuning, other])


def test_rows_that_do_not_belong_together_are_refused(row: Row, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has none"):
        store_cifar.rows_in(tmp_path)
    rows = [like(row, "eqprop", 0.1, 0, 0.5, 0.5), like(row, "eqprop", 0.2, 1, 0.5, 0.5)]
    with pytest.raises(
        ValueError, match=r"rates of eqprop must share a seed, .*0.1\), \('adamw', 0.2"
    ):
        store_cifar.result(rows)
    fewer = like(row, "eqprop", 0.1, 1, 0.5, 0.5) | {"samples": {"train": 3}}
    with pytest.raises(ValueError, match="must be of the same images, they have samples"):
        store_cifar.rows_in(written(tmp_path, [rows[0], fewer]))
    cut = rows[0] | {"epoch": [1, 2], "val_accuracy": [0.1, 0.2]}
    with pytest.raises(ValueError, match=r"1.json has 2 epochs of the 1 of its recipe"):
        store_cifar.rows_in(written(tmp_path, [rows[0], cut]))
    with pytest.raises(ValueError, match="1.json: network must be among eqprop, .*'vgg'"):
        store_cifar.rows_in(written(tmp_path, [rows[0], rows[0] | {"network": "vgg"}]))
    lacking = {key: value for key, value in row.items() if key != "seconds"}
    with pytest.raises(ValueError, match="1.json is no row .* no 'seconds'"):
        store_cifar.rows_in(written(tmp_path, [rows[0], lacking]))

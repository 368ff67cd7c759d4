"""The job of the CNNs at toy size, and what is stored of it keeps what the project promises."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d

from eqprop_lab import build_dataset
from eqprop_lab.datasets import DataSet, Split
from eqprop_lab.datasets.torchvision_sets import import_torchvision
from eqprop_lab.notebook.metrics import stored
from tests.benchmarks import vision_digits as job
from tests.benchmarks.published import RESULTS
from tests.datasets.test_datasets import write_mnist

# mean test accuracy, at least, and mean CPU seconds of a training, at most
PROMISED = {
    ("digits", "ResNet-8"): (0.975, 8),
    ("digits", "DenseNet3(22, k 8)"): (0.975, 15),
    ("digits", "DenseNet3(40, k 12)"): (0.975, 30),
    (job.POOLED, "ResNet-8"): (0.98, 15),
}


def few() -> DataSet:
    """Digits, a few of each split."""
    whole = build_dataset("digits")
    train, held, test = (
        Split(part.x[:48], part.y[:48]) for part in (whole.train, whole.validation, whole.test)
    )
    return DataSet("digits", train, held, test, whole.classes)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small network, two short epochs, two rates."""
    training = job.SGD | {"batch_size": 16, "epochs": 2}
    small = {"name": "SmallCNN", "params": {"channels": [4]}}
    monkeypatch.setattr(job, "JOBS", {"digits": {"small": job.Job(small, training, (0.1, 1e-5))}})


@pytest.mark.usefixtures("toy")
def test_the_best_rate_on_validation_trains_and_nothing_is_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "digits_vision.json"
    job.work(path, few(), ["small"], [0])
    job.work(path, few(), ["small"], [0, 1])
    monkeypatch.setenv("EQPROP_RESULTS_DIR", str(tmp_path))
    made = stored("digits_vision")
    tried = {row["learning_rate"]: row["val_accuracy"][-1] for row in made["tuning"]}
    assert tried.keys() == {0.1, 1e-5} and all("test_accuracy" not in r for r in made["tuning"])
    assert {row["seed"] for row in made["tuning"]} == {job.TUNING_SEED}
    best = max(sorted(tried), key=lambda rate: tried[rate])
    runs = [(row["seed"], row["learning_rate"]) for row in made["runs"]]
    assert runs == [(0, best), (1, best)] and made["seeds"] == [0, 1]
    assert all(0 <= row["test_accuracy"] <= 1 for row in made["runs"])
    kept = json.loads(path.read_text())
    assert len(kept["runs"][0]["val_accuracy"]) == 2 and kept["samples"]["train"] == 48


def test_a_rate_that_was_not_tried_is_not_chosen() -> None:
    tuning = [{"network": "small", "learning_rate": 0.1, "val_accuracy": [0.9]}]
    assert job.chosen(tuning, "small", (0.1,)) == 0.1
    with pytest.raises(ValueError, match=r"small must be tried at the rates .* 0.2 is missing"):
        job.chosen(tuning, "small", (0.1, 0.2))


def test_pooled_images_are_means_of_four_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_torchvision()
    write_mnist(tmp_path)
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    whole = build_dataset({"name": "mnist", "validation": 6})
    monkeypatch.setattr(job, "build_dataset", lambda config: whole)
    data = job.pooled()
    assert data.input_shape == (1, 14, 14) and torch.equal(data.test.y, whole.test.y)
    torch.testing.assert_close(data.test.x, avg_pool2d(whole.test.x, 2))


def test_an_unknown_network_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        job.main(["--networks", "VGG"])
    assert "--networks must be among ResNet-8" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "network"), sorted(PROMISED))
def test_what_is_stored_keeps_its_promise(data: str, network: str) -> None:
    path = RESULTS / f"{data}_vision.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is not stored")
    result = json.loads(path.read_text())
    runs = [run for run in result["runs"] if run["network"] == network]
    least, most = PROMISED[data, network]
    assert len({run["seed"] for run in runs}) >= (5 if data == "digits" else 3)
    assert statistics.fmean(run["test_accuracy"] for run in runs) >= least
    assert statistics.fmean(run["cpu_seconds"] for run in runs) <= most
    tried = [row["learning_rate"] for row in result["tuning"] if row["network"] == network]
    rates = job.JOBS[data][network].rates
    assert sorted(tried) == sorted(rates if len(rates) > 1 else ())
    chosen = job.chosen(result["tuning"], network, rates)
    assert {run["learning_rate"] for run in runs} == {chosen}

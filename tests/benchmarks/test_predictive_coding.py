"""The job that trains predictive coding beside its twin, at toy size and without MNIST's images."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.benchmarks import mnist_learning_rules, predictive_coding as job
from tests.benchmarks.predictive_coding import NETWORKS, TASKS, TUNING_SEED, Job
from tests.datasets.test_datasets import write_mnist


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the published layout and few images."""
    write_mnist(tmp_path, 400, 20)
    monkeypatch.setattr(mnist_learning_rules, "HELD", 10)
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    return tmp_path


def test_both_networks_of_a_task_have_one_recipe_and_as_many_parameters() -> None:
    for task in TASKS:
        configs = [job.config_of(Job(task, network, 1e-3, 0, 1)) for network in NETWORKS]
        one, two = (c.as_dict() for c in configs)
        assert one["data"] == two["data"] and configs[0].params == configs[1].params
        keys = one["training"].keys() - job.PREDICTIVE
        assert all(one["training"][key] == two["training"][key] for key in keys)


def test_a_training_leaves_a_row_and_is_not_made_again(images: Path) -> None:
    jobs = job.tunings("mnist_dense", small=True)
    late = jobs[0]
    job.train(late, images, time.time() - 1, small=True)
    assert not (images / late.file).exists()
    for one in jobs:
        job.train(one, images, time.time() + 60, small=True)
    row = json.loads((images / late.file).read_text())
    assert row["seed"] == TUNING_SEED and "test_accuracy" not in row
    before = (images / late.file).stat().st_mtime_ns
    job.train(late, images, time.time() + 60, small=True)
    assert (images / late.file).stat().st_mtime_ns == before
    wanted = job.trainings("mnist_dense", images, [0, 1], small=True)
    assert [(one.network, one.seed) for one in wanted] == [
        (network, seed) for seed in (0, 1) for network in NETWORKS
    ]


def test_validation_chooses_the_rate_and_a_missing_one_is_waited_for(tmp_path: Path) -> None:
    tried = job.tunings("digits", small=False)
    for one in tried[:-1]:
        accuracy = 0.9 if one.rate == TASKS["digits"].rates[1] else 0.8
        row = {"rate": one.rate, "val_accuracy": [0.1, accuracy], "val_loss": [1.0, 1.0]}
        (tmp_path / one.file).write_text(json.dumps(row))
    found = job.trainings("digits", tmp_path, None, small=False)
    assert {one.network for one in found} == {tried[0].network}
    assert {one.rate for one in found} == {TASKS["digits"].rates[1]}
    assert [one.seed for one in found] == [0, 1, 2, 3, 4]


def test_the_rows_become_one_result(images: Path) -> None:
    rows = images / "rows"
    rows.mkdir()
    for network in NETWORKS:
        for seed in (TUNING_SEED, 1, 0):
            one = Job("mnist_dense", network, 1e-3, seed, 1)
            job.train(one, rows, time.time() + 60, small=True)
    job.main(["store", "--rows", str(rows), "--output", str(images)])
    found = json.loads((images / "predictive_coding.json").read_text())["mnist_dense"]
    assert found["device"] == "CPU, 1 thread"
    assert [row["network"] for row in found["tuning"]] == sorted(NETWORKS)
    for network in NETWORKS:
        assert [row["seed"] for row in found[network]] == [0, 1]
        assert all(0 <= row["test_accuracy"] <= 1 for row in found[network])
    assert found["recipe"]["hidden_dims"] == [256, 256]


def test_a_wrong_command_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["cifar"], ["mnist_dense", "cifar"], ["nothing"]):
        with pytest.raises(SystemExit):
            job.main(arguments)
        assert "cifar with one of predictive, backprop" in capsys.readouterr().err

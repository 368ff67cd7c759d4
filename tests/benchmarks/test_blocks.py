"""The job that trains chains beside their twins, at toy size and without MNIST's images."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from eqprop_lab.utils import count_parameters
from tests.benchmarks import blocks as job, mnist_learning_rules
from tests.benchmarks.blocks import NETWORKS, TASKS, TUNING_SEED, Job
from tests.datasets.test_datasets import write_mnist


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the published layout and few images."""
    write_mnist(tmp_path, 700, 20)
    monkeypatch.setattr(mnist_learning_rules, "HELD", 10)
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("task", list(TASKS))
def test_the_networks_of_a_depth_have_one_recipe_and_as_many_parameters(task: str) -> None:
    configs = [job.config_of(Job(task, kind, 3, 1e-3, 0, 1)) for kind in NETWORKS]
    first = configs[0].as_dict()
    for config in configs:
        other = config.as_dict()
        assert other["data"] == first["data"]
        for key in ("optimizer", "schedule", "weight_decay", "batch_size", "epochs"):
            assert other["training"][key] == first["training"][key]
    sizes = {count_parameters(job.built(kind, 3, TASKS[task])) for kind in NETWORKS}
    assert len(sizes) == 1


def test_validation_chooses_the_rate_and_a_training_is_not_made_again(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "NETWORKS", {"plain": (1,), "chain": (2,)})
    late = job.tunings("mnist", small=True)[0]
    job.train(late, images, time.time() - 1, small=True)
    assert not (images / late.file).exists()
    assert job.trainings("mnist", images, small=True) == []
    for one in job.tunings("mnist", small=True):
        job.train(one, images, time.time() + 60, small=True)
    row = json.loads((images / late.file).read_text())
    assert row["seed"] == TUNING_SEED and "test_accuracy" not in row
    row["val_accuracy"] = [1.1]
    (images / late.file).write_text(json.dumps(row))
    job.train(late, images, time.time() + 60, small=True)
    assert json.loads((images / late.file).read_text())["val_accuracy"] == [1.1]
    wanted = job.trainings("mnist", images, small=True)
    assert [one.seed for one in wanted] == [0, 0, 1, 1, 2, 2]
    assert {one.rate for one in wanted if one.kind == "plain"} == {late.rate}


def test_rows_and_costs_become_one_result(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "NETWORKS", {"plain": (1,), "chain": (1,), "deep": (1,)})
    rows = images / "rows"
    rows.mkdir()
    for kind in job.NETWORKS:
        for seed in (TUNING_SEED, 1, 0):
            job.train(Job("mnist", kind, 1, 1e-3, seed, 1), rows, time.time() + 60, small=True)
    job.main(["costs", "--output", str(rows), "--small"])
    job.main(["store", "--rows", str(rows), "--output", str(images)])
    found = json.loads((images / "blocks.json").read_text())
    assert found["device"] == "CPU, 1 thread" and found["seeds"] == [0, 1]
    assert len(found["mnist"]["tuning"]) == 3 and "digits" not in found
    for kind in job.NETWORKS:
        assert [row["seed"] for row in found["mnist"][kind]] == [0, 1]
        assert all(0 <= row["test_accuracy"] <= 1 for row in found["mnist"][kind])
    assert all(row["step_ms"] > 0 < row["states_mb"] for row in found["costs"]["rows"])


def test_a_wrong_command_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nothing"], ["digits", "store"], ["store", "costs"]):
        with pytest.raises(SystemExit):
            job.main(arguments)
        assert "store, costs, or digits, mnist" in capsys.readouterr().err

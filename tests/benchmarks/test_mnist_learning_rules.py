"""The job that compares the learning rules on MNIST, at toy size and without its images."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from eqprop_lab import list_algorithms
from eqprop_lab.experiments.contenders import size
from tests.benchmarks import mnist_learning_rules as job, store_mnist_rules as store
from tests.benchmarks.mnist_learning_rules import RATES, SECONDS, TUNING_SEED, Job, Size
from tests.datasets.test_datasets import write_mnist

TOY = Size(epochs=2, tuning_epochs=1, limit=60)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the published layout and few images."""
    write_mnist(tmp_path, 80, 20)
    monkeypatch.setattr(job, "HELD", 10)
    return tmp_path


def tuned(rows: Path, rule: str, best: float) -> None:
    """Tuning rows of a rule of which one rate is the best."""
    for rate in RATES:
        accuracy = 0.9 if rate == best else 0.8
        row = {"model": rule, "learning_rate": rate, "seed": TUNING_SEED, "epoch": 1}
        row["validation"] = {"accuracy": accuracy, "loss": 1.0}
        with (rows / f"rows-{rule}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def test_every_rule_takes_part_with_as_many_parameters() -> None:
    assert sorted(SECONDS.keys() - job.VARIANTS) == list_algorithms()
    wanted = size(job.network("backprop", 1e-3, 0))
    for rule in SECONDS:
        assert size(job.network(rule, 1e-3, 0)) == pytest.approx(wanted, rel=0.01)


def test_a_rule_trains_at_the_rate_that_validation_chose(tmp_path: Path) -> None:
    tuned(tmp_path, "eqprop", RATES[1])
    jobs = job.next_jobs(tmp_path, TOY)
    assert {j.rule for j in jobs if j.tuning} == SECONDS.keys() - {"eqprop"}
    trainings = [j for j in jobs if not j.tuning]
    assert {(j.rule, j.rate) for j in trainings} == {("eqprop", RATES[1])}
    assert [j.seed for j in trainings] == list(job.SEEDS)


def test_a_line_that_was_cut_is_no_row(tmp_path: Path) -> None:
    tuned(tmp_path, "eqprop", RATES[0])
    with (tmp_path / "rows-eqprop.jsonl").open("a") as file:
        file.write('{"model": "backprop", "learning_rate": 0.001, "se')
    assert {key[0] for key in job.stored(tmp_path)} == {"eqprop"}


def test_a_training_leaves_a_row_an_epoch(images: Path) -> None:
    toy = Job("backprop", 1e-3, 0, epochs=2, limit=60)
    assert job.train(toy, images, images, time.time() + 60)
    rows = job.stored(images)
    assert [key[3] for key in rows] == [1, 2]
    last = rows["backprop", 1e-3, 0, 2]
    assert last["validation"]["loss"] > 0
    assert 0 <= last["test"]["accuracy"] <= 1
    assert last["alignment"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert toy not in job.next_jobs(images, TOY)


def test_a_training_that_is_late_leaves_no_row(images: Path) -> None:
    late = Job("backprop", 1e-3, 0, epochs=2, limit=60)
    assert not job.train(late, images, images, time.time() - 1)
    assert not job.stored(images)


def a_training(rows: Path, rule: str, rate: float, seed: int, epochs: int) -> None:
    """Rows of a training whose scores say which epoch they are of."""
    for epoch in range(1, epochs + 1):
        row = {"model": rule, "learning_rate": rate, "seed": seed, "epoch": epoch}
        row |= {"cpu_seconds": 2.0 * epoch, "alignment": [0.2, 0.4]}
        row |= {part: {"accuracy": epoch / 10, "loss": 1.0} for part in ("validation", "test")}
        with (rows / f"rows-{rule}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def test_a_result_has_the_epoch_that_all_share_and_only_chosen_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "TUNING_EPOCHS", 1)
    (tmp_path / "head.json").write_text(json.dumps(job.head()))
    for rule in SECONDS:
        tuned(tmp_path, rule, RATES[1])
        a_training(tmp_path, rule, RATES[1], 0, 4)
        a_training(tmp_path, rule, RATES[1], 1, 2)
        a_training(tmp_path, rule, RATES[0], 2, 4)
    made = store.result(tmp_path, 3)
    rows = [row for row in made["rows"] if not row["tuning"]]
    assert [row["model"] for row in rows] == list(SECONDS)
    for row in rows:
        assert (row["seed"], row["epochs"]["accuracy"], row["epochs"]["cpu_seconds"]) == (0, 0.3, 6)
        assert row["epochs"]["alignment"] == pytest.approx(0.3)
        assert [point["test_accuracy"] for point in row["curve"]] == [0.1, 0.2, 0.3, 0.4]
    assert len(store.table(made["rows"]).splitlines()) == 1 + 4 * len(SECONDS)
    with pytest.raises(ValueError, match="trainings of 5 epochs of sparse_eq"):
        store.result(tmp_path, 5)


def test_the_stored_result_keeps_what_it_says() -> None:
    stored = json.loads((store.RESULTS / f"{store.NAME}.json").read_text(encoding="utf-8"))
    rows = [row for row in stored["rows"] if not row["tuning"]]
    scores = {
        rule: [r["epochs"]["accuracy"] for r in rows if r["model"] == rule] for rule in SECONDS
    }
    assert all(len(found) >= 3 - (rule == "sparse_eq") for rule, found in scores.items())
    means = {rule: sum(found) / len(found) for rule, found in scores.items()}
    assert min(means.values()) >= 0.9
    assert means["backprop"] >= 0.97 and means["feedback_alignment"] >= 0.96
    assert means["eqprop_bounded"] > means["eqprop"]
    for row in stored["published"]:
        assert 100 * means[row["rule"]] < row["accuracy"]  # explained beside it
    assert stored["deviations"]

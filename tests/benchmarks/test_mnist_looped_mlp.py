"""The script behind the stored MNIST result, on data of a few seconds; and what is stored is what it writes."""

from __future__ import annotations

import json

from eqprop_lab.datasets import build_dataset
from tests.benchmarks.mnist_looped_mlp import RECIPE, RESULT, run


def test_a_short_run_has_every_field_of_the_stored_result() -> None:
    short = run(build_dataset({"name": "two_moons", "samples": 200}), RECIPE | {"epochs": 2, "hidden_dim": 8}, [3, 4])
    stored = json.loads(RESULT.read_text(encoding="utf-8"))
    assert short.keys() == stored.keys()
    assert short["seeds"] == [row["seed"] for row in short["eqprop"]] == [row["seed"] for row in short["backprop"]]
    for name in ("eqprop", "backprop"):
        assert short[name][0].keys() == stored[name][0].keys()
        assert all(len(row["val_accuracy"]) == 2 for row in short[name])


def test_the_stored_result_keeps_what_the_project_promises() -> None:
    stored = json.loads(RESULT.read_text(encoding="utf-8"))
    assert stored["recipe"] == RECIPE
    assert stored["parameters"] == 269_322
    assert len(stored["seeds"]) >= 3
    for row in stored["eqprop"]:
        assert row["test_accuracy"] >= 0.975
        assert row["cpu_seconds"] <= 180
        assert max(row["norm"]) < 0.9

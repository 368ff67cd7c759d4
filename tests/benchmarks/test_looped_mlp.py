"""The script behind the stored results, on data of a few seconds; and what is stored is what it
writes.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.datasets import build_dataset
from tests.benchmarks.looped_mlp import NETWORKS, RECIPES, RESULTS, TWINS, run
from tests.benchmarks.published import read


def stored(name: str) -> dict[str, Any]:
    result = read(RESULTS / f"{name}_looped_mlp.json")
    assert result is not None
    return result


@pytest.mark.parametrize("name", RECIPES)
def test_a_short_run_has_every_field_of_the_stored_result(name: str, tmp_path: Path) -> None:
    small = RECIPES[name] | {"epochs": 2, "hidden_dim": 8}
    data = build_dataset({"name": "two_moons", "samples": 200})
    short = run(data, small, [3, 4], tmp_path / "short.json", twin=TWINS[name])
    assert read(tmp_path / "short.json") == short
    assert (
        short.keys() == stored(name).keys()
        and short["networks"] == stored(name)["networks"] == NETWORKS
    )
    assert (
        short["seeds"]
        == [row["seed"] for row in short["eqprop"]]
        == [row["seed"] for row in short["backprop"]]
    )
    for kind in ("eqprop", "backprop"):
        # The residual of the evaluations has been measured only since these results were made.
        now, then = short[kind][0].keys(), stored(name)[kind][0].keys()
        assert then <= now and now - then <= {"val_residual"}
        assert all(len(row["val_accuracy"]) == 2 for row in short[kind])


@pytest.mark.parametrize(
    ("name", "parameters", "seeds"), [("mnist", 269_322, 3), ("digits", 26_122, 5)]
)
def test_the_stored_results_keep_what_the_project_promises(
    name: str, parameters: int, seeds: int
) -> None:
    result = stored(name)
    assert result["recipe"] == RECIPES[name] and result["parameters"] == parameters
    assert len(result["seeds"]) >= seeds
    assert all(TWINS[name].items() <= row.items() for row in result["backprop"])
    for row in result["eqprop"]:
        assert row["cpu_seconds"] <= 180
        assert max(row["norm"]) < 0.9
    eqprop, backprop = (
        statistics.mean(row["test_accuracy"] for row in result[k]) for k in ("eqprop", "backprop")
    )
    assert eqprop >= (0.975 if name == "mnist" else 0.96)
    assert backprop - eqprop <= 0.01

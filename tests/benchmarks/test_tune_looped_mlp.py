"""The search behind the recipes: equal for both networks, without a test image, and what the
recipes say it found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab.datasets import build_dataset
from tests.benchmarks import tune_looped_mlp as tune
from tests.benchmarks.looped_mlp import NETWORKS, RECIPES, TWINS
from tests.benchmarks.published import RESULTS, read

SEARCHED = ["digits", "mnist"]


def stored(name: str) -> dict[str, Any]:
    result = read(RESULTS / f"{name}_looped_mlp_search.json")
    assert result is not None
    return result


@pytest.mark.parametrize("name", SEARCHED)
def test_the_stored_search_is_complete_and_equal_for_both(name: str) -> None:
    result = stored(name)
    assert list(tune.missing(result, name)) == []
    tried = [
        sorted((r["lr"], r["weight_decay"], r["seed"]) for r in result[network])
        for network in NETWORKS
    ]
    assert tried[0] == tried[1] and len(set(tried[0])) == len(tried[0])
    assert not any("test" in key for network in NETWORKS for row in result[network] for key in row)


@pytest.mark.parametrize("name", SEARCHED)
def test_the_recipes_are_what_the_search_found(name: str) -> None:
    result, recipe = stored(name), RECIPES[name]
    for network, used in (("eqprop", recipe), ("backprop", TWINS[name])):
        best = tune.summary(result, network)[0]
        assert {axis: best[axis] for axis in tune.GRIDS[name]} == {
            axis: used[axis] for axis in tune.GRIDS[name]
        }
    assert result["recipe"] == {
        key: value for key, value in recipe.items() if key not in tune.GRIDS[name]
    }


def test_the_folds_share_nothing_and_leave_the_test_images_alone() -> None:
    data = build_dataset("digits")
    folds = [tune.fold(data, index) for index in range(tune.FOLDS)]
    held = torch.cat([part.validation.x for part in folds])
    assert len(held) == len(data.train) + len(data.validation) == 1437
    everything = torch.cat([data.train.x, data.validation.x])
    assert held.flatten(1).sum(0).equal(everything.flatten(1).sum(0))  # sixteenths: sums are exact
    for part in folds:
        assert len(part.train) + len(part.validation) == 1437 and part.test is data.test
        seen = {image.numpy().tobytes() for image in part.train.x}
        assert sum(image.numpy().tobytes() in seen for image in part.validation.x) == 0


def test_a_cut_search_goes_on_and_refuses_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tune.GRIDS, "mnist", {"lr": (1e-3, 1e-2), "weight_decay": (0.0,)})
    data = build_dataset({"name": "two_moons", "samples": 400})
    small, path = RECIPES["mnist"] | {"epochs": 1, "hidden_dim": 4}, tmp_path / "search.json"
    first = tune.search(data, "mnist", small, path, at_most=1)
    assert [len(first[network]) for network in NETWORKS] == [1, 0] and read(path) == first
    whole = tune.search(data, "mnist", small, path)
    assert [len(whole[network]) for network in NETWORKS] == [2, 2]
    assert (
        whole["eqprop"][0] == first["eqprop"][0]
        and tune.search(data, "mnist", small, path) == whole
    )
    with pytest.raises(ValueError, match="search.json holds trainings by another recipe"):
        tune.search(data, "mnist", small | {"epochs": 2}, path)

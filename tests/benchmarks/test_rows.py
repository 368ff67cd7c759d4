"""Rows that go on where they were; few shots; MNIST in the size of the digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eqprop_lab.datasets.splits import Split
from tests.benchmarks.distillation import shots
from tests.benchmarks.published import StaleResult
from tests.benchmarks.rows import Rows
from tests.benchmarks.transfer import shrunk


def test_a_row_is_made_once_and_a_file_made_otherwise_is_refused(tmp_path: Path) -> None:
    path, made = tmp_path / "r.json", []

    def row() -> dict[str, int]:
        made.append(1)
        return {"value": len(made)}

    for _ in range(2):
        rows = Rows(path, {"epochs": 3})
        assert rows.make({"seed": 0}, row)["value"] == 1
        assert rows.make({"seed": "chosen"}, row)["value"] == 2
    stored = json.loads(path.read_text())
    assert len(made) == 2 and stored["seeds"] == [0] and stored["epochs"] == 3
    with pytest.raises(StaleResult, match="another epochs"):
        Rows(path, {"epochs": 4})
    assert Rows(path, {"epochs": 4}, fresh=True).rows == []


def test_shots_are_as_many_of_each_class_and_others_with_another_seed() -> None:
    y = torch.arange(40) % 4
    split = Split(torch.arange(40.0)[:, None], y)
    few = shots(split, 3, seed=0)
    assert torch.bincount(few.y).tolist() == [3] * 4
    assert torch.equal(few.x[:, 0].long() % 4, few.y) and len(few.x.unique()) == 12
    assert torch.equal(few.x, shots(split, 3, 0).x) and not torch.equal(few.x, shots(split, 3, 1).x)


def test_a_shrunk_pixel_is_the_mean_of_nine() -> None:
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    small = shrunk(x)
    assert small.shape == (2, 1, 8, 8)
    torch.testing.assert_close(small[1, 0, 0, 7], x[1, 0, 2:5, 23:26].mean())
    torch.testing.assert_close(small[0, 0, 7, 0], x[0, 0, 23:26, 2:5].mean())

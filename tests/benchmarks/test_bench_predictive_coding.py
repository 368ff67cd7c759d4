"""The benchmark of a training step of predictive coding: what it compares is the same network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eqprop_lab import count_parameters, estimate_gradients
from tests.benchmarks import bench_predictive_coding as bench
from tests.benchmarks.store import RESULTS


@pytest.mark.parametrize("name", bench.NETWORKS)
def test_all_three_are_one_network_with_one_gradient(name: str) -> None:
    model, twin, plain = bench.NETWORKS[name]()
    assert len(set(map(count_parameters, (model, twin, plain)))) == 1
    x, y = torch.rand(8, 1, 28, 28), torch.arange(8)
    loss = torch.nn.functional.cross_entropy(twin(x), y)
    wanted = torch.autograd.grad(loss, list(twin.parameters()))
    got = estimate_gradients(model, x, y)  # type: ignore[arg-type]
    for one, two in zip(got.values(), wanted, strict=True):
        assert float((one - two).norm() / two.norm()) < 1e-5


def test_what_is_measured_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BATCH", 4)
    bench.main(["--repeats", "1", "--out", str(tmp_path)])
    (file,) = tmp_path.glob("predictive_coding_*.json")
    found = json.loads(file.read_text(encoding="utf-8"))["dense"]
    assert found["ratio"] == pytest.approx(found["sweep_ms"] / found["twin_ms"], rel=0.01)


@pytest.mark.parametrize(
    "file", sorted(RESULTS.glob("predictive_coding_*.json")), ids=lambda file: file.stem
)
def test_the_stored_ratios_are_below_their_floors(file: Path) -> None:
    stored = json.loads(file.read_text(encoding="utf-8"))
    for name, floor in bench.FLOORS.items():
        assert stored[name]["ratio"] <= floor

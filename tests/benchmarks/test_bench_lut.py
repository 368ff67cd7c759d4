"""The benchmark of LUT networks at small size, and what its stored figures promise."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from eqprop_lab.lut import compiled
from tests.benchmarks import bench_lut
from tests.benchmarks.bench_lut import BITS, NEAREST, exactness, exponent, main, ours
from tests.benchmarks.store import RESULTS


def test_an_exponent_is_that_of_the_power() -> None:
    assert exponent({1: 3.0, 2: 12.0, 4: 48.0}) == pytest.approx(2)


@pytest.mark.parametrize("node", NEAREST)
def test_both_networks_take_the_same_bits(node: str) -> None:
    bits = (torch.rand(5, BITS) < 0.5).float()
    model = ours(node, 20)
    assert torch.equal(model.encode(bits), bits) and model(bits).shape == (5, 10)


def test_a_small_run_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError("there is no torchlogix")

    monkeypatch.setattr(bench_lut, "ours", lambda node, width: ours(node, 20))
    monkeypatch.setattr(bench_lut, "theirs", missing)
    monkeypatch.setattr(bench_lut, "exactness", partial(exactness, 100))
    monkeypatch.setattr(compiled, "CACHE", tmp_path / "compiled")
    main(["--repeats", "1", "--widths", "20", "40", "--output", str(tmp_path)])
    found = json.loads((tmp_path / "lut.json").read_text())
    assert found["ratio_to_torchlogix"].startswith("not compared") and set(NEAREST) == set(
        found["step_ms"]
    )
    assert found["hard_samples_per_second"]["packed"] > 0 and found["extra_mb"]["dwn"] > 0
    assert found["mismatches"]["digits_small"]["PackedNetwork, 100 random"] == 0
    assert set(found["hard_samples_per_second"]) == {"torch", "packed", "compiled"}


def test_stored_figures_keep_the_promises() -> None:
    """Two layers of 1000 nodes; memory in MiB, rates of one core with AVX2."""
    found = json.loads((RESULTS / "lut.json").read_text())
    assert found["ratio_to_torchlogix"]["probabilistic"] <= 0.7
    assert found["ratio_to_torchlogix"]["dwn"] <= 0.5
    assert max(found["extra_mb"].values()) <= 200
    assert found["width_exponent"] < 1.3 and "4000" in found["step_ms_by_width"]
    rates = found["hard_samples_per_second"]
    assert rates["packed"] >= 30_000 and rates["compiled"] >= 500_000
    for name in ("digits_small", "mnist_small", "mnist_large"):
        wrong = found["mismatches"][name]
        assert not any(wrong.values())
        for network in ("PackedNetwork", "CompiledNetwork"):
            assert f"{network}, 10000 random" in wrong
            assert any(key.startswith(network) and key.endswith("test") for key in wrong)

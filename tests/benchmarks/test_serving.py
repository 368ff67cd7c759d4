"""What the stored trials of serving and of int8 promise, and one row of int8 found again."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import BackpropMLP, export_to_onnx, quantize
from tests.benchmarks.published import RESULTS


def stored(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def test_the_stored_trial_of_a_server_keeps_its_promises() -> None:
    found = stored("serving")
    latency, refused, memory = found["latency"], found["refused"], found["memory"]
    assert latency["equal"] and latency["requests"] == 200
    # of the processor: the clock of a shared machine says how busy the others were
    assert latency["cpu_ms"]["served"] <= latency["cpu_ms"]["direct"] + 10
    assert found["parallel"] == {"requests": 200, "statuses": [200], "equal": True}
    assert refused["inputs"] >= 30 and {status // 100 for status in refused["statuses"]} == {4}
    assert refused["slowest_s"] <= 1
    assert refused["huge_body"]["status"] == 413
    assert memory["requests"] == 5000
    assert memory["mebibytes"][-1] - memory["mebibytes"][1] < 5
    assert found["killed"] == {"files": [], "processes": 0, "port_free": True}
    assert all(0 < off < 1e-5 for off in found["rounding"].values())


def test_the_stored_int8_files_keep_theirs() -> None:
    rows = defaultdict(list)
    for row in stored("quantised")["rows"]:
        if row["asked"] == "auto":
            rows[row["model"]].append(row)
    assert {len(rows[name]) for name in ("MLP 512", "LoopedMLP", "SmallCNN", "ResNet-8")} == {3}
    for name, mine in rows.items():
        lost = 100 * np.mean([row["accuracy"][0] - row["accuracy"][1] for row in mine])
        quicker = np.mean([row["microseconds"][0] / row["microseconds"][1] for row in mine])
        smaller = min(row["bytes"][0] / row["bytes"][1] for row in mine)
        assert lost <= 1 and smaller > 1.5, name
        # as quick as float32, to the noise of a clock; matrices quicker
        assert quicker >= {"MLP 512": 1.5, "LoopedMLP": 1.1}.get(name, 0.97), name
    assert min(row["bytes"][0] / row["bytes"][1] for row in rows["MLP 512"]) >= 3.5
    static = [row for row in stored("quantised")["rows"] if row["asked"] == "static"]
    assert len(static) == 6 and {row["method"] for row in static} == {"static"}


def test_the_size_of_an_mlp_in_int8_is_found_again(tmp_path: Path) -> None:
    path = export_to_onnx(BackpropMLP(64, 512, 10, seed=0), tmp_path / "a.onnx", (1, 64))
    found = quantize(path, torch.rand(8, 64))
    row = next(row for row in stored("quantised")["rows"] if row["model"] == "MLP 512")
    assert list(found.bytes) == pytest.approx(row["bytes"], rel=1e-3)
    assert found.method == row["method"]

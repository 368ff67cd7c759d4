"""What the stored parity table says is below its bounds, and found again for one model. New models
come in when it is made again.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.onnx_parity import parity
from tests.benchmarks.published import RESULTS
from tests.deploy.test_onnx import MODELS


def test_the_stored_table_is_below_its_bounds_and_found_again(tmp_path: Path) -> None:
    rows = json.loads((RESULTS / "onnx_parity.json").read_text(encoding="utf-8"))["rows"]
    assert {row["model"] for row in rows} <= MODELS.keys() and len(rows) >= 14
    assert all(0 <= row["apart"] <= row["allowed"] for row in rows)
    stored = next(row for row in rows if row["model"] == "BackpropMLP")
    found = parity("BackpropMLP", MODELS["BackpropMLP"], tmp_path)
    for key in ("relaxations", "parameters", "allowed"):
        assert found[key] == stored[key]

"""Reports of the GPU checks as a stored result, and the stored results there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.commands import gpu_check
from eqprop_lab.gpu.results import merged, publish, result_name
from eqprop_lab.notebook.metrics import STORED_KEYS

STORED = sorted((Path(__file__).parents[2] / "data" / "results").glob("gpu_*.json"))
VERSIONS = {"eqprop_lab": "0.1", "python": "3.12", "torch": "2", "numpy": "2", "gpu": "a card"}


def report(date: str, device: str = "a Card 80GB", **checks: Any) -> dict[str, Any]:
    return {"date": date, "device": device, "versions": VERSIONS, "checks": checks}


def test_the_last_report_of_a_check_counts(tmp_path: Path) -> None:
    old = report("2026-01-02T03:04:05+00:00", a={"ok": False}, b={"ok": True, "x": float("nan")})
    new = report("2026-01-03T03:04:05+00:00", a={"ok": True, "x": 2.0})
    paths = [tmp_path / "new.json", tmp_path / "old.json"]
    for path, content in zip(paths, (new, old), strict=True):
        path.write_text(json.dumps(content))
    assert gpu_check.main(["--publish", *map(str, paths), "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "gpu_a_card_80gb.json").read_text())
    assert result["checks"] == {
        "a": {"ok": True, "x": 2.0, "date": "2026-01-03"},
        "b": {"ok": True, "x": None, "date": "2026-01-02"},
    }
    assert all(result[key] for key in STORED_KEYS) and result["date"] == "2026-01-03"


def test_what_cannot_be_one_result_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = report("2026", "a", c={"ok": True}), report("2027", "b")
    with pytest.raises(ValueError, match="those of one device, got a, b"):
        merged([one, other])
    with pytest.raises(ValueError, match="got none"):
        merged([])
    with pytest.raises(ValueError, match="checks that pass, and c failed"):
        merged([one, report("2028", "a", c={"ok": False})])
    with pytest.raises(ValueError, match=r"nothing.json' must be a report of gpu-check: FileNot"):
        publish([tmp_path / "nothing.json"], tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SystemExit):
        gpu_check.main(["--publish", str(tmp_path / "list.json")])
    assert "must be a report of gpu-check" in capsys.readouterr().err


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_result_says_what_it_has_to(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    assert all(result[key] for key in STORED_KEYS) and path.stem == result_name(result["device"])
    assert all(figures["ok"] is True for figures in result["checks"].values())


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_time_is_no_shorter_than_the_device_allows(path: Path) -> None:
    """The largest sizes fill the card: their bare products run at its measured rate, nearly."""
    figures = json.loads(path.read_text(encoding="utf-8"))["checks"]["kernel_time"]
    rows = {name: row for name, row in figures.items() if name.startswith("784-")}
    assert len(rows) >= 3
    for name, row in rows.items():
        assert row["flop_floor_ms"] < 1.1 * min(row["kernel_ms"], row["products_ms"]), name
    # a graph spares the calls that are most of a small step
    small = rows["784-256-10 batch 64"]
    assert small["kernel_graph_ms"] < min(small["kernel_ms"], small["torch_ms"])

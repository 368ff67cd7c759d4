"""The benchmark measures every explorer there is, and writes what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eqprop_lab.notebook import Explorer
from tests.benchmarks import bench_explorers
from tests.benchmarks.subjects import explorer_cells, made_by
from tests.browser.tiny import EXPLORER


@pytest.mark.parametrize("name", explorer_cells())
def test_every_explorer_can_be_measured(name: str) -> None:
    explorer = made_by(explorer_cells()[name])
    assert isinstance(explorer, Explorer) and type(explorer).__name__ == name
    moved, seconds = next(bench_explorers.redraws(explorer, 1))
    assert moved and seconds[0] > 0


def test_rows_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_explorers, "explorer_cells", lambda: {"Reciprocal": EXPLORER})
    output = tmp_path / "new" / "explorers.json"
    assert bench_explorers.main(["--repeats", "2", "--no-browser", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["device"] == "CPU" and result["date"] and result["versions"]["torch"]
    rows = {(row["subject"], row["what"]): row for row in result["rows"]}
    assert set(rows) == {("Reciprocal", "number x"), ("TrainingCockpit", "Stop")}
    assert all(row["repeats"] == 2 and 0 < row["median_s"] <= row["p90_s"] for row in rows.values())
    assert "Reciprocal" in capsys.readouterr().out


def test_median_and_ninety_per_cent_of_the_repetitions() -> None:
    row = bench_explorers.row("set()", "Any", "Stop", [0.1 * i for i in range(1, 11)])
    assert (
        row["median_s"] == 0.55 and row["p90_s"] == 0.9 and row["aim_s"] == bench_explorers.STOP_AIM
    )


def test_no_repetitions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_explorers.main(["--repeats", "0"])
    assert "at least 1 is needed" in capsys.readouterr().err

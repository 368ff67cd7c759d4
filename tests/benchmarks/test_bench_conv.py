"""The benchmark times what it says: the listed convolutions, all of them and no others; and memory
stays flat.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from eqprop_lab.models.conv import conv_maps
from tests.benchmarks import bench_conv
from tests.benchmarks.bench_conv import (
    Convolution,
    convolutions,
    differences,
    interleaved,
    make,
    needed,
    spread,
)
from tests.benchmarks.store import RESULTS

FIRST, SECOND = (32, 1, 5, 5), (64, 32, 3, 3)


def test_the_list_for_two_layers_written_out() -> None:
    assert needed(conv_maps(1, 32), 100, 6, 4) == Counter(
        {
            Convolution("up", (1, 28, 28), FIRST): 100,
            Convolution("up", (32, 14, 14), SECOND): 700 + 800,
            Convolution("down", (64, 7, 7), SECOND): 600 + 800,
            Convolution("gradient", (32, 14, 14), FIRST): 100,
            Convolution("gradient", (64, 7, 7), SECOND): 200,
        }
    )


def test_a_step_does_the_listed_convolutions_and_no_others() -> None:
    model, step = make(16, 3, 2)
    convolutions(model, step, 16, 3, 2)()
    with pytest.raises(RuntimeError, match="not the listed ones:\n.*112 images, 128 listed"):
        convolutions(model, step, 16, 4, 2)
    assert differences(Counter("aab"), Counter("abb")) == [
        "a: 2 images, 1 listed",
        "b: 1 images, 2 listed",
    ]


def test_runs_are_taken_in_turns() -> None:
    order: list[str] = []
    seconds = interleaved([lambda: order.append("a"), lambda: order.append("b")], repeats=3, warm=1)
    assert order == ["a", "b"] * 4 and len(seconds) == 2 and min(seconds) >= 0


def test_memory_does_not_grow_with_the_sweeps() -> None:
    assert spread([bench_conv.peak_bytes(2, sweeps) for sweeps in (4, 40)]) <= 0.01
    assert spread([100, 110, 125]) == 0.25


def test_what_is_printed_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BATCH": 16, "FREE": 2, "NUDGED": 2, "SWEEPS": (2, 3)}.items():
        monkeypatch.setattr(bench_conv, name, value)
    bench_conv.main(["--repeats", "1", "--no-memory", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
    bench_conv.main(["--repeats", "1", "--out", str(tmp_path)])
    (written,) = tmp_path.glob("conv_*.json")
    result = json.loads(written.read_text())
    assert result["ratio"] == pytest.approx(result["step_ms"] / result["convolutions_ms"], rel=0.01)
    assert result["memory"]["spread"] == pytest.approx(
        spread(result["memory"]["peak_bytes"]), abs=1e-6
    )
    assert f"ratio {result['ratio']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted(RESULTS.glob("conv_*.json")), ids=lambda file: file.stem)
def test_the_stored_results_keep_their_promise_on_memory(file: Path) -> None:
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored["memory"]["sweeps"] == [10, 100, 1000] and stored["memory"]["spread"] <= 0.01
    assert stored["floor"] == bench_conv.FLOOR and stored["batch"] == bench_conv.BATCH

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.regression.baseline import (
    BaselineError,
    compare,
    entry_problems,
    measured_entry,
    read_baseline,
    rebaseline,
    within,
)


def entry(kind: str, value: float = 2.0, tol: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "value": value, "tol": tol, **more}


@pytest.mark.parametrize(
    ("kind", "passing", "failing"),
    [
        ("exact", [2.0], [2.0000001]),
        ("abs", [1.5, 2.5], [1.4, 2.6]),
        ("rel", [1.0, 3.0], [0.9, 3.1]),
        ("min", [1.5, 99.0], [1.4]),
        ("max", [2.5, -9.0], [2.6]),
        ("order", [1.0, 6.0], [0.5, 7.0, -2.0, 0.0]),
    ],
)
def test_kinds(kind: str, passing: list[float], failing: list[float]) -> None:
    assert all(within(entry(kind), number) for number in passing)
    assert not any(within(entry(kind), number) for number in [*failing, math.nan])


def test_missing_extra_and_wrong_are_all_named() -> None:
    problems = compare(
        {"a": 9.0, "c": 1.0}, {"a": entry("abs", source="theory"), "b": entry("abs")}
    )
    assert [problem.split(",")[0] for problem in problems] == [
        "metric 'b' is missing",
        "metric 'c' is not in the baseline",
        "metric 'a' = 9",
    ]
    assert compare({"a": 9.0, "b": 2.0}, {"a": entry("abs"), "b": entry("abs")}, values=False) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "expected"),
        ('{"n": {"a": {"kind": "near", "value": 1}}}', "kind must be one of"),
        ('{"n": {"a": {"kind": "min"}}}', "value must be a finite number"),
        ('{"n": {"a": {"kind": "abs", "value": 1}}}', "needs a tol"),
        ('{"n": {"a": {"kind": "abs", "value": 1, "tol": NaN}}}', "tol must be a finite number"),
        ('{"n": {"a": {"kind": "abs", "value": 1, "tol": -1}}}', "tol must not be below 0, got -1"),
        (
            '{"n": {"a": {"kind": "abs", "value": "1", "tol": 1}}}',
            "n.a: value must be a finite number, got '1'",
        ),
        ('{"n": {"a": {"kind": "min", "value": true}}}', "value must be a finite number, got True"),
        (
            '{"n": {"a": {"kind": "min", "value": 1%s}}}' % ("0" * 400),
            "value must be a finite number, got an integer of about 401",
        ),
        ('{"n": {"a": {"kind": ["min"], "value": 1}}}', r"kind must be one of .*, got .'min'."),
        (
            '{"n": {"a": {"kind": "abs", "value": 1, "tol": 1, "floor": "x"}}}',
            "floor must be a finite number",
        ),
        ('{"n": {"a": 3}}', "n.a: an entry must be {value, kind, tol}, got 3"),
        ('{"n": [1]}', "n must be {metric: entry}, got .1."),
        ('{"n": {"a": {}, "a": {}}}', "'a' is there twice"),
        ("[" * 100_000, "not JSON"),
        ("\x80", "not JSON"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "b.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(BaselineError, match=f"b.json.*{reason}"):
        baseline = read_baseline(tmp_path / "b.json")
        problems = [line for item in baseline.items() for line in entry_problems(*item)]
        raise BaselineError(f"b.json: {problems}")


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_baseline(tmp_path / "b.json") == {}


def test_tolerance_is_four_sd_or_the_floor() -> None:
    numbers = [1.0, 1.2, 0.8, 1.1, 0.9]
    spread = measured_entry(numbers, range(5), None)
    assert spread["kind"] == "abs"
    assert spread["tol"] == pytest.approx(4 * statistics.stdev(numbers))
    assert measured_entry([2.0] * 5, range(5), None)["tol"] == pytest.approx(2e-3)
    assert measured_entry([2.0] * 5, range(5), entry("abs", floor=0.25))["tol"] == 0.25
    assert measured_entry([2.0, 4.0], range(2), entry("rel"))["tol"] == pytest.approx(
        4 * math.sqrt(2) / 3
    )


@pytest.mark.parametrize(
    "fixed", [entry("abs", source="theory"), entry("min"), entry("exact"), entry("order")]
)
def test_fixed_entries_are_never_rebaselined(fixed: dict[str, Any]) -> None:
    assert measured_entry([9.0] * 5, range(5), fixed) is fixed


def test_rebaseline_writes_measured_and_drops_vanished(tmp_path: Path) -> None:
    old = {
        "n": {"gone": entry("abs"), "t": entry("abs", 1.0, source="theory")},
        "other": {"x": entry("min")},
    }
    runs = {"n": {seed: {"new": 1.0 + seed, "t": 5.0} for seed in range(5)}}
    lines = rebaseline(old, runs, tmp_path / "b.json")
    written = json.loads((tmp_path / "b.json").read_text())
    assert written["n"]["new"]["value"] == 3.0
    assert written["n"]["new"]["seeds"] == [0, 1, 2, 3, 4]
    assert written["n"]["t"] == old["n"]["t"]
    assert written["other"] == old["other"]
    assert set(written["n"]) == {"new", "t"}
    assert lines == ["n.new: 3 +- 6.32", "n.gone: removed"]


def test_rebaseline_needs_five_seeds_that_agree_on_names(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="at least 5 seeds, got 2"):
        rebaseline({}, {"n": {0: {"a": 1.0}, 1: {"a": 1.0}}}, tmp_path / "b.json")
    with pytest.raises(BaselineError, match="different metrics"):
        rebaseline({}, {"n": {s: {f"a{s}": 1.0} for s in range(5)}}, tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()

"""Sweeps: a grid and a search, two processes, one of them killed, and what is refused."""

from __future__ import annotations

import csv
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.waiting import until

optuna = pytest.importorskip("optuna")
from eqprop_lab.experiments.sweeps import Report, Sweep, check_space, sweep  # noqa: E402
from eqprop_lab.experiments.trials import Draws, attempt, open_storage, open_study  # noqa: E402
from eqprop_lab.training import BatchError  # noqa: E402

GRID = {"a": [1, 2, 3], "b": [0.5, 1.5]}


def value_of(params: dict[str, Any], report: Report) -> float:
    return 10.0 * params["a"] + params["b"]


def test_a_grid_is_made_once_point_by_point(tmp_path: Path) -> None:
    path = tmp_path / "sweeps.db"
    found = sweep(value_of, GRID, None, storage=path)
    assert {(r["params"]["a"], r["params"]["b"]): r["value"] for r in found.rows} == {
        (a, b): 10 * a + b for a in (1, 2, 3) for b in (0.5, 1.5)
    }
    assert found.best["params"] == {"a": 3, "b": 1.5} and "6 COMPLETE" in found.table()

    def never(params: dict[str, Any], report: Report) -> float:
        raise AssertionError("made again")

    assert sweep(never, GRID, None, storage=path).rows == found.rows
    rows = list(csv.DictReader(found.to_csv(tmp_path / "sweep.csv").read_text().splitlines()))
    assert [float(r["value"]) for r in rows] == [r["value"] for r in found.rows]


def test_a_search_goes_where_values_are_good_and_is_the_same_again(tmp_path: Path) -> None:
    space = {"x": {"low": -4.0, "high": 4.0}, "n": {"low": 1, "high": 5}}

    def bowl(params: dict[str, Any], report: Report) -> float:
        return float((params["x"] - 1) ** 2 + (params["n"] - 3) ** 2)

    how: dict[str, Any] = {"direction": "minimize", "seed": 1}
    found = sweep(bowl, space, 25, storage=tmp_path / "a.db", **how)
    assert len(found.rows) == 25 and found.best["value"] < 0.5
    assert isinstance(found.best["params"]["n"], int)
    again = sweep(bowl, space, 25, storage=tmp_path / "b.db", **how)
    assert [r["params"] for r in again.rows] == [r["params"] for r in found.rows]


def test_bad_trials_are_pruned_and_broken_ones_fail_alone(tmp_path: Path) -> None:
    def train(params: dict[str, Any], report: Report) -> float:
        if params["a"] == 7:
            raise BatchError("epoch 1, batch 1: not finite")
        if params["a"] == 8:
            return float("nan")
        for step in range(3):
            report(step, float(params["a"]))
        return float(params["a"])

    found = sweep(train, {"a": [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]}, None, storage=tmp_path / "s.db")
    states = {r["params"]["a"]: r["state"] for r in found.rows}
    assert states[7] == states[8] == "FAIL" and states[10] == "COMPLETE"
    assert states[1] == "PRUNED" and found.best["value"] == 10
    with pytest.raises(ZeroDivisionError):
        sweep(lambda p, r: 1 / 0, {"a": [1, 2]}, None, storage=tmp_path / "t.db")


def test_a_search_that_goes_on_draws_other_settings(tmp_path: Path) -> None:
    """A process that takes a study up does not begin the draws of its seed once more."""
    calls = 0

    def train(params: dict[str, Any], report: Report) -> float:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return float(params["x"])

    space = {"x": {"low": 0.0, "high": 1.0}}
    how: dict[str, Any] = {"storage": tmp_path / "s.db", "seed": 3}
    with pytest.raises(KeyboardInterrupt):
        sweep(train, space, 6, **how)
    found = sweep(train, space, 6, **how)
    complete = [row["params"]["x"] for row in found.complete]
    assert len(complete) == len(set(complete)) == 6


def test_draws_go_on_or_begin_anew() -> None:
    alone = Draws(0)
    assert [alone.sampler(n) for n in range(3)] == [None, None, None]
    first, second = Draws(0), Draws(0)
    streams = [first.sampler(0), second.sampler(1), first.sampler(2)]
    assert streams[0] is None and None not in streams[1:]
    drawn = {float(s._rng.rng.uniform()) for s in streams[1:]} | {np.random.RandomState(0).rand()}
    assert len(drawn) == 3


def test_a_grid_that_was_begun_is_not_written_twice(tmp_path: Path) -> None:
    plan = {"space": {"a": [1, 2, 3]}, "trials": None, "direction": "maximize"}
    with open_storage(tmp_path / "s.db", 1, 2, 0) as (store, _):
        begun = optuna.create_study(storage=store, study_name="s", direction="maximize")
        begun.enqueue_trial({"a": 1})  # and its process died
        made = open_study(store, "s", plan, 0)
        points = [t.system_attrs["fixed_params"]["a"] for t in made.get_trials()]
    assert points == [1, 2, 3]


@pytest.mark.parametrize("name", ["a ünï?x=1", "p%20{x}#@h:1"])
def test_a_study_lies_in_the_file_of_its_name(name: str, tmp_path: Path) -> None:
    sweep(lambda p, r: p["a"], {"a": [1]}, None, storage=tmp_path / name / "s.db")
    assert {p.name for p in tmp_path.iterdir()} == {name}
    assert (tmp_path / name / "s.db").read_bytes()[:6] == b"SQLite"


@pytest.mark.parametrize("value", [None, "0.5", True, [1.0], 1j], ids=repr)
@pytest.mark.parametrize("where", ["value", "train"])
def test_what_is_no_number_is_no_value(where: str, value: Any) -> None:
    def train(params: dict[str, Any], report: Report) -> float:
        if where == "value":
            report(0, value)
        return value  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match=rf"{where}\S* ?\S* must be a number, got "):
        attempt(train, {}, lambda step, value: None)


def test_numbers_of_all_kinds_are_values() -> None:
    for value in (1, np.float32(0.5), torch.tensor([0.25])):
        assert attempt(lambda p, r, v=value: v, {}, lambda step, value: None).value == float(value)
    with pytest.raises(TypeError, match="step must be an integer >= 0"):
        attempt(lambda p, r: float(r(1.5, 0.0) or 0), {}, lambda *_: None)  # type: ignore


def study(direction: str, *trials: tuple[str, float | None]) -> Sweep:
    rows = [
        {"number": n, "state": state, "value": value, "seconds": 0.1}
        | {"params": {"lr": 10.0**-n, "kind": "ab"[n % 2], "same": 1}}
        for n, (state, value) in enumerate(trials)
    ]
    return Sweep("s", direction, tuple(rows))


def test_the_figure_shows_trials_and_the_best_so_far() -> None:
    trials = ("FAIL", None), ("COMPLETE", 2.0), ("PRUNED", 9.0), ("COMPLETE", 1.0), ("COMPLETE", 3)
    found = study("maximize", *trials)
    assert found.best_so_far[1:] == [2, 2, 2, 3] and math.isnan(found.best_so_far[0])
    assert study("minimize", *trials).best_so_far[1:] == [2, 2, 1, 1]
    by_trial, by_rate, by_kind = found.figure().axes
    complete, pruned = (points.get_offsets() for points in by_trial.collections)
    assert complete.tolist() == [[1, 2], [3, 1], [4, 3]] and pruned.tolist() == [[2, 9]]
    assert by_rate.get_xscale() == "log" and by_rate.get_xlabel() == "lr"
    places = [points.get_offsets()[:, 0].tolist() for points in by_kind.collections]
    assert places == [[1, 1, 0], [0]]
    said = found.describe()
    assert "5 trials as points, 3 of them" in said and "2 steps and ends at 3, first" in said


WORKER = """
import sys, time
from pathlib import Path
from eqprop_lab.experiments.sweeps import sweep

folder = Path(sys.argv[1])

def train(params, report):
    (folder / f"begun {{params['a']}} {{params['b']}} {{sys.argv[2]}}").touch()
    while sys.argv[2] == "hangs" and not (folder / "go").exists():
        time.sleep(0.01)
    return 10.0 * params["a"] + params["b"]

sweep(train, {grid}, None, storage=folder / "s.db", heartbeat=1, grace=2)
"""


def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    """It dies inside a trial; another process makes that trial again, to the same value."""
    source = WORKER.format(grid=GRID)
    command = [sys.executable, "-c", source, str(tmp_path)]
    first = subprocess.Popen([*command, "hangs"])
    try:
        until(lambda: bool(list(tmp_path.glob("begun*"))), "the first trial")
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    second = sweep(value_of, GRID, None, storage=tmp_path / "s.db", heartbeat=1, grace=2)
    states = [row["state"] for row in second.rows]
    assert states.count("COMPLETE") == 6 and states.count("FAIL") == 1 and len(states) == 7
    found = {(r["params"]["a"], r["params"]["b"]): r["value"] for r in second.complete}
    assert found == {(a, b): 10 * a + b for a in (1, 2, 3) for b in (0.5, 1.5)}


def test_a_study_made_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    sweep(value_of, GRID, None, storage=path, about={"data": "digits"})
    with pytest.raises(ValueError, match="study 'sweep' was made with another about"):
        sweep(value_of, GRID, None, storage=path, about={"data": "mnist"})
    with pytest.raises(ValueError, match="made with another space, about"):
        sweep(value_of, {"a": [1], "b": [2]}, None, storage=path)
    assert len(sweep(value_of, {"a": [1], "b": [2]}, None, storage=path, study="two").rows) == 1


BAD: list[tuple[Any, bool, str]] = [
    ({}, False, "space must name at least one setting"),
    ({"a": []}, True, r"space\['a'\] must hold at least one value"),
    ({"a": {"low": 1, "high": 2}}, True, r"space\['a'\] must be a list where trials=None"),
    ({"a": {"low": 2, "high": 1}}, False, r"space\['a'\].high must be .* > 2"),
    ({"a": {"low": 0, "high": 1, "log": True}}, False, r"space\['a'\].low must be .* > 0"),
    ({"a": {"low": 1}}, False, r"space\['a'\] must have low and high"),
    ({"a": {"low": 1, "hihg": 2}}, False, "did you mean 'high'"),
    ({"a": 3}, False, r"space\['a'\] must be a list or"),
    ({"a": [[1]]}, False, r"space\['a'\] must hold numbers, texts"),
    ({"a": [1, 0.5, True]}, True, "must hold different values, got True again"),
    ({"a": {"low": 0, "high": 3, "step": 0.5}}, False, "step must be an integer"),
    ({"a": {"low": 0.0, "high": 3.0, "step": 0}}, False, "step must be a finite number > 0"),
    ({"a": {"low": 0.5, "high": 3.0, "log": "no"}}, False, "log must be True or False"),
]


@pytest.mark.parametrize(("space", "grid", "message"), BAD, ids=[m[:30] for *_, m in BAD])
def test_a_space_that_is_none_is_refused(space: Any, grid: bool, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        check_space(space, grid)


def test_ends_are_integers_of_whatever_kind() -> None:
    space = {"n": {"low": np.int64(1), "high": np.int64(4)}, "x": {"low": 0, "high": 1.0}}
    checked = check_space(space)
    assert checked["n"] == {"low": 1, "high": 4, "log": False, "step": None}
    assert isinstance(checked["n"]["low"], int) and isinstance(checked["x"]["low"], float)


def test_arguments_that_cannot_be_are_refused(tmp_path: Path) -> None:
    how: dict[str, Any] = {"storage": tmp_path / "s.db"}
    with pytest.raises(ValueError, match="grace must be above heartbeat"):
        sweep(value_of, GRID, None, heartbeat=5, grace=5, **how)
    with pytest.raises(TypeError, match="train must be a function"):
        sweep(3, GRID, None, **how)  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        sweep(value_of, GRID, None, storage=tmp_path / "file" / "s.db")
    with pytest.raises(ValueError, match="'sweep' has no complete trial"):
        _ = sweep(lambda p, r: float("nan"), {"a": [1]}, None, **how).best

"""The run store: what it keeps, what comparing shows, and when a run is said to reproduce."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eqprop_lab import BackpropMLP, EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.commands import compare as compare_command, rerun as rerun_command
from eqprop_lab.datasets import Split
from eqprop_lab.experiments.comparing import compare, differences, rerun
from eqprop_lab.experiments.runs import Run, RunError, RunStore, fingerprint
from eqprop_lab.training import EarlyStopping, History

DATA = build_dataset("digits")
SMALL = Split(DATA.train.x[:120], DATA.train.y[:120])


def config(lr: float = 0.01, **extra: Any) -> dict[str, Any]:
    return {
        "model": {"name": "LoopedMLP", "hidden": 8},
        "training": {"lr": lr, "epochs": 2, **extra},
    }


def train(config: dict[str, Any], callbacks: Any = ()) -> tuple[EqPropTrainer, History]:
    settings = config["training"]
    trainer = EqPropTrainer(LoopedMLP(64, config["model"]["hidden"], 10, seed=0), lr=settings["lr"])
    loader = SMALL.batches(40, shuffle=True, seed=settings.get("seed", 0))
    return trainer, trainer.fit(loader, settings["epochs"], SMALL.batches(60), callbacks)


def stored(folder: Path, **settings: Any) -> Run:
    run = RunStore(folder).create(config(**settings))
    train(run.config, [run])
    return run


def test_a_run_keeps_config_versions_curves_and_checkpoint(tmp_path: Path) -> None:
    run = RunStore(tmp_path / "runs").create(config())
    trainer, history = train(run.config, [run, EarlyStopping("train_loss", restore_best=True)])
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "checkpoint.pt",
        "config.yaml",
        "curves.json",
        "versions.json",
    ]
    assert (
        yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
        == config()
        == trainer.state.config
    )
    assert (
        json.loads((run.folder / "versions.json").read_text(encoding="utf-8"))["torch"]
        == torch.__version__
    )
    assert run.history == history and run.parameters == fingerprint(trainer.model)
    other = EqPropTrainer(LoopedMLP(64, 8, 10, seed=5), lr=0.01)
    other.load_checkpoint(run.checkpoint)
    assert fingerprint(other.model) == run.parameters and other.state.config == config()


def test_a_fingerprint_sees_one_bit() -> None:
    model = LoopedMLP(64, 8, 10, seed=0)
    before = fingerprint(model)
    assert before == fingerprint(LoopedMLP(64, 8, 10, seed=0))
    with torch.no_grad():
        model.W_out.bias[3] = torch.nextafter(model.W_out.bias[3], torch.tensor(1.0))
    assert fingerprint(model) != before


def test_runs_are_found_by_the_start_of_their_id_and_never_overwritten(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    runs = [store.create(config()) for _ in range(3)]
    assert len({run.id for run in runs}) == 3 and {r.id for r in store.runs()} == {
        r.id for r in runs
    }
    assert store.get(runs[0].id).folder == runs[0].folder
    with pytest.raises(RunError, match="3 runs start with '2'"):
        store.get("2")
    with pytest.raises(RunError, match=f"no run 'x'.*{runs[0].id}"):
        store.get("x")
    with pytest.raises(RunError, match="no run ''"):
        store.get("")
    with pytest.raises(ValueError, match="plain values only"):
        store.create({"model": object()})


def test_differences_of_nested_settings() -> None:
    found = differences({"a": 1, "m": {"x": 1, "y": [2]}}, {"m": {"x": 3, "y": [2]}, "b": None})
    assert [(d.name, d.a, d.b) for d in found] == [("a", 1, "-"), ("m.x", 1, 3), ("b", "-", None)]


def test_compare_shows_settings_curves_and_their_last_values(tmp_path: Path) -> None:
    a, b = stored(tmp_path), stored(tmp_path, lr=0.05, note="hot")
    result = compare(a, b)
    assert [(d.name, d.a, d.b) for d in result.config] == [
        ("training.lr", 0.01, 0.05),
        ("training.note", "-", "hot"),
    ]
    assert result.versions == []
    assert result.curves["val_loss"][b.id] == ([1, 2], b.history["val_loss"])
    assert not {"seconds", "estimator", "epoch"} & result.curves.keys()
    table = result.table().splitlines()
    assert a.id in table[0] and b.id in table[0] and table[1] == "-- settings"
    assert "-- versions: the same" in table and any(
        line.startswith("val_accuracy") for line in table
    )
    figure = result.figure()
    titles = {axes.get_title(): axes for axes in figure.axes}
    lines = titles["train loss"].lines
    assert [list(line.get_ydata()) for line in lines] == [
        a.history["train_loss"],
        b.history["train_loss"],
    ]
    assert [line.get_linestyle() for line in lines] == ["-", "--"]
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [a.id, b.id]


def test_a_run_reproduces(tmp_path: Path) -> None:
    run = stored(tmp_path)
    files = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    result = rerun(run, train)
    assert (
        result.exact
        and result.parameters
        and result.versions == []
        and set(result.curves.values()) == {0.0}
    )
    assert (
        "reproduces exactly: 2 epochs" in result.summary() and "same versions" in result.summary()
    )
    assert files == {path.name: path.read_bytes() for path in run.folder.iterdir()}


def test_a_run_that_does_not_reproduce_says_where(tmp_path: Path) -> None:
    run = stored(tmp_path)
    versions = run.versions | {"torch": "1.0"}
    (run.folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")

    def other(config: dict[str, Any]) -> tuple[EqPropTrainer, History]:
        return train({**config, "training": {**config["training"], "seed": 1}})

    result = rerun(run, other)
    assert not result.exact and not result.parameters and 0 < result.curves["train_loss"] < 1
    assert "does not reproduce" in result.summary() and "torch: 1.0 then" in result.summary()
    longer = rerun(run, lambda c: train({**c, "training": {**c["training"], "epochs": 3}}))
    assert not longer.exact and longer.epochs == (2, 3) and longer.curves["train_loss"] == 0.0
    with pytest.raises(RunError, match="no finished epoch"):
        rerun(RunStore(tmp_path).create(config()), train)


def test_curves_without_numbers_reproduce_and_missing_ones_do_not(tmp_path: Path) -> None:
    def backprop(
        config: dict[str, Any], callbacks: Any = (), validate: bool = True
    ) -> tuple[EqPropTrainer, History]:
        trainer = EqPropTrainer(BackpropMLP(64, 8, 10, seed=0), gradient="autograd")
        return trainer, trainer.fit(
            SMALL.batches(40), 1, SMALL.batches(40) if validate else None, callbacks
        )

    run = RunStore(tmp_path).create(config())
    backprop({}, [run])
    assert run.history["norm"] == [None] and rerun(run, backprop).exact
    assert "norm" not in compare(run, run).curves
    blind = rerun(run, lambda c: backprop(c, validate=False))
    assert blind.parameters and not blind.exact and blind.curves["val_loss"] == float("inf")
    (run.folder / "curves.json").write_text(
        json.dumps({"curves": {**run.history, "train_loss": [None]}, "parameters": run.parameters}),
        encoding="utf-8",
    )
    assert rerun(run, backprop).curves["train_loss"] == float("inf")


def test_damaged_runs_are_named(tmp_path: Path) -> None:
    run = stored(tmp_path)
    (run.folder / "curves.json").write_text('{"curves": {', encoding="utf-8")
    with pytest.raises(RunError, match=rf"run {run.id}: cannot read curves\.json"):
        compare(run, run)
    (run.folder / "curves.json").write_text("[]", encoding="utf-8")
    with pytest.raises(RunError, match="not what a run store writes"):
        compare(run, run)
    (run.folder / "versions.json").unlink()
    with pytest.raises(RunError, match=r"cannot read versions\.json"):
        _ = run.versions


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = stored(tmp_path), stored(tmp_path, lr=0.05)
    picture = tmp_path / "curves.svg"
    assert (
        compare_command.main([a.id, b.id, "--runs", str(tmp_path), "--figure", str(picture)]) == 0
    )
    assert "training.lr" in capsys.readouterr().out and "<svg" in picture.read_text(
        encoding="utf-8"
    )
    assert rerun_command.main([a.id, "--runs", str(tmp_path)], train) == 0
    assert "reproduces exactly" in capsys.readouterr().out
    assert (
        rerun_command.main([a.id, "--runs", str(tmp_path)], lambda c: train(config(lr=0.02))) == 1
    )
    assert rerun_command.main(["nothing", "--runs", str(tmp_path)], train) == 2
    assert "error: no run 'nothing'" in capsys.readouterr().err
    for call, code in (([a.id], 2), ([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as stop:
            compare_command.main(call)
        assert stop.value.code == code


def test_the_experiment_schema_reproduces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from eqprop_lab.experiments.config import parse_config, train_from_config

    experiment = {
        "model": {"name": "LoopedMLP", "params": {"hidden_dim": 8}},
        "training": {"epochs": 1, "batch_size": 128, "learning_rate": 0.01},
        "data": {"dataset": "digits"},
        "experiment": {"name": "again", "seed": 3},
    }
    run = RunStore(tmp_path).create(experiment)
    train_from_config(parse_config(run.config), [run])
    assert rerun_command.main([run.id, "--runs", str(tmp_path)]) == 0
    assert "reproduces exactly: 1 epochs" in capsys.readouterr().out

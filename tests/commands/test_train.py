"""`train` keeps a run, goes on with it, and says what is wrong; `evaluate` gives it back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from eqprop_lab import EqPropTrainer, LoopedMLP
from eqprop_lab.commands import evaluate, train
from eqprop_lab.experiments.config import list_recipes
from eqprop_lab.experiments.runs import RunStore
from eqprop_lab.training.checkpoint import read
from tests.experiments.test_config import SMALL, changed


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def test_train_then_evaluate(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([str(config), "--runs", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert "LoopedMLP on two_moons, 48 samples, 2 epochs" in printed and "epoch   2" in printed
    (run,) = RunStore(tmp_path / "runs").runs()
    loss = run.history["val_loss"][-1]
    for path in (run.folder, run.checkpoint):
        assert evaluate.main([str(path)]) == 0
        assert "after 2 epochs, two_moons validation (48 samples): accuracy" in (
            out := capsys.readouterr().out
        )
        assert f"loss {loss:.4f}, residual {run.history['val_residual'][-1]:.1e}" in out
    assert evaluate.main([str(run.checkpoint), "--data", "xor", "--split", "test"]) == 0
    assert "xor test (400 samples)" in capsys.readouterr().out


def test_an_interrupted_run_goes_on(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--runs", str(tmp_path / "runs")]
    assert train.main([str(config), *arguments]) == 0
    whole = RunStore(tmp_path / "runs").runs()[0]

    def interrupt(record: dict[str, object]) -> None:
        # The second epoch has been trained, and is lost.
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "show", interrupt)
        assert train.main([str(config), *arguments]) == 1
    (broken,) = (run for run in RunStore(tmp_path / "runs").runs() if run.id != whole.id)
    assert read(broken.checkpoint)["history"]["epoch"] == [1]
    assert f"error: interrupted; go on with --resume {broken.id}" in capsys.readouterr().err
    assert train.main(["--resume", broken.id, *arguments]) == 0
    assert (
        broken.history["train_loss"] == whole.history["train_loss"]
        and broken.parameters == whole.parameters
    )


def test_what_cannot_be_trained_is_said_and_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    path = tmp_path / "wrong.yaml"
    for content, message in (
        (
            changed("training", epoch=3),
            "wrong.yaml: key of section 'training'.*did you mean 'epochs'",
        ),
        (
            changed("data", dataset="mnist", root=str(tmp_path), samples=3),
            "key of the mnist config",
        ),
    ):
        path.write_text(yaml.safe_dump(content).replace("  seed: 3\n", "", 1))
        assert train.main([str(path), "--runs", str(runs)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and re.search(message, error)
    assert train.main([str(tmp_path / "none.yaml"), "--runs", str(runs)]) == 2
    assert list_recipes()[0] in capsys.readouterr().err
    assert train.main(["--resume", "nothing", "--runs", str(runs)]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err and not runs.exists()
    with pytest.raises(SystemExit, match="2"):
        train.main([])


def test_trackers_are_asked_for_in_the_config(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, ...]] = []

    def tracker(*values: object, **named: object) -> object:
        made.append((*values, *named.values()))
        return lambda record: None

    monkeypatch.setattr(train, "WandbLogger", tracker)
    monkeypatch.setattr(train, "TensorBoardLogger", tracker)
    config.write_text(
        yaml.safe_dump(changed("experiment", use_wandb=True, use_tensorboard=True, project="mine"))
    )
    assert train.main([str(config), "--runs", str(tmp_path / "runs")]) == 0
    (run,) = RunStore(tmp_path / "runs").runs()
    assert made == [("mine", run.folder / "wandb", "small"), (run.folder / "tensorboard",)]


def test_evaluate_refuses_what_does_not_fit(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(tmp_path / "none.pt")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    bare = tmp_path / "bare.pt"
    EqPropTrainer(LoopedMLP(2, 8, 2, max_steps=6)).save_checkpoint(bare)
    assert evaluate.main([str(bare)]) == 2 and "--config FILE" in capsys.readouterr().err
    assert evaluate.main([str(bare), "--config", str(config)]) == 0
    assert "after 0 epochs" in capsys.readouterr().out
    assert evaluate.main([str(bare), "--config", str(config), "--data", "digits"]) == 2
    assert "a batch of 2 features" in capsys.readouterr().err
    assert evaluate.main([str(bare), "--config", str(config), "--root", str(tmp_path)]) == 2
    assert "root" in capsys.readouterr().err


def test_the_same_command_again_and_again_trains_in_parts(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([str(config), "--runs", str(tmp_path / "whole")]) == 0
    parts = [str(config), "--runs", str(tmp_path / "parts"), "--resume", "--minutes"]
    capsys.readouterr()
    assert train.main([*parts, "1e-9"]) == 3
    (run,) = RunStore(tmp_path / "parts").runs()
    printed = capsys.readouterr().out
    assert (
        f"the time is up: 1 of 2 epochs are left, about 0.0 minutes; go on with --resume {run.id}"
        in printed
    )
    assert train.main([*parts, "1e-9", "--device", "cpu"]) == 0  # it is done, time or no time
    assert f"stored in {run.folder}" in capsys.readouterr().out
    assert train.main([*parts, "9"]) == 0  # nothing is left to do
    assert "epoch" not in capsys.readouterr().out.partition("2 epochs")[2]
    (whole,), (run,) = (RunStore(tmp_path / name).runs() for name in ("whole", "parts"))
    assert run.parameters == whole.parameters
    assert run.history["train_loss"] == whole.history["train_loss"]


def test_what_cannot_go_on_is_said(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    assert train.main([str(config), *runs, "--minutes", "0"]) == 2
    assert "minutes must be a finite number > 0, got 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    for given in ([], ["--resume"], [str(config), "--resume", "some-run"]):
        with pytest.raises(SystemExit, match="2"):
            train.main([*given, *runs])
        assert "give either a CONFIG or --resume ID" in capsys.readouterr().err
    assert train.main([str(config), *runs, "--minutes", "1e-9"]) == 3
    (run,) = RunStore(tmp_path / "runs").runs()
    config.write_text(yaml.safe_dump(changed("training", epochs=3)))
    assert train.main([str(config), *runs, "--resume"]) == 2
    error = capsys.readouterr().err
    assert (
        f"run {run.id} of 'small' has another config: training.epochs is 2 there, 3 here" in error
    )
    run.checkpoint.unlink()
    assert train.main(["--resume", run.id, *runs]) == 2
    assert "holds a training of 1 epochs" in (error := capsys.readouterr().err)
    assert "(checkpoint.pt is missing)" in error

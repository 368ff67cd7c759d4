"""A run stored on a device that is not here: the text says so, and --device goes on without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eqprop_lab.__main__ import main

CONFIG = {
    "model": {"name": "LoopedMLP", "params": {"hidden_dim": 8, "max_steps": 4}},
    "training": {"epochs": 1, "batch_size": 500},
    "data": {"dataset": "digits"},
    "experiment": {"name": "small", "seed": 0},
}


def stored_elsewhere(tmp_path: Path) -> tuple[str, str]:
    """(store, id) of a run of this machine whose config says that it was made on a GPU."""
    config, runs = tmp_path / "small.yaml", tmp_path / "runs"
    config.write_text(yaml.safe_dump(CONFIG))
    assert main(["train", str(config), "--runs", str(runs)]) == 0
    (folder,) = runs.iterdir()
    text = yaml.safe_load((folder / "config.yaml").read_text())
    text["training"]["device"] = "cuda:7"
    (folder / "config.yaml").write_text(yaml.safe_dump(text))
    return str(runs), folder.name


def test_a_stored_device_that_is_absent_is_named_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, name = stored_elsewhere(tmp_path)
    checkpoint = str(Path(runs) / name / "checkpoint.pt")
    config = str(Path(runs) / name / "config.yaml")
    calls = [["rerun", name, "--runs", runs], ["train", "--resume", name, "--runs", runs]]
    calls += [["evaluate", checkpoint, "--config", config]]
    for call in calls:
        assert main(call) == 2
        error = capsys.readouterr().err
        assert "device must be on this machine, which has cpu (1)" in error and "'cuda:7'" in error
        assert "--device" in error and "Traceback" not in error
        assert main([*call, "--device", "cpu"]) == 0, capsys.readouterr().err
        assert main([*call, "--device", "tpu"]) == 2
        assert "'tpu'" in capsys.readouterr().err


def test_the_home_folder_is_meant_by_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    assert main(["train", "~/small.yaml", "--runs", "~/runs"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert main(["evaluate", f"~/runs/{run.name}"]) == 0
    assert main(["evaluate", f"~/runs/{run.name}/checkpoint.pt", "--config", "~/small.yaml"]) == 0
    assert (
        main(["compare", run.name, run.name, "--runs", "~/runs", "--figure", "~/curves.svg"]) == 0
    )
    assert (tmp_path / "curves.svg").exists() and not (tmp_path / "~").exists()

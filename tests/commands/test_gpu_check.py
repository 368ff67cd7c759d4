"""The GPU checks: what they would run, what they store, and that parity notices a wrong device."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eqprop_lab.commands import gpu_check
from eqprop_lab.commands.gpu_check import store
from eqprop_lab.gpu import checks
from eqprop_lab.gpu.checks import CHECKS, run_checks
from eqprop_lab.gpu.cifar import Options

CPU = torch.device("cpu")


def test_without_a_gpu_it_lists_what_it_would_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("no CUDA device here: nothing was measured")
    assert all(name in printed and check.text in printed for name, check in CHECKS.items())
    assert not (tmp_path / "out").exists()


def test_with_a_gpu_the_report_is_stored_and_a_failure_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"device": CHECKS["device"]}
    for module in (checks, gpu_check):
        monkeypatch.setattr(module, "CHECKS", found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(
        gpu_check, "run_checks", lambda device, *given, real=run_checks: real(CPU, *given)
    )
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    assert report["ok"] is True and report["versions"]["torch"] == torch.__version__
    assert (
        report["date"][:4].isdigit()
        and report["device"]
        and report["checks"]["device"]["ok"] is True
    )

    @checks.gpu_check("broken", "raises")
    def broken(device: torch.device, options: Options) -> dict[str, object]:
        raise RuntimeError("out of memory")

    assert gpu_check.main(["--out", str(tmp_path)]) == 1
    assert (
        "FAILED broken       ok False, error RuntimeError: out of memory" in capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="registered already"):
        checks.gpu_check("broken", "again")(broken)


def test_a_report_is_written_whole(tmp_path: Path) -> None:
    report = {"date": "2026-01-02T03:04:05+00:00", "ok": True}
    path = store(report, tmp_path / "new")
    assert (
        path.name == "gpu-check-2026-01-02T030405Z.json" and json.loads(path.read_text()) == report
    )
    with pytest.raises(TypeError):
        store({**report, "bad": object()}, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == [path] and json.loads(path.read_text()) == report


def test_single_checks_run_on_a_processor_when_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Options] = []

    def run(device: torch.device, options: Options) -> dict[str, object]:
        given.append(options)
        return {"ok": device == CPU, "finished": False}

    monkeypatch.setitem(CHECKS, "cifar10", replace(CHECKS["cifar10"], run=run))
    call = ["--device", "cpu", "--only", "cifar10", "device", "--out", str(tmp_path)]
    assert (
        gpu_check.main([*call, "--toy", "--minutes", "2", "--epochs", "4", "--data", "images"]) == 0
    )
    assert given == [Options(out=tmp_path, data=Path("images"), minutes=2.0, epochs=4, toy=True)]
    (path,) = tmp_path.iterdir()
    assert list(json.loads(path.read_text())["checks"]) == ["cifar10", "device"]
    assert "ok     cifar10      ok True, finished False" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "cifar10 would take days; give --toy"),
        (["--minutes", "0"], "minutes must be a finite number > 0"),
        (["--only", "cifar"], "invalid choice: 'cifar'"),
        (["--epochs", "3", "--fill-minutes", "4"], "give one of them"),
    ],
)
def test_wrong_calls_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        gpu_check.main(arguments)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_make_hands_its_options_on(root: Path) -> None:
    done = subprocess.run(
        ["make", "-n", "-o", "install", "gpu-check", "GPU_ARGS=--only cifar10 --toy", "OUT=there"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert "-m eqprop_lab gpu-check --out there --only cifar10 --toy\n" in done.stdout

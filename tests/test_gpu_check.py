"""The GPU checks: what they would run, what they store, and that parity notices a wrong device."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from eqprop_lab import estimate_gradients, gpu_check
from eqprop_lab.gpu_check import CHECKS, device_facts, parity, run_checks, step_time, store

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
    checks = {"device": CHECKS["device"]}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "run_checks", lambda device, real=run_checks: real(CPU))
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    assert report["ok"] is True and report["versions"]["torch"] == torch.__version__
    assert report["date"][:4].isdigit() and report["device"] and report["checks"]["device"]["ok"] is True

    @gpu_check.gpu_check("broken", "raises")
    def broken(device: torch.device) -> dict[str, object]:
        raise RuntimeError("out of memory")

    assert gpu_check.main(["--out", str(tmp_path)]) == 1
    assert "FAILED broken       ok False, error RuntimeError: out of memory" in capsys.readouterr().out
    with pytest.raises(ValueError, match="registered already"):
        gpu_check.gpu_check("broken", "again")(broken)


def test_a_report_is_written_whole(tmp_path: Path) -> None:
    report = {"date": "2026-01-02T03:04:05+00:00", "ok": True}
    path = store(report, tmp_path / "new")
    assert path.name == "gpu-check-2026-01-02T030405Z.json" and json.loads(path.read_text()) == report
    with pytest.raises(TypeError):
        store({**report, "bad": object()}, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == [path] and json.loads(path.read_text()) == report


def test_parity_holds_between_equals_and_notices_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = parity(CPU)
    assert figures["ok"] and figures["float64_error"] <= figures["float64_limit"]
    calls: list[int] = []

    def off(*arguments: object, **named: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        gradients = estimate_gradients(*arguments, **named)  # type: ignore[arg-type]
        # Every second call is the one on the device.
        return {k: g * (1 + 1e-5) if len(calls) % 2 == 0 else g for k, g in gradients.items()}

    monkeypatch.setattr(gpu_check, "estimate_gradients", off)
    figures = parity(CPU)
    assert not figures["ok"] and figures["float64_error"] == pytest.approx(1e-5, rel=1e-3)


def test_step_time_and_device_facts_are_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gpu_check, "_milliseconds", lambda hidden, batch, device, real=gpu_check._milliseconds: real(8, 4, device)
    )
    figures = step_time(CPU)
    assert figures["ok"] and 0 < figures["784-256-10 batch 64 cpu_ms"] < 1000
    assert device_facts(CPU)["name"]


def test_facts_and_timing_of_a_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="a card", major=9, minor=0, total_memory=2**31)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    facts = device_facts(torch.device("cuda"))
    assert facts == {"ok": True, "name": "a card", "memory_gib": 2.0, "capability": "9.0"}
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device in (CPU, torch.device("cuda")):
        gpu_check._wait(device)
    assert waited == [torch.device("cuda")]  # without it a step would end when it has been handed over


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_check_passes_on_the_gpu() -> None:
    assert run_checks(torch.device("cuda"))["ok"]

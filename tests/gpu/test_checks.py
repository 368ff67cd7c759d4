"""The GPU checks: parity notices a wrong device, times are times, a card says what it is."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from eqprop_lab import estimate_gradients
from eqprop_lab.gpu import checks, limits
from eqprop_lab.gpu.checks import device_facts, milliseconds, parity, run_checks, step_time
from eqprop_lab.gpu.cifar import Options
from eqprop_lab.gpu.limits import wait

CPU = torch.device("cpu")


def test_parity_holds_between_equals_and_notices_a_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = parity(CPU)
    assert figures["ok"] and figures["float64_error"] <= figures["float64_limit"]
    calls: list[int] = []

    def off(*arguments: object, **named: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        gradients = estimate_gradients(*arguments, **named)  # type: ignore[arg-type]
        # Every second call is the one on the device.
        return {k: g * (1 + 1e-5) if len(calls) % 2 == 0 else g for k, g in gradients.items()}

    monkeypatch.setattr(checks, "estimate_gradients", off)
    figures = parity(CPU)
    assert not figures["ok"] and figures["float64_error"] == pytest.approx(1e-5, rel=1e-3)


def test_step_time_and_device_facts_are_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checks,
        "milliseconds",
        lambda hidden, batch, device, real=milliseconds: real(8, 4, device),
    )
    ticks = itertools.count()  # a clock that moves by 2 ms each time it is read
    monkeypatch.setattr(limits, "time", SimpleNamespace(perf_counter=lambda: 0.002 * next(ticks)))
    figures = step_time(CPU)
    assert figures["ok"] and figures["784-256-10 batch 64 cpu_ms"] == pytest.approx(2.0)
    each = 1 + 23 * 2 + 20
    assert next(ticks) == 2 * each, (
        "both sizes: once, before and after 20 steps and 3 before them, and after each of the 20"
    )
    assert device_facts(CPU)["name"]


def test_facts_of_a_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="a card", major=9, minor=0, total_memory=2**31)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    facts = device_facts(torch.device("cuda"))
    assert facts == {"ok": True, "name": "a card", "memory_gib": 2.0, "capability": "9.0"}


def test_a_step_ends_when_the_card_has_done_it(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda")
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device in (CPU, card):
        wait(device)
    assert waited == [card]  # without it a step would end when it has been handed over


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_check_passes_on_the_gpu(tmp_path: Path) -> None:
    report = run_checks(torch.device("cuda"), options=Options(out=tmp_path, toy=True))
    assert report["ok"] and report["checks"]["cifar10"]["finished"]

"""The TF32 check: coarse products show as an error, a wrong float32 fails, switches return."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqprop_lab.acceleration import enable_tf32
from eqprop_lab.gpu import tf32

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf32, "SIZES", ((16, 8),))
    monkeypatch.setattr(tf32, "milliseconds_of", lambda run, device: 1.0)


def switched_on() -> bool:
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.parametrize(("noisy_with", "ok"), [(True, True), (False, False)])
def test_the_error_is_of_the_setting_that_makes_it(
    noisy_with: bool, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tf32._gradient

    def coarse(model: torch.nn.Module, x: Tensor, y: Tensor, beta: float) -> Tensor:
        found = real(model, x, y, beta)
        return found * 1.1 if x.dtype == torch.float32 and switched_on() is noisy_with else found

    monkeypatch.setattr(tf32, "_gradient", coarse)
    figures = tf32.tf32(CPU)
    assert figures["ok"] is ok
    errors = {name: row["error_beta_0.5"] for name, row in figures["784-16-10 batch 8"].items()}
    noisy, quiet = ("tf32", "float32") if noisy_with else ("float32", "tf32")
    assert errors[noisy] == pytest.approx(0.1, rel=1e-3) and errors[quiet] < 1e-5


@pytest.mark.parametrize("before", [False, True])
def test_switches_are_what_they_were(before: bool) -> None:
    was = switched_on()
    enable_tf32(before)
    try:
        tf32.tf32(CPU)
        assert switched_on() is before
    finally:
        enable_tf32(was)

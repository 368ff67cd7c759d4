"""Which way is quickest is measured and not promised; that they compute the same is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from eqprop_lab import ConvEqProp, LoopedMLP, measure_speed
from eqprop_lab.commands import speed as command
from eqprop_lab.instruments import speed
from eqprop_lab.instruments.speed import ALONE, COMPILED, KERNEL, TORCH, SpeedCheck, Timing
from eqprop_lab.kernel import EqPropKernel

X, Y = torch.linspace(-1, 1, 8 * 16).reshape(8, 16), torch.arange(8) % 3


def net(**options: Any) -> LoopedMLP:
    return LoopedMLP(16, 12, 3, seed=0, **options)


def instead_of_compile(monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    """A compiler that gives the function back, or fails at the first call as the real one does."""

    def compiled(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def no_compiler(*_: Any, **__: Any) -> Any:
            raise RuntimeError("no C++ compiler\nmore lines")

        return function if works else no_compiler

    monkeypatch.setattr(torch, "compile", compiled)


def test_every_way_is_timed_and_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_compile(monkeypatch, True)
    model = net()
    before = copy.deepcopy(model.state_dict())
    found = measure_speed(model, X, Y, steps=4)
    assert list(found.ways) == [TORCH, COMPILED, KERNEL, ALONE] and not found.absent
    for way in found.ways.values():
        assert way.first > 0 and way.seconds > 0 and way.apart < 1e-3 and not way.note
        assert way.low <= way.speedup <= way.high
    assert found.ways[TORCH].apart == 0 and found.ways[TORCH].speedup == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    text = str(found)
    assert "LoopedMLP, batch 8, centered, 30 + " in text and "CPU (" in text
    assert "compiling pays back" in text and "reference" in text


def test_the_settings_reach_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_compile(monkeypatch, True)
    found = measure_speed(
        net(), X, Y, "response", free_steps=3, nudged_steps=2, steps=1, compiled=False
    )
    assert list(found.ways) == [TORCH, KERNEL, ALONE] and not found.absent
    assert "response, 3 + 2 steps" in found.subject
    assert max(way.apart for way in found.ways.values()) < 1e-5


def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_compile(monkeypatch, False)
    found = measure_speed(net(), X, Y, steps=2)
    note = found.ways[COMPILED].note
    assert note == "it failed and ran eagerly, RuntimeError: no C++ compiler more lines"
    assert found.ways[COMPILED].apart == 0
    assert f"torch.compile: {note}" in str(found) and "pays back" not in str(found)


def test_a_model_the_kernel_has_not_is_measured_without_it() -> None:
    conv = ConvEqProp(1, 4, 3, image_size=4)
    found = measure_speed(conv, X.reshape(8, 1, 4, 4), Y, steps=1, compiled=False)
    assert list(found.ways) == [TORCH] and set(found.absent) == {KERNEL, ALONE}
    assert "kernel is not here: use_kernel=True does not go with this model" in str(found)
    assert found.quickest == TORCH and "nothing here is surely faster" in str(found)


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (X[:, :5], Y, "x must hold a batch of 16 features"),
        (X[:0], Y[:0], "x must hold at least one sample"),
        (X, Y[:3], "y must have one target per sample"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(x: Any, y: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        measure_speed(net(), x, y, compiled=False)


def test_another_gradient_is_no_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = EqPropKernel.gradients

    def negative(self: EqPropKernel, x: Any, y: Any) -> Any:
        return {name: -value for name, value in real(self, x, y).items()}

    monkeypatch.setattr(EqPropKernel, "gradients", negative)
    small = "--input 16 --hidden 12 --output 3 --batch 8 --steps 2 --device cpu --no-compile"
    assert command.main(small.split()) == 1
    assert "kernel alone does NOT compute torch's gradient: 200% apart" in capsys.readouterr().out


def timing(seconds: float, low: float, apart: float = 0.0, first: float = 0.0) -> Timing:
    return Timing(first, seconds, 1.2 * low, low, 2 * low, apart)


def test_the_quickest_is_one_that_is_sure_and_right() -> None:
    ways = {TORCH: timing(1.0, 1.0), KERNEL: timing(0.8, 1.1), ALONE: timing(0.7, 0.9)}
    assert SpeedCheck("", "", ways).quickest == KERNEL
    ways[KERNEL] = timing(0.8, 1.1, apart=0.5)
    assert SpeedCheck("", "", ways).quickest == TORCH


def test_what_a_compilation_costs_is_paid_back_or_not() -> None:
    torch_way = timing(1.0, 1.0, first=1.0)
    assert timing(0.5, 1.5, first=21.0).pays_back(torch_way) == 40
    assert timing(1.5, 0.5, first=21.0).pays_back(torch_way) == float("inf")
    assert timing(0.5, 1.5, first=0.5).pays_back(torch_way) == 0


def test_the_command_measures_and_refuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = "--input 16 --hidden 12 --output 3 --batch 8 --steps 2 --device cpu --no-compile"
    assert command.main([*small.split(), "--threads", "1"]) == 0
    assert capsys.readouterr().out.startswith("16-12-3: LoopedMLP, batch 8, centered")
    for wrong in (["--hidden", "0"], ["--device", "cuda:99"], ["--threads", "-1"]):
        assert command.main([*small.split(), *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err
    monkeypatch.setattr(speed.torch.cuda, "get_device_name", lambda _: "A GPU")
    assert speed.machine(torch.device("cuda", 0)).startswith("A GPU, torch 2.")
    assert speed.machine(torch.device("mps")).startswith("MPS, ")

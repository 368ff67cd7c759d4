"""The twelve checks pass here, and each of them fails when what it checks is broken."""

from __future__ import annotations

import copy
import importlib
import re
from typing import Any

import pytest
import torch
from torch import Tensor

import eqprop_lab
from eqprop_lab.commands import verify
from eqprop_lab.equilibrium.spectral import BoundedNorm
from eqprop_lab.experiments import presets
from eqprop_lab.kernel import EqPropKernel
from eqprop_lab.kernel.bound import Bound
from eqprop_lab.models import LoopedMLP
from eqprop_lab.models.language import LoopedMLPForLM, directed
from eqprop_lab.models.vision import ResNetCifar
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.training.kernel_gradients import KernelGradients


def test_all_twelve_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "12 of 12 checks passed" and len(printed) == 13
    assert all(line.startswith("ok") for line in printed[:-1]) and "269,322" in printed[1]


def test_a_missing_name_or_a_broken_module_fails_the_imports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eqprop_lab, "__all__", [*eqprop_lab.__all__, "NotThere"])
    ok, line = verify.check_imports()
    assert not ok and "NotThere" in line
    monkeypatch.undo()
    real = importlib.import_module

    def broken(name: str) -> Any:
        if name == "eqprop_lab.training.trainer":
            raise SyntaxError("half a file")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    ok, line = verify.check_imports()
    assert not ok and "eqprop_lab.training.trainer (SyntaxError: half a file)" in line


def test_another_parameter_count_or_wrong_logits_fail_the_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        verify, "LoopedMLP", lambda a, h, c, seed: LoopedMLP(a, h + 1, c, seed=seed)
    )
    ok, line = verify.check_models()
    assert not ok and "LoopedMLP 270,631" in line
    monkeypatch.undo()
    monkeypatch.setattr(LoopedMLP, "readout", lambda self, state: self.W_out(state[0]) / 0)
    ok, line = verify.check_models()
    assert not ok and "NOT finite" in line
    monkeypatch.undo()
    monkeypatch.setattr(verify, "ResNetCifar", lambda d, c, seed: ResNetCifar(d, c, shortcut="B"))
    ok, line = verify.check_models()
    assert not ok and "ResNet-20 272,474 NOT 269,722, DenseNet3(40) 176,122 parameters" in line


# it does not settle: that is the fault
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_a_norm_above_the_cap_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def unbounded(self: LoopedMLP, *arguments: Any, **named: Any) -> None:
        real(self, *arguments, **{**named, "use_spectral_norm": False})

    real = LoopedMLP.__init__
    monkeypatch.setattr(LoopedMLP, "__init__", unbounded)
    ok, line = verify.check_spectral_norm()
    assert not ok and "cap 0.9" in line


def test_a_certificate_that_flatters_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopedMLP, "contraction_bound", lambda self: 0.5)
    ok, line = verify.check_spectral_norm()
    assert not ok and "certificate 0.5000" in line


def test_a_wrong_gradient_fails_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    real = BoundedNorm.pull_back
    monkeypatch.setattr(BoundedNorm, "pull_back", lambda self, a, g: 1.01 * real(self, a, g))
    ok, line = verify.check_trainer()
    assert not ok and "gradient error 1.0e-02" in line


def test_a_trainer_that_goes_uphill_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = EqPropTrainer.train_batch

    def uphill(self: EqPropTrainer, x: torch.Tensor, y: torch.Tensor) -> Any:
        before = copy.deepcopy(self.model.state_dict())
        result = real(self, x, y)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(2 * before[name] - parameter)
        return result

    monkeypatch.setattr(EqPropTrainer, "train_batch", uphill)
    ok, line = verify.check_trainer()
    assert not ok and "validation loss 2." in line


def test_a_kernel_that_differs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Bound.pull_back

    def other(self: Bound, product: Any, matrix: Any, v: Any, scale: Any, out: Any) -> None:
        real(self, product, matrix, v, scale, out)
        out *= 1.01

    monkeypatch.setattr(Bound, "pull_back", other)
    ok, line = verify.check_kernel()
    assert not ok and "gradient error 1.0e-02" in line


def test_a_kernel_that_the_trainer_uses_wrongly_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = KernelGradients.__call__

    def late(self: KernelGradients, x: Tensor, y: Tensor) -> Any:
        return real(self, x, y.roll(1))

    monkeypatch.setattr(KernelGradients, "__call__", late)
    ok, line = verify.check_kernel()
    found = re.search(r"weights after 10 steps (\S+) from torch's", line)
    assert not ok and found and float(found[1]) > 1e-3


def test_a_kernel_that_goes_uphill_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = EqPropKernel.train_step

    def uphill(self: EqPropKernel, x: Any, y: Any) -> Any:
        before = self._flat.copy()
        found = real(self, x, y)
        self._flat[...] = 2 * before - self._flat
        return found

    monkeypatch.setattr(EqPropKernel, "train_step", uphill)
    ok, line = verify.check_kernel()
    assert not ok and "alone on one batch 2." in line


# with the future in its past it does not settle either
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_a_model_that_sees_the_future_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def past_and_future(bias: Tensor, strict: bool) -> Tensor:
        place = torch.arange(bias.shape[1])
        return torch.nn.functional.pad(bias[:, (place[:, None] - place).abs()], (1, 0))

    monkeypatch.setattr(directed, "bias_table", past_and_future)
    monkeypatch.setattr(verify, "language_error", lambda estimator: 0.0)
    ok, line = verify.check_language()
    assert not ok and "leak 0.0" not in line


def test_a_model_that_is_blind_is_no_model_without_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        LoopedMLPForLM, "features", lambda self, x: self.window(torch.zeros_like(x))
    )
    with pytest.raises(ArithmeticError, match="looped_mlp does not see its last token"):
        verify.largest_leak()


def test_plain_eqprop_of_a_directed_model_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = verify.estimate_gradients

    def symmetric(model: Any, x: Any, y: Any, estimator: str, **options: Any) -> Any:
        return real(model, x, y, "centered", **options)

    monkeypatch.setattr(verify, "estimate_gradients", symmetric)
    monkeypatch.setattr(verify, "largest_leak", lambda: 0.0)
    ok, line = verify.check_language()
    error = re.search(r"gradient error of full (\S+)", line)
    assert not ok and error and float(error[1]) > 0.2


def test_a_language_model_that_learns_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    monkeypatch.setattr(verify, "largest_leak", lambda: 0.0)
    monkeypatch.setattr(verify, "language_error", lambda estimator: 0.0)
    assert not verify.check_language()[0]


def test_overrides_without_effect_and_missing_presets_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    real = presets.create_model_preset
    monkeypatch.setattr(presets, "create_model_preset", lambda name, **overrides: real(name))
    ok, line = verify.check_presets()
    assert not ok and "the override hidden_dim=96" in line and "an unknown override" in line
    monkeypatch.undo()
    monkeypatch.setattr(
        presets,
        "create_model_preset",
        lambda name, **o: real(name, **({"max_steps": 7, **o} if name == "mnist_large" else o)),
    )
    ok, line = verify.check_presets()
    assert not ok and "mnist_large.max_steps" in line
    monkeypatch.undo()
    monkeypatch.setattr(presets, "list_presets", lambda constructible=False: ["mnist_small"])
    assert verify.check_presets() == (False, "wrong: presets are missing (1 construct)")


def test_an_optional_package_that_is_installed_but_broken_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_find, real_import = importlib.util.find_spec, importlib.import_module
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: True if name == "onnx" else real_find(name)
    )

    def broken(name: str) -> Any:
        if name == "onnx":
            raise RuntimeError("wrong protobuf\nmore")
        return real_import(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    ok, line = verify.check_optional()
    assert not ok and "installed but broken: onnx (RuntimeError: wrong protobuf)" in line


def test_a_check_that_raises_is_a_failure_and_the_exit_status_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> verify.Result:
        raise ArithmeticError("no arithmetic today")

    monkeypatch.setattr(verify, "CHECKS", {"one": lambda: (True, "fine"), "two": broken})
    assert verify.main([]) == 1
    printed = capsys.readouterr().out
    assert "FAILED  two" in printed and "ArithmeticError: no arithmetic today" in printed
    assert printed.splitlines()[-1] == "1 of 2 checks passed"

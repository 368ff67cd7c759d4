"""Devices, the CuPy probe, and a compile that falls back where it fails: at the first call."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import eqprop_lab
from eqprop_lab import (
    BackpropMLP,
    EqPropTrainer,
    LoopedMLP,
    acceleration,
    compile_model,
    estimate_gradients,
    estimate_memory_usage,
)
from eqprop_lab.acceleration import (
    CompiledCall,
    check_cupy_available,
    enable_tf32,
    get_optimal_backend,
    pick_device,
    quick_convolutions,
    readable_tf32,
    uncompile_model,
)

X, Y = torch.linspace(0, 1, 8 * 16).reshape(8, 16), torch.arange(8) % 3


def test_the_best_backend_is_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, best in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert get_optimal_backend() == best
        assert pick_device() == torch.device(best)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("cpu") == torch.device("cpu") and pick_device("cuda:0") == torch.device(
        "cuda:0"
    )
    for device in ("cuda:1", "cpu:1", "xpu"):
        with pytest.raises(ValueError, match=r"has cpu \(1\), cuda \(1\).*" + device):
            pick_device(device)
    with pytest.raises(ValueError, match="must name a torch device"):
        pick_device("graphics card")


@pytest.fixture
def cudnn() -> Iterator[Any]:
    """cuDNN's switches, which are as they were when the test is over."""
    switches: Any = torch.backends.cudnn
    before = switches.allow_tf32
    products = torch.backends.cuda.matmul.fp32_precision
    yield switches
    switches.allow_tf32 = before  # sets the newer two along with it
    torch.backends.cuda.matmul.fp32_precision = products


def test_tf32_is_switched_on_and_off(cudnn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for enabled, precision in ((True, "tf32"), (False, "ieee")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert enable_tf32(enabled) is False  # there is no device that could use it
        assert torch.backends.cuda.matmul.fp32_precision == precision
        assert cudnn.conv.fp32_precision == precision
        # torch's own export and cudnn.flags read the old switch, and raise where it differs
        assert cudnn.allow_tf32 is enabled
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert enable_tf32() is True and enable_tf32(False) is False


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("new", ["ieee", "tf32"])
def test_switches_that_disagree_can_be_read_for_a_while(cudnn: Any, old: bool, new: str) -> None:
    cudnn.allow_tf32 = old
    cudnn.conv.fp32_precision = new
    with readable_tf32():
        assert cudnn.allow_tf32 is old
    assert cudnn.conv.fp32_precision == new
    cudnn.conv.fp32_precision = "ieee" if old else "tf32"
    with pytest.raises(RuntimeError, match="different TF32 flags"):
        _ = cudnn.allow_tf32  # so it is torch that cannot


def fake_cupy(ones: Any) -> SimpleNamespace:
    return SimpleNamespace(__version__="99.0", ones=ones)


def test_cupy_is_available_only_if_a_device_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert check_cupy_available()[0] is False and "does not import" in check_cupy_available()[1]
    assert not acceleration.HAS_CUPY and not eqprop_lab.HAS_CUPY

    def broken(_: int) -> torch.Tensor:
        raise RuntimeError("cudaErrorNoDevice: no device\nmore lines")

    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(broken))
    assert check_cupy_available() == (
        False,
        "CuPy 99.0 has no usable device: cudaErrorNoDevice: no device",
    )
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(torch.zeros))
    assert check_cupy_available() == (False, "CuPy 99.0 adds 1 + 1 to 0.0")
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(torch.ones))
    assert check_cupy_available() == (True, "CuPy 99.0") and bool(acceleration.HAS_CUPY)
    with pytest.raises(AttributeError, match="HAS_NOTHING"):
        getattr(acceleration, "_".join(["HAS", "NOTHING"]))


def test_compiled_gradients_follow_the_weights() -> None:
    model = LoopedMLP(16, 8, 3, seed=0)
    twin = copy.deepcopy(model)
    keys = list(model.state_dict())
    assert compile_model(model, backend="eager") is model and list(model.state_dict()) == keys
    for _ in range(2):
        expected, got = (estimate_gradients(m, X, Y) for m in (twin, model))
        for name, gradient in expected.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            for m in (model, twin):
                m.W_rec.parametrizations.weight.original.mul_(0.5)
    call = model.__dict__["step"]
    assert isinstance(call, CompiledCall) and call.compiled is not None and not call.failed


def test_a_module_of_another_kind_is_compiled_as_a_whole() -> None:
    model = BackpropMLP(16, 8, 3, seed=0)
    expected = model(X)
    torch.testing.assert_close(compile_model(model, backend="eager")(X), expected)
    assert model.__dict__["forward"].compiled is not None
    EqPropTrainer(model, gradient="autograd").fit([(X, Y)], epochs=1)
    assert not torch.equal(model(X), expected)


def test_copies_compile_anew_for_their_own_weights() -> None:
    model = compile_model(LoopedMLP(16, 8, 3, seed=0), backend="eager")
    estimate_gradients(model, X, Y)
    plain = compile_model(BackpropMLP(16, 8, 3, seed=0), backend="eager")
    plain(X)
    for original, twin in (
        (model, copy.deepcopy(model)),
        (plain, pickle.loads(pickle.dumps(plain))),
    ):
        method = "step" if original is model else "forward"
        before, after = original.__dict__[method], twin.__dict__[method]
        assert before.compiled is not None and before.model is original
        assert after.compiled is None and after.model is twin
    with torch.no_grad():
        twin.layers[0].weight.zero_()
    assert not torch.equal(twin(X), plain(X))


def test_uncompiling_leaves_no_trace() -> None:
    model = LoopedMLP(16, 8, 3, seed=0)
    kept = dict(model.__dict__)
    assert uncompile_model(compile_model(model)) is model and model.__dict__ == kept
    assert uncompile_model(model) is model
    compile_model(model, backend="eager")
    assert estimate_memory_usage(model, (16,), 4) == estimate_memory_usage(
        uncompile_model(model), (16,), 4
    )


def test_a_compiler_that_fails_is_left_at_the_first_call_with_one_warning() -> None:
    def no_compiler(graph: object, inputs: object) -> Any:
        raise RuntimeError("no C++ compiler found")

    model = LoopedMLP(16, 8, 3, seed=0)
    expected = estimate_gradients(model, X, Y)
    compile_model(model, backend=no_compiler)  # lazy: nothing happens here
    with pytest.warns(
        RuntimeWarning, match="torch.compile failed, LoopedMLP.step runs eagerly.*"
    ) as caught:
        first = estimate_gradients(model, X, Y)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = estimate_gradients(model, X, Y)
    for name, gradient in expected.items():
        assert torch.equal(first[name], gradient) and torch.equal(second[name], gradient)


def test_states_of_the_fallback_are_those_of_the_eager_model_bit_for_bit() -> None:
    def no_compiler(graph: object, inputs: object) -> Any:
        raise RuntimeError("no C++ compiler found")

    model = LoopedMLP(64, 128, 3, seed=0)
    x = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    eager = eqprop_lab.relax(model, x).state[0]
    compile_model(model, backend=no_compiler)
    with pytest.warns(RuntimeWarning, match="torch.compile failed"):
        first = eqprop_lab.relax(model, x).state[0]
    assert torch.equal(first, eager) and torch.equal(eqprop_lab.relax(model, x).state[0], eager)


def test_what_a_compiled_model_does_not_compile_it_walks() -> None:
    """Nudged phases take the quick loop of the eager model; free ones are stepped, compiled."""
    taken: list[tuple[bool, bool]] = []

    class Watched(LoopedMLP):
        def walk(self, state: Any, drive: Any, nudge: Any, count: int, spare: Any) -> Any:
            found = super().walk(state, drive, nudge, count, spare)
            taken.append((nudge is not None, found is not None))
            return found

    model = compile_model(Watched(16, 8, 3, seed=0), backend="eager")
    found = estimate_gradients(model, X, Y)
    assert taken == [(False, False), (True, True)]
    assert model.__dict__["step"].compiled is not None
    for name, gradient in estimate_gradients(uncompile_model(model), X, Y).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)
    assert taken[2:] == [(False, True), (True, True)]


def test_an_error_of_the_model_itself_is_not_hidden() -> None:
    class Broken(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise ArithmeticError("this model is broken")

    with pytest.raises(ArithmeticError, match="this model is broken"):
        compile_model(Broken(2, 2), backend="eager")(torch.zeros(1, 2))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'reduce-overhead'"):
        compile_model(nn.Linear(2, 2), "reduce_overhead")
    with pytest.raises(TypeError, match="must be a torch.nn.Module, got str"):
        compile_model("model")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt belongs to glibc")
def test_freed_memory_is_kept_for_the_next_tensors() -> None:
    # Page faults of a fresh process, with and without: each 4 MB that goes back to the system costs
    # 1,000 of them. The threshold is fixed at its usual start, which glibc may have raised by
    # itself, depending on what was freed before.
    fixed = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
    code = (
        "import resource, torch\n"
        "from eqprop_lab.acceleration import keep_freed_memory\n"
        "assert {kept} is False or keep_freed_memory() is True\n"
        "def work():\n"
        "    for _ in range(50):\n"
        "        a = [torch.zeros(1 << 20) for _ in range(4)]\n"
        "work(); before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; work()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = [
        int(subprocess.check_output([sys.executable, "-c", code.format(kept=kept)], env=fixed))
        for kept in (True, False)
    ]
    assert faults[0] < 0.1 * faults[1]


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_quick_convolutions_are_a_matter_of_cuda(cudnn: Any, precision: str) -> None:
    cudnn.conv.fp32_precision = precision  # as somebody leaves it
    before = cudnn.benchmark, cudnn.deterministic, precision
    with quick_convolutions(torch.device("cpu")):
        assert (cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision) == before
    with quick_convolutions(torch.device("cuda")):
        assert cudnn.benchmark and not cudnn.deterministic
        assert cudnn.conv.fp32_precision == "tf32"
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision) == before

"""The checks of the kernel, on a processor: they run, and a wrong number fails them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab.gpu import kernel, limits
from eqprop_lab.gpu.limits import against_limits, milliseconds_of, step_bytes, step_flops
from eqprop_lab.kernel import EqPropKernel
from eqprop_lab.training.kernel_gradients import KernelGradients

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:use_kernel=True computes with NumPy:UserWarning")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "FEATURES", 12)
    monkeypatch.setattr(kernel, "HIDDEN", 8)
    monkeypatch.setattr(kernel, "CASES", (("float64", 9, 3, 1e-8), ("float32", 9, 3, 1e-3)))
    monkeypatch.setattr(kernel, "SIZES", ((8, 4), (16, 6)))
    for name in ("LARGE", "COPIED"):
        monkeypatch.setattr(limits, name, {"cpu": 64})
    limits.measured_limits.cache_clear()


def test_parity_holds_between_equals_and_notices_a_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = kernel.kernel_parity(CPU)
    assert figures["ok"] and figures["float32_weights"] == 0 and figures["loss_ratio"] < 1
    calls: list[int] = []
    plain = EqPropKernel.gradients

    def off(self: EqPropKernel, x: Any, y: Any) -> dict[str, Any]:
        calls.append(1)
        # every second call is the reference's
        return {n: g * (1 + 1e-4 * (len(calls) % 2)) for n, g in plain(self, x, y).items()}

    monkeypatch.setattr(EqPropKernel, "gradients", off)
    figures = kernel.kernel_parity(CPU)
    assert not figures["ok"] and figures["float64_centered"] == pytest.approx(1e-4, rel=1e-3)


def test_the_trainer_is_compared_with_the_torch_path(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = kernel.kernel_trainer(CPU)
    assert figures["ok"] and figures["float64 9 units, 3 steps"] < 1e-10
    plain = KernelGradients.__call__

    def off(self: KernelGradients, x: Any, y: Any) -> Any:
        found = plain(self, x, y)
        found[0].gradients["W_out.bias"].mul_(1.1)
        return found

    monkeypatch.setattr(KernelGradients, "__call__", off)
    assert not kernel.kernel_trainer(CPU)["ok"]


def test_times_have_a_row_for_each_size_and_path() -> None:
    figures = kernel.kernel_time(CPU)
    assert figures["ok"] and list(figures)[2:] == ["784-8-10 batch 4", "784-16-10 batch 6"]
    row = figures["784-8-10 batch 4"]
    for path in ("kernel", "products", "torch", "use_kernel"):
        assert row[f"{path}_ms"] > 0
    assert row["share_of_fp32"] == row["flop_floor_ms"] / row["kernel_ms"]


def test_a_path_that_fails_is_named_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(kernel, "products", broken)
    figures = kernel.kernel_time(CPU)
    row = figures["784-16-10 batch 6"]
    assert not figures["ok"] and row["products_failed"] == "MemoryError: no room"
    assert row["torch_ms"] > 0


def test_the_parts_of_a_step_take_some_time() -> None:
    figures = kernel.kernel_parts(CPU)
    row = figures["784-8-10 batch 4"]
    assert list(figures) == ["ok", "784-8-10 batch 4"] and all(value > 0 for value in row.values())
    assert {"vector_ms", "estimate_ms", "product_ms", "activate_ms"} <= set(row)


def test_on_a_cpu_there_are_no_graphs_and_no_pools() -> None:
    assert all("skipped" in run(CPU) for run in (kernel.kernel_graph, kernel.kernel_memory))


def test_flops_and_bytes_of_a_step() -> None:
    """Against a count over the products themselves."""
    features, hidden, classes, batch, free, nudged = 5, 7, 3, 11, 4, 2
    relaxed = [(batch, hidden, hidden)] * free
    both = [(2 * batch, hidden, classes), (2 * batch, hidden + classes, hidden)] * nudged
    ends = [(batch, features, hidden), (hidden, batch, features), (hidden, batch, hidden)]
    ends += [(batch, hidden, classes), (classes, batch, hidden)]
    shape = (features, hidden, classes, batch, free, nudged)
    products = [*relaxed, *both, *ends]
    assert step_flops(*shape) == sum(2 * m * k * n for m, k, n in products)
    moved = sum(m * k + k * n + m * n for m, k, n in [*relaxed, *both, *ends[:1]])
    assert step_bytes(*shape, size=8) > 8 * moved
    assert step_bytes(*shape, size=8) == 2 * step_bytes(*shape)


def test_a_step_beside_the_limits() -> None:
    shape = dict.fromkeys(("features", "hidden", "classes", "batch", "free", "nudged"), 10)
    found = against_limits(2.0, shape, {"copy_gb_s": 1.0, "fp32_tflop_s": 1e-6})
    assert found["flop_floor_ms"] == pytest.approx(1e3 * found["gflop"] / 1e-6 / 1e3)
    assert found["byte_ms"] == pytest.approx(1e3 * found["gbyte"])
    assert found["share_of_fp32"] == pytest.approx(found["flop_floor_ms"] / 2)


def test_a_median_of_calls_that_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(limits, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    calls: list[int] = []

    def run() -> None:
        calls.append(1)
        now[0] += 0.5

    assert milliseconds_of(run, CPU, repeats=20, warm=2, limit=2.0) == 500
    assert len(calls) == 5
    calls.clear()
    assert milliseconds_of(run, CPU, repeats=1, warm=9, limit=0.1) == 500 and len(calls) == 10


def test_errors_are_relative_to_the_second() -> None:
    one, other = np.array([3.0, 4.0]), np.array([3.0, 0.0])
    assert kernel.error(one, other) == pytest.approx(4 / 3)
    assert kernel.worst({"a": one, "b": one}, {"a": one, "b": other}) == pytest.approx(4 / 3)

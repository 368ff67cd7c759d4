"""What a step costs is counted by the same operations that the kernel does, and ends when told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eqprop_lab import EqPropKernel
from eqprop_lab.devices import capability
from eqprop_lab.instruments import kernel_costs
from eqprop_lab.instruments.kernel_costs import Size, milliseconds, step_costs

SMALL = Size(hidden=12, steps=6, batch=5, features=7, classes=3)


class Counting:
    """NumPy that adds up the multiplications of its matrix products."""

    __name__ = "numpy"

    def __init__(self) -> None:
        self.multiplications = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def matmul(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        self.multiplications += a.shape[0] * a.shape[1] * b.shape[1]
        return np.matmul(a, b, out=out)


def test_the_products_are_those_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """And as many multiplications as the module says, but for what a first nudged step saves."""
    (features, hidden, classes), batch = SMALL.layers, SMALL.batch
    counting = Counting()
    kernel = EqPropKernel(*SMALL.layers, arrays=counting, use_spectral_norm=False, **SMALL.phases)
    kernel.gradients(*SMALL.samples())
    bare = Counting()
    monkeypatch.setattr(kernel_costs, "np", bare)
    kernel_costs.products(SMALL)()
    free, nudged = SMALL.phases["free_steps"], SMALL.phases["nudged_steps"]
    by_formula = (
        batch
        * hidden
        * (2 * features + (free + 2 * nudged + 1) * hidden + (4 * nudged + 2) * classes)
    )
    assert bare.multiplications == by_formula
    # both signs begin at the free state: one product with W, one thin one, and its logits are known
    saved = batch * hidden * (hidden + 3 * classes)
    assert counting.multiplications == by_formula - saved


def test_memory_of_the_kernel_is_flat_and_that_of_bptt_pays_a_state_a_step() -> None:
    few, many = Size(32, 30, 64, 20, 4), Size(32, 300, 64, 20, 4)
    kernel_costs.kernel_memory(few)  # what Python keeps of a first call
    flat = [kernel_costs.kernel_memory(size) for size in (few, many)]
    assert flat[1] == pytest.approx(flat[0], rel=0.01)
    climbing = [kernel_costs.torch_memory(size, "bptt") for size in (few, many)]
    state = 4 * 32 * 64 / 2**20
    assert climbing[1] - climbing[0] == pytest.approx(270 * state, rel=0.01)


def test_a_row_has_all_that_the_table_has() -> None:
    row = step_costs(SMALL, repeats=1)
    assert (row["hidden"], row["steps"]) == (12, 6)
    times = [row[f"{name}_ms"] for name in ("kernel", "products", "torch", "bptt")]
    assert all(value > 0 for value in [*times, row["kernel_mib"], row["bptt_mib"]])
    assert row["kernel_ms"] > row["products_ms"]


def test_runs_are_taken_in_turn_and_a_pause_may_end_them() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}

    def pause() -> None:
        if len(order) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        milliseconds(runs, 3, pause)
    assert "".join(order) == "ababa"
    with pytest.raises(ValueError, match="repeats"):
        milliseconds(runs, 0)


def test_a_size_is_checked_and_settles_a_third_as_long_when_nudged() -> None:
    assert Size(4, 30).phases == {"free_steps": 30, "nudged_steps": 10}
    assert Size(4, 2).phases["nudged_steps"] == 1
    with pytest.raises(ValueError, match="steps"):
        Size(4, 0)


def test_the_capability_names_both() -> None:
    assert capability().startswith("torch ") and "NumPy" in capability()

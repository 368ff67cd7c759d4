"""Digits by the kernel alone: the stored runs, one run anew, and what the script adds to Adam."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eqprop_lab import LoopedMLP, build_dataset, estimate_gradients
from tests.benchmarks.digits_kernel import decayed_step, digits, make, one_cycle, stored, train

RECIPE = stored("digits_looped_mlp")["recipe"]


def mean(name: str) -> float:
    return statistics.mean(row["test_accuracy"] for row in stored(name)["eqprop"])


def test_the_stored_accuracy_is_within_a_point_of_the_looped_mlp() -> None:
    found, other = stored("digits_kernel"), stored("digits_looped_mlp")
    for name in ("recipe", "sizes", "parameters", "samples", "estimator", "seeds"):
        assert found[name] == other[name], name
    assert len(found["eqprop"]) == len(found["seeds"]) == 5
    assert abs(mean("digits_kernel") - mean("digits_looped_mlp")) <= 0.01
    assert all(max(row["norm"]) < 0.9 for row in found["eqprop"])


def test_a_run_anew_reads_the_digits() -> None:
    """On unseen validation images, so that the test images stay unseen."""
    row = train(RECIPE, 5, digits() | {"test": digits()["validation"]})
    assert row.keys() == stored("digits_kernel")["eqprop"][0].keys()
    assert row["val_accuracy"][-1] == pytest.approx(row["test_accuracy"], abs=1e-4)
    assert row["test_accuracy"] > 0.94
    assert row["val_accuracy"][-1] > row["val_accuracy"][0]


def test_the_images_are_those_of_the_data_set() -> None:
    data, parts = build_dataset("digits"), digits()
    for part in ("train", "validation", "test"):
        split = getattr(data, part)
        assert np.array_equal(parts[part][0], split.x.flatten(1).numpy())
        assert np.array_equal(parts[part][1], split.y.numpy())


@pytest.mark.parametrize("steps", [3, 40, 600])
def test_the_rates_are_those_of_torch(steps: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.05, total_steps=steps, cycle_momentum=False
    )
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(list(one_cycle(0.05, steps)), expected, rtol=1e-9)


def test_the_decay_is_that_of_adamw() -> None:
    kernel = make(RECIPE | {"hidden_dim": 16}, 0, dtype="float64")
    model = kernel.to_model(LoopedMLP)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RECIPE["lr"], weight_decay=0.1)
    x, y = digits()["train"]
    for begin in range(0, 320, 32):
        rows = slice(begin, begin + 32)
        found = estimate_gradients(
            model, torch.from_numpy(x[rows]).double(), torch.from_numpy(y[rows]), beta=0.03,
            free_steps=RECIPE["free_steps"], nudged_steps=RECIPE["nudged_steps"],
        )  # fmt: skip
        for name, parameter in model.named_parameters():
            parameter.grad = found[name]
        optimizer.step()
        decayed_step(kernel, x[rows].astype(np.float64), y[rows], 0.1)
    for name, parameter in model.named_parameters():
        expected = parameter.detach().numpy()
        assert np.linalg.norm(kernel.parameters[name] - expected) < 1e-8 * np.linalg.norm(expected)


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    code = "import sys, tests.benchmarks.digits_kernel as d; d.digits(); d.make({}, 0)"
    code = code.replace("{}", repr(RECIPE)) + "; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Counts, norms, and a memory estimate held against what torch's profiler sees of a real training
step.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from eqprop_lab import (
    BackpropMLP,
    EqPropTrainer,
    LoopedMLP,
    RecurrentEqPropLM,
    compute_gradient_norm,
    count_parameters,
    estimate_memory_usage,
)
from eqprop_lab.instruments.memory import MIB, MemoryTimeline, tensor_bytes


def test_count_parameters() -> None:
    model = LoopedMLP(784, 256, 10)
    assert count_parameters(model) == count_parameters(BackpropMLP(784, 256, 10)) == 269_322
    model.W_out.bias.requires_grad_(False)
    assert (
        count_parameters(model) == 269_312
        and count_parameters(model, trainable_only=False) == 269_322
    )


def test_compute_gradient_norm() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="has no gradients"):
        compute_gradient_norm(model)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert compute_gradient_norm(model) == pytest.approx(5.0)
    model.bias.grad = torch.tensor([12.0])
    assert compute_gradient_norm(model) == pytest.approx(13.0)


def measured_peak(
    model: nn.Module, batch: int, gradient: str, optimizer: str, **options: Any
) -> float:
    """Allocation peak of two training steps as the profiler saw it, and what was there before, in
    MiB.
    """
    from torch.profiler import ProfilerActivity, profile

    x, y = torch.rand(batch, 64), torch.arange(batch) % 10
    before = tensor_bytes([list(model.parameters()), list(model.buffers()), x, y])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        # The first step makes the gradients and moments that the second one finds.
        trainer = EqPropTrainer(model, gradient, optimizer, progress=False, **options)
        trainer.train_batch(x, y)
        trainer.train_batch(x, y)
    live = peak = 0
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return (before + peak) / MIB


@pytest.mark.parametrize(
    ("hidden", "batch", "gradient", "optimizer"),
    [
        (32, 1, "centered", "adam"),
        (64, 128, "centered", "adam"),
        (256, 16, "centered", "sgd"),
        (64, 128, "bptt", "adam"),
        (128, 32, "implicit", "adamw"),
        (64, 64, "holomorphic", "adam"),
        (32, 8, "autograd", "adam"),
        (256, 128, "autograd", "adam"),
    ],
)
def test_memory_estimate_is_within_a_fifth_of_the_measured_peak(
    hidden: int, batch: int, gradient: str, optimizer: str
) -> None:
    model = (BackpropMLP if gradient == "autograd" else LoopedMLP)(64, hidden, 10, seed=0)
    estimate = estimate_memory_usage(model, (64,), batch, gradient, optimizer)
    assert estimate["total_mb"] == pytest.approx(
        measured_peak(model, batch, gradient, optimizer), rel=0.2
    )
    parts = ("parameters_mb", "gradients_mb", "optimizer_mb", "states_mb")
    assert sum(estimate[part] for part in parts) == pytest.approx(estimate["total_mb"])
    trained = count_parameters(model) * 4 / MIB
    assert estimate["gradients_mb"] == pytest.approx(trained)
    assert estimate["optimizer_mb"] == pytest.approx(
        {"sgd": 1, "adam": 2, "adamw": 2}[optimizer] * trained, rel=0.01
    )


def test_memory_of_eqprop_is_flat_in_the_steps_and_of_bptt_is_not() -> None:
    model = LoopedMLP(64, 64, 10)

    def states(gradient: str, steps: int) -> float:
        return estimate_memory_usage(model, (64,), 64, gradient, free_steps=steps)["states_mb"]

    assert states("centered", 200) == pytest.approx(states("centered", 10), rel=0.01)
    assert states("bptt", 100) > 5 * states("bptt", 10)


def test_memory_estimate_leaves_model_and_generators_alone() -> None:
    model = LoopedMLP(1 * 8 * 8, 16, 10, seed=0)
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert estimate_memory_usage(model, (1, 8, 8), 4) == estimate_memory_usage(model, (1, 8, 8), 4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and torch.equal(
        generator, torch.get_rng_state()
    )


def test_memory_estimate_is_the_same_for_every_start_of_the_weights() -> None:
    # Sigma's vectors are followed in as many rounds as the weights ask for: two steps need not run
    # the same operations.
    models = [LoopedMLP(784, 128, 10, seed=seed) for seed in range(12)]
    assert len({estimate_memory_usage(model, (784,), 64)["total_mb"] for model in models}) == 1


def test_memory_estimate_refuses_what_it_cannot_know() -> None:
    model = LoopedMLP(8, 4, 2)
    with pytest.raises(ValueError, match="tol must be None"):
        estimate_memory_usage(model, (8,), tol=1e-3)
    with pytest.raises(ValueError, match="batch_size"):
        estimate_memory_usage(model, (8,), batch_size=0)
    with pytest.raises(TypeError, match="input_shape"):
        estimate_memory_usage(model, (8.0,))  # type: ignore[arg-type]

    class Uneven(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) if len(input) < 3 else super().forward(input) + 1

    with pytest.raises(ValueError, match="the same operations"):
        estimate_memory_usage(Uneven(8, 2), (8,))


def test_timeline_counts_what_lives() -> None:
    held = torch.zeros(256)
    with MemoryTimeline([held, {"again": held}]) as timeline:
        a = torch.ones(1024)
        view = a[:10]
        assert timeline.live[-1] == 1024 + 4096
        del a
        b = view + 1  # the view keeps the whole storage
        assert timeline.live[-1] == 1024 + 4096 + 40
        del view, held
        c = b + 1
        assert timeline.live[-1] == 80
    assert timeline.peak == 1024 + 4096 + 40 and math.isfinite(float(c.sum()))


def test_memory_of_a_model_of_tokens_is_that_of_a_real_step() -> None:
    model = RecurrentEqPropLM(20, 16, max_seq_len=8, seed=0)
    trainer = EqPropTrainer(copy.deepcopy(model), progress=False)
    x = torch.randint(20, (6, 9))
    trainer.train_batch(x[:, :-1], x[:, 1:])
    with MemoryTimeline([*trainer.model.parameters(), *trainer.model.buffers()]) as timeline:
        trainer.train_batch(x[:, :-1], x[:, 1:])
    held = tensor_bytes([p.grad for p in trainer.model.parameters()])
    held += tensor_bytes([list(state.values()) for state in trainer.optimizer.state.values()])
    estimate = estimate_memory_usage(model, (8,), 6, trainer.gradient)
    assert estimate["total_mb"] == pytest.approx((timeline.peak + held) / MIB, rel=0.1)

"""Schedules: the rates they give, and fits too short for their shape."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab import EqPropTrainer, LoopedMLP
from eqprop_lab.training.optim import SHORTEST, laid_out

BATCH = torch.rand(4, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])


class Rates:
    """Notes the rate of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_fit_start(self, trainer: EqPropTrainer) -> None:
        self.seen.append(trainer.optimizer.param_groups[0]["lr"])

    def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int | None) -> None:
        self.seen.append(trainer.optimizer.param_groups[0]["lr"])


def rates(trainer: EqPropTrainer, batches: int, epochs: int = 1) -> list[float]:
    """The rates at which a fit takes its steps."""
    rates = Rates()
    trainer.fit([BATCH] * batches, epochs, callbacks=[rates])
    return rates.seen[:-1]  # the last one is that of a step that is not taken


def make(schedule: str, **options: object) -> EqPropTrainer:
    return EqPropTrainer(
        LoopedMLP(8, 4, 3, seed=0, max_steps=3), lr=0.1, schedule=schedule, **options
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", SHORTEST)
def test_a_fit_too_short_for_its_schedule_is_refused_before_any_step(schedule: str) -> None:
    for steps in range(1, SHORTEST[schedule]):
        trainer = make(schedule)
        before = trainer.model.W_out.weight.clone()
        with pytest.raises(
            ValueError,
            match=f"schedule='{schedule}' needs at least {SHORTEST[schedule]} steps .* {steps}",
        ):
            trainer.fit([BATCH] * steps, 1)
        with pytest.raises(ValueError, match=rf"{steps} \({steps} epochs of 1 batches\)"):
            trainer.fit([BATCH], steps)
        assert torch.equal(before, trainer.model.W_out.weight)


def test_the_shortest_schedules_have_their_shape() -> None:
    seen = rates(make("one_cycle"), SHORTEST["one_cycle"])
    assert max(seen) >= 0.09 and seen[-1] < 1e-5
    assert rates(make("cosine"), SHORTEST["cosine"]) == pytest.approx([0.1, 0.05])


@pytest.mark.parametrize("schedule", SHORTEST)
def test_a_schedule_goes_up_to_the_rate_of_the_optimiser_that_was_given(schedule: str) -> None:
    trainer = EqPropTrainer(
        LoopedMLP(8, 4, 3, seed=0, max_steps=3),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.5),
        schedule=schedule,
    )
    assert max(rates(trainer, 20)) > 0.45
    assert max(rates(trainer, 20)) > 0.45, "a second fit starts from the same rate"


def test_an_empty_loader_is_named_before_its_schedule() -> None:
    with pytest.raises(ValueError, match="this fit has 0|empty"):
        make("one_cycle").fit([], 3)


def test_gradients_get_the_layout_that_fused_optimisers_need() -> None:
    gradient = torch.arange(24.0).view(2, 3, 2, 2)
    parameter = torch.nn.Parameter(
        torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    )
    optimizer = torch.optim.SGD([parameter], lr=1.0, fused=True)
    parameter.grad = laid_out(gradient.clone(), parameter)
    optimizer.step()
    assert torch.equal(parameter.detach(), -gradient)

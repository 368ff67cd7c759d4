"""The model of data parallelism: against a ring that is walked message by message."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from eqprop_lab.instruments import scaling
from eqprop_lab.instruments.scaling import (
    Link,
    StepTime,
    measured_step,
    message_bytes,
    speed_up,
    step_parts,
)


def ring(size: float, ranks: int, latency: float, bandwidth: float) -> float:
    """Each rank holds R pieces; every round each sends one to its neighbour, twice around."""
    held = [[{rank} for _ in range(ranks)] for rank in range(ranks)]
    clock, rounds = 0.0, 0
    while any(len(piece) < ranks for pieces in held for piece in pieces):
        sent = [(r, (r - rounds) % ranks) for r in range(ranks)]
        arriving = [((r + 1) % ranks, k, set(held[r][k])) for r, k in sent]
        for rank, k, what in arriving:
            held[rank][k] |= what
        clock += latency + size / ranks / bandwidth
        rounds += 1
    return clock


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_the_ring_takes_as_long_as_its_messages(ranks: int) -> None:
    found = float(Link(3e-5, 1e9).all_reduce(4e6, ranks))
    assert found == pytest.approx(ring(4e6, ranks, 3e-5, 1e9), rel=1e-12)


def test_a_message_holds_gradients_costs_and_logits() -> None:
    assert message_bytes(1000, 64, 10) == 4 * (1000 + 64 * 11)
    assert message_bytes(1000, 64, 10, itemsize=8) == 8 * (1000 + 64 * 11)


def test_the_speed_up_is_the_time_of_one_over_that_of_all() -> None:
    step, link = StepTime(2e-3, 1e-4), Link(1e-4, 1e8)
    ranks = np.array([1, 2, 7, 64])
    found = speed_up(step, link, 64, 1e5, ranks)
    for count, gain in zip(ranks, found, strict=True):
        share = math.ceil(64 / count)
        time = 2e-3 + 1e-4 * share + ring(1e5, int(count), 1e-4, 1e8)
        assert gain == pytest.approx((2e-3 + 64e-4) / time, rel=1e-12)
    work, sent = step_parts(step, link, 64, 1e5, 7)
    assert work == pytest.approx(3e-3) and sent == pytest.approx(ring(1e5, 7, 1e-4, 1e8))
    free = speed_up(StepTime(0.0, 1e-4), Link(0.0, 1e30), 64, 1e5, ranks)
    assert list(free[:2]) == pytest.approx([1, 2])


def test_a_measured_line_is_the_one_that_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    noise = iter([5e-3, 0.0] * 20)

    def run(samples: int) -> None:
        clock[0] += 1e-3 + 2e-5 * samples + next(noise)

    monkeypatch.setattr(scaling.time, "process_time", lambda: clock[0])
    step = measured_step(run, [16, 64, 256], repeats=2)
    assert (step.fixed, step.sample) == (pytest.approx(1e-3), pytest.approx(2e-5))


def test_what_cannot_be_is_refused() -> None:
    for make, told in (
        (lambda: Link(-1.0, 1.0), "latency must be"),
        (lambda: Link(0.0, 0.0), "bandwidth must be"),
        (lambda: StepTime(-1.0, 1.0), "fixed must be"),
        (lambda: StepTime(0.0, 0.0), "sample must be"),
        (lambda: message_bytes(0, 1, 1), "parameters must be"),
        (lambda: measured_step(print, [4, 4]), "two different counts"),
    ):
        with pytest.raises(ValueError, match=told):
            make()


@pytest.mark.parametrize("ranks", [0, -1, 2.5, math.nan, None, "two", np.array([1, 0])], ids=str)
def test_ranks_are_whole_numbers(ranks: Any) -> None:
    for call in (
        lambda: Link(0.0, 1.0).all_reduce(1.0, ranks),
        lambda: speed_up(StepTime(0.0, 1.0), Link(0.0, 1.0), 8, 1.0, ranks),
    ):
        with pytest.raises(ValueError, match="ranks must be integers >= 1"):
            call()
    with pytest.raises(ValueError, match="size must be a finite number >= 0"):
        Link(0.0, 1.0).all_reduce(-1.0, 2)

"""Answers to the exercises of notebook 18 as learners give them."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.course.answers import right, wrong

Pair = tuple[float, float]

# --- peak


@wrong("peak", "the peak moves")
def peaks_alone(two: Tensor, four: Tensor, batch: int) -> float:
    slope = (four.max() - two.max()) / 2
    return float(two.max() + slope * (batch - 2))


@wrong("peak", "differ by two samples")
def slope_of_two(two: Tensor, four: Tensor, batch: int) -> float:
    return float((two + (four - two) * (batch - 2)).max())


@wrong("peak", "starts at 2 samples")
def from_nothing(two: Tensor, four: Tensor, batch: int) -> float:
    return float((two + (four - two) / 2 * batch).max())


@wrong("peak", "the constant part does not grow")
def in_proportion(two: Tensor, four: Tensor, batch: int) -> float:
    return float((two * batch / 2).max())


@right("peak")
def from_the_other_end(two: Tensor, four: Tensor, batch: int) -> float:
    share = (batch - 2) / 2
    return float(torch.lerp(two, four, share).amax())


# --- when_to_stop


@wrong("when_to_stop", "starts the count again")
def all_told(losses: list[float], patience: int) -> Pair:
    best, at, waited = float("inf"), 1, 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, at = loss, epoch
        else:
            waited += 1
        if waited >= patience:
            break
    return at, epoch


@wrong("when_to_stop", "an equal loss is no progress")
def equal_is_fine(losses: list[float], patience: int) -> Pair:
    best, at = float("inf"), 1
    for epoch, loss in enumerate(losses, 1):
        if loss <= best:
            best, at = loss, epoch
        if epoch - at >= patience:
            break
    return at, epoch


@wrong("when_to_stop", "not one later")
def one_more(losses: list[float], patience: int) -> Pair:
    best, at = float("inf"), 1
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, at = loss, epoch
        if epoch - at > patience:
            break
    return at, epoch


@wrong("when_to_stop", "epochs count from 1")
def from_zero(losses: list[float], patience: int) -> Pair:
    best, at = float("inf"), 0
    for epoch, loss in enumerate(losses):
        if loss < best:
            best, at = loss, epoch
        if epoch - at >= patience:
            break
    return at, epoch


@wrong("when_to_stop", "the best epoch is not the last one")
def last_twice(losses: list[float], patience: int) -> Pair:
    best, at = float("inf"), 1
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, at = loss, epoch
        if epoch - at >= patience:
            break
    return epoch, epoch


@right("when_to_stop")
def by_slices(losses: list[float], patience: int) -> Pair:
    for last in range(1, len(losses) + 1):
        at = losses.index(min(losses[:last])) + 1
        if last - at >= patience:
            break
    return at, last


# --- choose


def order(accuracy: Tensor, total: Tensor, fits: Tensor) -> list[int]:
    keys = [(-float(accuracy[i]), float(total[i]), i) for i in range(len(total)) if fits[i]]
    return [i for _, _, i in sorted(keys)]


@wrong("choose", "the batch takes memory too")
def fixed_part_fits(
    fixed: Tensor, each: Tensor, accuracy: Tensor, batch: int, budget: float
) -> float:
    found = order(accuracy, fixed + each * batch, fixed <= budget)
    return found[0] if found else -1


@wrong("choose", "it has to fit into the budget")
def most_accurate(
    fixed: Tensor, each: Tensor, accuracy: Tensor, batch: int, budget: float
) -> float:
    return order(accuracy, fixed + each * batch, torch.ones_like(fixed))[0]


@wrong("choose", "among equally accurate ones")
def largest_of_equal(
    fixed: Tensor, each: Tensor, accuracy: Tensor, batch: int, budget: float
) -> float:
    total = fixed + each * batch
    found = order(accuracy, -total, total <= budget)
    return found[0] if found else -1


@wrong("choose", "-1 if none fits")
def zero_for_none(
    fixed: Tensor, each: Tensor, accuracy: Tensor, batch: int, budget: float
) -> float:
    total = fixed + each * batch
    found = order(accuracy, total, total <= budget)
    return found[0] if found else 0


@right("choose")
def by_order(fixed: Tensor, each: Tensor, accuracy: Tensor, batch: int, budget: float) -> float:
    total = fixed + each * batch
    found = order(accuracy, total, total <= budget)
    return found[0] if found else -1

"""Optimisers by name, and learning-rate schedules over the batches of one fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.training.batches import length
from eqprop_lab.validation import one_of

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
# Steps. With one, one_cycle would train at 4e-6 of the rate asked for; with two it never reaches
# that rate.
SHORTEST = {"one_cycle": 3, "cosine": 2}
SCHEDULES = tuple(SHORTEST)
Scheduler = torch.optim.lr_scheduler.LRScheduler


def make_optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer],
    model: nn.Module,
    lr: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """A named optimiser (SGD with momentum 0.9), or what the function makes of the parameters.

    Raises ValueError naming the argument.
    """
    if callable(optimizer):
        return optimizer(model.parameters())
    build = OPTIMIZERS[one_of("optimizer", optimizer, OPTIMIZERS)]
    extra: dict[str, Any] = {"momentum": 0.9} if optimizer == "sgd" else {}
    # The fused kernels do the same arithmetic in one pass; they exist for these two kinds of
    # device.
    extra["fused"] = next(model.parameters()).device.type in ("cpu", "cuda")
    return build(model.parameters(), lr=lr, weight_decay=weight_decay, **extra)


def laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """The gradient in the memory layout of its parameter: fused optimisers pair by place."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def make_schedule(
    schedule: str | None, optimizer: torch.optim.Optimizer, loader: object, epochs: int
) -> Scheduler | None:
    """A step a batch: "one_cycle" (up to the optimiser's rates and down) or "cosine" (down); None.

    Raises TypeError for a loader without a length, ValueError for fewer steps than the shape needs.
    """
    if schedule is None:
        return None
    batches = length(loader)
    if batches is None:
        raise TypeError(
            f"schedule={schedule!r} needs a train_loader with a length, got {type(loader).__name__}"
        )
    steps = epochs * batches
    if steps < SHORTEST[schedule]:
        raise ValueError(
            f"schedule={schedule!r} needs at least {SHORTEST[schedule]} steps to take its shape, "
            f"this fit has {steps} ({epochs} epochs of {batches} batches); leave it out, or train "
            "longer"
        )
    # An earlier fit has left its last, smallest rate: what the optimiser was given is kept beside
    # it.
    rates = [
        group.get("max_lr", group.get("initial_lr", group["lr"]))
        for group in optimizer.param_groups
    ]
    if schedule == "cosine":
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rates, total_steps=steps, cycle_momentum=False
    )

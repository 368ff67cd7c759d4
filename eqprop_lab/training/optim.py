"""Optimisers by name, and learning-rate schedules over the batches of one fit."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.validation import one_of

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
SCHEDULES = ("one_cycle", "cosine")
Scheduler = torch.optim.lr_scheduler.LRScheduler


def make_optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer], model: nn.Module, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """A named optimiser (SGD with momentum 0.9), or what the given function makes of the parameters.

    Raises ValueError naming the argument.
    """
    if callable(optimizer):
        return optimizer(model.parameters())
    build = OPTIMIZERS[one_of("optimizer", optimizer, OPTIMIZERS)]
    extra: dict[str, Any] = {"momentum": 0.9} if optimizer == "sgd" else {}
    # The fused kernels do the same arithmetic in one pass; they exist for these two kinds of device.
    extra["fused"] = next(model.parameters()).device.type in ("cpu", "cuda")
    return build(model.parameters(), lr=lr, weight_decay=weight_decay, **extra)


def laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """The gradient in the memory layout of its parameter: fused optimisers pair numbers by their place in memory."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def make_schedule(
    schedule: str | None, optimizer: torch.optim.Optimizer, lr: float, loader: object, epochs: int
) -> Scheduler | None:
    """None, "one_cycle" (up to `lr` and down again) or "cosine" (down from `lr`), stepped once a batch.

    Raises TypeError for a loader without a length.
    """
    if schedule is None:
        return None
    if not isinstance(loader, Sized):
        raise TypeError(f"schedule={schedule!r} needs a train_loader with a length, got {type(loader).__name__}")
    steps = epochs * len(loader)
    if schedule == "cosine":
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])  # an earlier fit has left its last, smallest rate
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, cycle_momentum=False)

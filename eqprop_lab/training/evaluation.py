"""Accuracy, cost and residual of a model over a loader, at its free state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.inputs import check_pair
from eqprop_lab.equilibrium.relaxation import settle
from eqprop_lab.equilibrium.solvers import make_solver
from eqprop_lab.training.batches import check_loader, pair
from eqprop_lab.training.history import BatchError

if TYPE_CHECKING:
    from eqprop_lab.training.trainer import EqPropTrainer


def correct(logits: Tensor, y: Tensor) -> int:
    """How many samples have their largest logit at the label (or at the largest target)."""
    labels = y.argmax(1) if y.is_floating_point() else y
    return int((logits.argmax(1) == labels).sum())


def free_logits(trainer: EqPropTrainer, x: Tensor) -> tuple[Tensor, float]:
    """(logits at the free state, its residual): `model.max_steps` steps at most, up to `eval_tol`
    where one is set.
    """
    model = trainer.model
    if not isinstance(model, EquilibriumModel):
        return trainer.logits(x), math.nan
    model.check_batch(x)
    drive = model.drive(x)
    solver = (
        None
        if trainer.eval_tol is None or trainer.settings is None
        else make_solver(trainer.settings.solver)
    )
    start = model.initial_state(drive)
    end = settle(
        model, start, drive, max_steps=model.max_steps, tol=trainer.eval_tol, solver=solver
    )
    return model.readout(end.state), end.residual


@torch.no_grad()
def evaluate(trainer: EqPropTrainer, loader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """See `EqPropTrainer.evaluate`."""
    trainer.model.eval()
    loss_sum, right, seen, residual = 0.0, 0, 0, math.nan
    check_loader("loader", loader, 1)
    for number, item in enumerate(loader, start=1):
        try:
            x, y = pair(item, trainer.device)
            check_pair(x, y)
            logits, moved = free_logits(trainer, x)
            loss = make_cost(trainer.cost, y, logits.shape[1], logits).value(logits)
        except Exception as error:
            raise BatchError(f"evaluation, batch {number}: {error}") from error
        residual = moved if math.isnan(residual) else max(residual, moved)
        loss_sum, seen = loss_sum + float(loss.sum()), seen + len(x)
        right += correct(logits, y)
    if seen == 0:
        raise ValueError("loader is empty: it must yield at least one batch (x, y)")
    return {
        "accuracy": right / seen,
        "loss": loss_sum / seen,
        "residual": residual,
        "samples": seen,
    }

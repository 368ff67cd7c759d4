"""Accuracy, cost and residual over a loader, of what gives logits and a residual for a batch.

    perplexity = exp(L),    bits per character = L / (ln 2 * characters a token)

L is the mean cost in nats a token. The last two for targets that are tokens (B, T).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.inputs import check_pair
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, free_state
from eqprop_lab.equilibrium.solvers import PICARD, make_solver
from eqprop_lab.training.batches import check_loader, pair
from eqprop_lab.training.history import BatchError, worse

Answers = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, float]]
OVERFLOW = 700.0  # nats of which exp still is a number


def correct(logits: Tensor, y: Tensor) -> int:
    """How many samples have their largest logit at the label (or at the largest target)."""
    labels = y.argmax(1) if y.is_floating_point() else y.flatten()
    return int((logits.argmax(1) == labels).sum())


def free_logits(
    model: EquilibriumModel, x: Tensor, tol: float | None, solver: str
) -> tuple[Tensor, float]:
    """(logits at the free state, its residual) after `model.max_steps` steps, or from `tol` on.

    solver: what it settles with where there is a tol.
    """
    model.check_batch(x)
    chosen = PICARD if tol is None else make_solver(solver)
    _, end = free_state(model, x, max_steps=model.max_steps, tol=tol, solver=chosen)
    if end.missed is not None:
        warnings.warn(end.missed, ConvergenceWarning, stacklevel=2)
    return model.readout(end.state), end.residual


@torch.no_grad()
def evaluate(
    answers: Answers, loader: Iterable[object], cost: str, device: torch.device
) -> dict[str, float]:
    """See `EqPropTrainer.evaluate`. answers: (x, y) -> logits, targets, one row each,
    and the residual, nan where nothing settles."""
    loss_sum, right, seen = 0.0, 0, 0
    residual = math.nan
    check_loader("loader", loader, 1)
    for number, item in enumerate(loader, start=1):
        try:
            x, y = pair(item, device)
            check_pair(x, y)
            logits, targets, moved = answers(x, y)
            loss = make_cost(cost, targets, logits.shape[1], logits).value(logits)
        except Exception as error:
            raise BatchError(f"evaluation, batch {number}: {error}") from error
        residual = worse(residual, moved)
        loss_sum += float(loss.sum())
        right += correct(logits, y)
        seen += len(loss)
    if seen == 0:
        raise ValueError("loader is empty: it must yield at least one batch (x, y)")
    found = {
        "accuracy": right / seen,
        "loss": loss_sum / seen,
        "residual": residual,
        "samples": seen,
    }
    tokens = y.ndim == 2 and not y.is_floating_point()
    return found | (of_text(found["loss"], loader) if tokens else {})


def of_text(loss: float, loader: object) -> dict[str, float]:
    """Nats a token in the units of language models; a loader says how many characters a token
    has.
    """
    characters = float(getattr(loader, "characters_per_token", 1.0))
    return {
        "perplexity": math.exp(min(loss, OVERFLOW)),
        "bits_per_character": loss / (math.log(2) * characters),
    }

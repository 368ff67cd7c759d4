"""EqPropTrainer: batch -> gradient estimate -> `.grad` -> any torch optimiser -> history.

    theta <- optimiser(theta, dL/dtheta),    dL/dtheta from an estimator (equilibrium models) or from autograd
    (ordinary modules)

The loop is the same for both; only the source of `.grad` differs, so an EqProp network and its backprop twin are
trained alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import ESTIMATORS, Settings, estimate, make_settings
from eqprop_lab.equilibrium.relaxation import settle
from eqprop_lab.models.base import EquilibriumModel
from eqprop_lab.validation import one_of, positive_int, real

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
Batches = Iterable[tuple[Tensor, Tensor]]
Record = dict[str, Any]


class StopTraining(Exception):
    """Raised by a callback to end `fit` cleanly; the history so far is returned."""


class BatchError(RuntimeError):
    """A batch that failed; the message names the epoch and the batch, the cause is chained."""


class History(dict[str, list[Any]]):
    """Curves of a training, one entry an epoch.

    Keys: "epoch", "estimator", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "residual" (worst free-phase
    residual of the epoch), "norm" (certified contraction bound after it; nan for ordinary modules), "seconds" (wall
    time of the training part).
    """

    def append(self, record: Record) -> None:
        """Add one epoch."""
        for key, value in record.items():
            self.setdefault(key, []).append(value)


class EqPropTrainer:
    """Trains a model with gradients from an EqProp estimator, or from autograd for ordinary modules.

    Args:
        model: an EquilibriumModel, or any nn.Module (x -> logits) with ``gradient="autograd"``.
        gradient: an estimator name ("centered", "bptt") or "autograd".
        optimizer: "adam", "adamw", "sgd", or a function (parameters) -> torch Optimizer (`lr`, `weight_decay` are
        then its own). lr > 0; beta > 0, free_steps, nudged_steps, tol: as in `estimate_gradients`; weight_decay >= 0.
        schedule: None, "one_cycle" (up to `lr` and down again) or "cosine" (down from `lr`), over the batches of
        one `fit`. cost: "cross_entropy" or "mse". device: default, where the model is. progress: True, False, None
        (only on a terminal).
    Raises: TypeError, ValueError naming the argument, before any training.
    """

    def __init__(
        self,
        model: nn.Module,
        gradient: str = "centered",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adam",
        lr: float = 1e-3,
        beta: float = 0.03,
        *,
        free_steps: int | None = None,
        nudged_steps: int | None = None,
        tol: float | None = None,
        weight_decay: float = 0.0,
        schedule: str | None = None,
        cost: str = "cross_entropy",
        device: str | torch.device | None = None,
        progress: bool | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.gradient = one_of("gradient", gradient, [*ESTIMATORS, "autograd"])
        if gradient != "autograd" and not isinstance(model, EquilibriumModel):
            raise TypeError(
                f"gradient={gradient!r} needs an EquilibriumModel, got {type(model).__name__}; "
                "ordinary modules train with gradient='autograd'"
            )
        self.model = model if device is None else model.to(device)
        self.device = next(model.parameters()).device
        self.settings: Settings | None = None
        if isinstance(model, EquilibriumModel):
            self.settings = make_settings(model, beta, free_steps, nudged_steps, tol)
        self.cost = one_of("cost", cost, ("cross_entropy", "mse"))
        rate, decay = real("lr", lr, above=0.0), real("weight_decay", weight_decay, at_least=0.0)
        if callable(optimizer):
            self.optimizer = optimizer(model.parameters())
        else:
            build = OPTIMIZERS[one_of("optimizer", optimizer, OPTIMIZERS)]
            extra: dict[str, Any] = {"momentum": 0.9} if optimizer == "sgd" else {}
            # The fused kernels do the same arithmetic in one pass; they exist for these two kinds of device.
            extra["fused"] = self.device.type in ("cpu", "cuda")
            self.optimizer = build(model.parameters(), lr=rate, weight_decay=decay, **extra)
        self.lr = rate
        self.schedule = None if schedule is None else one_of("schedule", schedule, ("one_cycle", "cosine"))
        self.scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
        self.progress = progress
        self.history = History()

    def train_batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """One update; returns (cost per sample (B,), logits (B, K), free-phase residual)."""
        if self.gradient == "autograd":
            self.optimizer.zero_grad(set_to_none=True)
            logits = self._logits(x)
            loss = make_cost(self.cost, y, logits.shape[1], logits).value(logits)
            loss.mean().backward()
            residual = math.nan
        else:
            assert isinstance(self.model, EquilibriumModel) and self.settings is not None
            result, loss = estimate(self.model, x, y, self.gradient, self.settings, self.cost)
            for name, parameter in self.model.named_parameters():
                parameter.grad = result.gradients.get(name)
            logits, residual = result.logits, result.free.residual
        if not bool(torch.isfinite(loss).all()):
            raise ValueError("the cost is not finite; nothing was updated")
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return loss.detach(), logits.detach(), residual

    def _logits(self, x: Tensor) -> Tensor:
        check = getattr(self.model, "check_batch", None)
        if check is not None:
            check(x)
        return self.model(x)

    def fit(
        self, train_loader: Batches, epochs: int = 10, val_loader: Batches | None = None, callbacks: Sequence[Any] = ()
    ) -> History:
        """Train for `epochs` more epochs and return the history of all of them.

        callbacks: functions called with the epoch's record, or objects with `on_batch_end(trainer, batch, batches)`
        and/or `on_epoch_end(trainer, record)`; raising StopTraining ends the fit cleanly.
        Raises: BatchError naming epoch and batch (from 1) of the first failure; ValueError for an empty loader.
        """
        positive_int("epochs", epochs)
        for callback in callbacks:
            if not (callable(callback) or hasattr(callback, "on_epoch_end") or hasattr(callback, "on_batch_end")):
                raise TypeError(f"callbacks must be functions or have on_epoch_end / on_batch_end, got {callback!r}")
        first = len(self.history.get("epoch", [])) + 1
        self.scheduler = self._schedule(train_loader, epochs)
        try:
            for epoch in range(first, first + epochs):
                record = self._epoch(epoch, train_loader, callbacks)
                if val_loader is not None:
                    result = self.evaluate(val_loader)
                    record |= {"val_loss": result["loss"], "val_accuracy": result["accuracy"]}
                self.history.append(record)
                for callback in callbacks:
                    if hasattr(callback, "on_epoch_end"):
                        callback.on_epoch_end(self, record)
                    elif callable(callback):
                        callback(record)
        except StopTraining:
            pass
        return self.history

    def _schedule(self, loader: Batches, epochs: int) -> torch.optim.lr_scheduler.LRScheduler | None:
        if self.schedule is None:
            return None
        if not isinstance(loader, Sized):
            raise TypeError(
                f"schedule={self.schedule!r} needs a train_loader with a length, got {type(loader).__name__}"
            )
        steps = epochs * len(loader)
        if self.schedule == "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)
        return torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=self.lr, total_steps=steps, cycle_momentum=False
        )

    def _epoch(self, epoch: int, loader: Batches, callbacks: Sequence[Any]) -> Record:
        self.model.train()
        watchers = [c for c in callbacks if hasattr(c, "on_batch_end")]
        total = len(loader) if isinstance(loader, Sized) else None
        loss_sum, correct, seen, residual = 0.0, 0, 0, math.nan
        start = time.perf_counter()
        shown = None if self.progress is None else not self.progress
        for number, (x, y) in enumerate(tqdm(loader, f"epoch {epoch}", total, leave=False, disable=shown), start=1):
            try:
                loss, logits, moved = self.train_batch(x.to(self.device), y.to(self.device))
            except Exception as error:
                raise BatchError(f"epoch {epoch}, batch {number}: {error}") from error
            loss_sum, seen = loss_sum + float(loss.sum()), seen + len(loss)
            correct += _correct(logits, y.to(self.device))
            residual = moved if math.isnan(residual) else max(residual, moved)
            for watcher in watchers:
                watcher.on_batch_end(self, number, total)
        if seen == 0:
            raise ValueError("train_loader is empty: it must yield at least one batch (x, y)")
        seconds = time.perf_counter() - start
        norm = self.model.contraction_bound() if isinstance(self.model, EquilibriumModel) else math.nan
        return {
            "epoch": epoch,
            "estimator": self.gradient,
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            "residual": residual,
            "norm": norm,
            "seconds": seconds,
        }

    @torch.no_grad()
    def evaluate(self, loader: Batches) -> dict[str, float]:
        """{"accuracy", "loss", "residual", "samples"} over a loader; residual: worst free-phase residual, nan for
        ordinary modules.

        Raises BatchError for the first batch that fails (none is skipped), ValueError for an empty loader.
        """
        self.model.eval()
        loss_sum, correct, seen, residual = 0.0, 0, 0, math.nan
        for number, (x, y) in enumerate(loader, start=1):
            x, y = x.to(self.device), y.to(self.device)
            try:
                if isinstance(self.model, EquilibriumModel):
                    self.model.check_batch(x)
                    drive = self.model.drive(x)
                    end = settle(self.model, self.model.initial_state(drive), drive, max_steps=self.model.max_steps)
                    logits = self.model.readout(end.state)
                    residual = end.residual if math.isnan(residual) else max(residual, end.residual)
                else:
                    logits = self._logits(x)
                loss = make_cost(self.cost, y, logits.shape[1], logits).value(logits)
            except Exception as error:
                raise BatchError(f"evaluation, batch {number}: {error}") from error
            loss_sum, seen = loss_sum + float(loss.sum()), seen + len(x)
            correct += _correct(logits, y)
        if seen == 0:
            raise ValueError("loader is empty: it must yield at least one batch (x, y)")
        return {"accuracy": correct / seen, "loss": loss_sum / seen, "residual": residual, "samples": seen}


def _correct(logits: Tensor, y: Tensor) -> int:
    labels = y.argmax(1) if y.is_floating_point() else y
    return int((logits.argmax(1) == labels).sum())

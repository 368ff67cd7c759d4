"""EqPropTrainer: batch -> gradient estimate -> `.grad` -> any torch optimiser -> history.

    theta <- optimiser(theta, dL/dtheta),    dL/dtheta from an estimator, from autograd, or from a
                                             learning rule of the model's own

The loop is the same for all: an EqProp network and its backprop twin are trained alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.acceleration import compile_model, keep_freed_memory, quick_convolutions
from eqprop_lab.devices import pick_device
from eqprop_lab.equilibrium.block import EquilibriumBlock, evaluating, reporting
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import ESTIMATORS, Settings, estimate, make_settings
from eqprop_lab.equilibrium.inputs import check_pair
from eqprop_lab.equilibrium.requirements import check_trainable, original
from eqprop_lab.equilibrium.sigma_vector import tracked
from eqprop_lab.equilibrium.spectral import bounded_weights, follow_updates, sigma_error
from eqprop_lab.models.local_rule import LocalRule
from eqprop_lab.modules import a_module
from eqprop_lab.training import checkpoint, evaluation
from eqprop_lab.training.batches import (
    by_row,
    check_loader,
    check_logits,
    hold_out,
    length,
    pair,
)
from eqprop_lab.training.callbacks import ModelCheckpoint
from eqprop_lab.training.finite import check_parameters, check_step, unspoiled
from eqprop_lab.training.history import BatchError, History, Record, StopTraining, worse
from eqprop_lab.training.hooks import Callbacks
from eqprop_lab.training.kernel_gradients import KernelGradients
from eqprop_lab.training.local import LOCAL, check_source, check_unused
from eqprop_lab.training.optim import SCHEDULES, laid_out, make_optimizer
from eqprop_lab.training.precision import LowPrecision, autocast, check_amp
from eqprop_lab.training.progress import progress_bar
from eqprop_lab.training.settling import Settling
from eqprop_lab.training.state import TrainingState
from eqprop_lab.training.symbols import shared_vocab, take_vocab
from eqprop_lab.validation import a_path, one_of, positive_int, real, switch

Batches = Iterable[tuple[Tensor, Tensor]]


class EqPropTrainer:
    """Trains a model with gradients from an estimator, or from autograd for ordinary modules.

    Args:
        model: an EquilibriumModel, or any nn.Module (x -> logits) with ``gradient="autograd"``.
        gradient: an estimator name ("centered", "bptt"), None for the one that suits the model
        (its own rule, "local", where it has one; `centered`, or `asymmetric` where it is directed),
        or "autograd". An ordinary module with EquilibriumBlocks takes any: theirs is the estimator,
        autograd does the rest. Of gradient, beta and the phases, what is left out is as each block
        was built with it, what is given goes for all of them.
        optimizer: "adam", "adamw", "sgd", or a function (parameters) -> torch Optimizer (`lr`,
        `weight_decay` are then its own). lr > 0; weight_decay >= 0; beta, free_steps, nudged_steps,
        tol, solver: as in `estimate_gradients`, None for the defaults there. eval_tol: relative
        residual at which the free phase of an evaluation stops (None: after `model.max_steps`
        steps).
        schedule: None, "one_cycle" (up to `lr` and down again) or "cosine" (down from `lr`), over
        the batches of one `fit`. cost: "cross_entropy" or "mse". clip_norm > 0: scale the gradient
        down to at most this l2 norm.
        amp: bfloat16 products, only where that is safe (see `precision`). use_compile:
        torch.compile the step; on a CPU it does not pay (measured 0.6 to 1.0 times the speed, see
        `acceleration`). quick_kernels: for convolutions on a GPU: weights in channels_last order,
        TF32, the quickest kernel for every shape (about 1e-3 relative, and no two runs are alike).
        use_kernel: the gradients of a LoopedMLP from `EqPropKernel`, on the memory of its tensors
        (see `kernel_gradients`; what the kernel cannot express is refused). device: where the model
        is.
        progress: True, False, None (only on a terminal).
    Raises: TypeError, ValueError naming the argument, before any training.
    """

    def __init__(
        self,
        model: nn.Module,
        gradient: str | None = None,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adam",
        lr: float = 1e-3,
        beta: float | str | None = None,
        *,
        free_steps: int | None = None,
        nudged_steps: int | None = None,
        tol: float | None = None,
        solver: str | None = None,
        eval_tol: float | None = None,
        weight_decay: float = 0.0,
        schedule: str | None = None,
        cost: str = "cross_entropy",
        clip_norm: float | None = None,
        amp: bool = False,
        use_compile: bool = False,
        quick_kernels: bool = False,
        use_kernel: bool = False,
        device: str | torch.device | None = None,
        progress: bool | None = None,
    ) -> None:
        a_module("model", model)
        # Of a model that torch.compile has wrapped, the forward call is the compiled one; all else
        # is the model's own.
        self.called = model
        model = original(model)
        check_trainable(model)
        self.blocks = [m for m in model.modules() if isinstance(m, EquilibriumBlock)]
        asked: dict[str, Any] = {
            "estimator": gradient, "beta": beta, "free_steps": free_steps,
            "nudged_steps": nudged_steps, "tol": tol, "solver": solver,
        }  # fmt: skip
        given = {name: value for name, value in asked.items() if value is not None}
        self.gradient = gradient = self._source(model, gradient)
        check_source(model, gradient)
        relaxes = isinstance(model, EquilibriumModel) or self.blocks
        if gradient not in ("autograd", LOCAL) and not relaxes:
            raise TypeError(
                f"gradient={gradient!r} needs an EquilibriumModel, got {type(model).__name__}; "
                "ordinary modules train with gradient='autograd'"
            )
        self.model = model if device is None else model.to(pick_device(device))
        if switch("use_compile", use_compile):
            compile_model(self.model)
        self.quick_kernels = switch("quick_kernels", quick_kernels)
        if quick_kernels:
            # the order in which tensor cores read kernels; states are then written in it too
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = next(model.parameters()).device
        keep_freed_memory()
        self.settings: Settings | None = None
        if gradient == LOCAL:
            unseen = {"cost": cost, "amp": amp, "use_kernel": use_kernel}
            check_unused(given | unseen, EqPropTrainer)
        elif isinstance(model, EquilibriumModel):
            self.settings = make_settings(model, **given | {"estimator": gradient})
        elif gradient != "autograd":
            for block in self.blocks:
                block.ask(**given)
                self.settings = block.settings
        self.eval_tol = None if eval_tol is None else real("eval_tol", eval_tol, above=0.0)
        self.cost = one_of("cost", cost, ("cross_entropy", "mse"))
        self.clip_norm = None if clip_norm is None else real("clip_norm", clip_norm, above=0.0)
        self.amp = check_amp(amp, gradient)
        self.kernel: KernelGradients | None = None
        if switch("use_kernel", use_kernel):
            others = {"amp": self.amp, "use_compile": use_compile}
            self.kernel = KernelGradients(model, gradient, self.settings, self.cost, **others)
        # What the estimator relaxes: the model, or a view of it with rounded products.
        self.relaxed = LowPrecision(model) if amp and isinstance(model, EquilibriumModel) else model
        # walking the modules costs more than a small product
        self.parameters = dict(self.model.named_parameters())
        # What a forward pass of an ordinary module may move; an equilibrium model moves nothing.
        self.statistics = [] if isinstance(model, EquilibriumModel) else list(self.model.buffers())
        self.bounds = bounded_weights(self.model)
        self.lr = real("lr", lr, above=0.0)
        self.weight_decay = real("weight_decay", weight_decay, at_least=0.0)
        self.optimizer = make_optimizer(optimizer, self.model, self.lr, self.weight_decay)
        self.schedule = None if schedule is None else one_of("schedule", schedule, SCHEDULES)
        self.progress = None if progress is None else switch("progress", progress)
        self.settling = Settling()
        self.state = TrainingState(self.model, self.optimizer, self.schedule, self.describe())
        self.history = self.state.history

    def _source(self, model: nn.Module, gradient: str | None) -> str:
        """Where gradients come from: the name that was given, or what suits the model."""
        if gradient is not None:
            return one_of("gradient", gradient, [*ESTIMATORS, "autograd", LOCAL])
        if isinstance(model, LocalRule):
            return LOCAL
        if isinstance(model, EquilibriumModel):
            return model.estimator
        own = dict.fromkeys(block.own["estimator"] for block in self.blocks)
        return ", ".join(own) or "centered"

    def describe(self) -> dict[str, Any]:
        """The settings as plain values: what loggers note and what a resumed fit must share."""
        names = (
            "gradient", "cost", "lr", "weight_decay", "schedule", "clip_norm", "amp", "eval_tol",
        )  # fmt: skip
        return {
            "model": type(self.model).__name__,
            "optimizer": type(self.optimizer).__name__,
            **{name: getattr(self, name) for name in names},
            **({} if self.settings is None else asdict(self.settings)),
            **self._differing(),
            **({} if self.kernel is None else {"use_kernel": True}),
        }

    def _differing(self) -> dict[str, Any]:
        """What the blocks of an ordinary module take, where they do not all take the same."""
        if self.settings is None:
            return {}
        told = [{"estimator": b.estimator, **asdict(b.settings)} for b in self.blocks]
        return {"blocks": told} if any(one != told[0] for one in told) else {}

    def save_checkpoint(self, path: str | Path) -> Path:
        """Everything the next epoch depends on, in one file, whole or not at all."""
        return checkpoint.save(self.state, path)

    def load_checkpoint(self, path: str | Path) -> None:
        """Go back to a checkpoint, global generators included.

        Raises CheckpointError; nothing has changed then.
        """
        checkpoint.load(self.state, path)

    def train_batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """One update; returns (cost per sample (B,), logits (B, K), free-phase residual).

        Raises ValueError naming the parameter when cost or gradient is not finite; nothing is
        updated then.
        """
        for parameter in self.parameters.values():
            parameter.grad = None
        told = reporting(self.settling.note)
        with unspoiled(self.statistics), tracked(), self.settling.batch(), told:
            loss, logits, residual = self._gradients(x, y)
            norm = check_step(loss, self.parameters, clipping=self.clip_norm is not None)
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm)
        if self.gradient == LOCAL:
            self.model.before_update()  # type: ignore[operator]
        self.optimizer.step()
        follow_updates(self.bounds)
        if self.state.scheduler is not None:
            self.state.scheduler.step()
        return loss.detach(), logits.detach(), residual

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """Fill `.grad` of every parameter; returns what `train_batch` does."""
        if self.gradient == LOCAL:
            assert isinstance(self.model, LocalRule)
            local = self.model.local_gradients(x, y)
            for name, parameter in self.parameters.items():
                parameter.grad = laid_out(local.get(name), parameter)
            self.settling.residual = worse(self.settling.residual, local.residual)
            return local.loss, local.logits, local.residual
        if self.gradient == "autograd" or not isinstance(self.relaxed, EquilibriumModel):
            check_pair(x, y)
            with torch.enable_grad():
                with autocast(self.amp, self.device):
                    logits, y = by_row(self.logits(x), y)
                    loss = make_cost(self.cost, y, logits.shape[1], logits).value(logits)
                if not loss.requires_grad:
                    raise ValueError(
                        "model must have a parameter to train: all that it uses have "
                        "requires_grad=False"
                    )
                (loss.mean() + self._penalty()).backward()
            return loss, logits, self.settling.residual if self.blocks else math.nan
        assert self.settings is not None
        if self.kernel is not None:
            result, loss = self.kernel(x, y)
        else:
            result, loss = estimate(self.relaxed, x, y, self.gradient, self.settings, self.cost)
        self.settling.note(result)
        for name, parameter in self.parameters.items():
            parameter.grad = laid_out(result.gradients.get(name), parameter)
        return loss, result.logits, result.free.residual

    def _penalty(self) -> Tensor | float:
        """What an ordinary module asks to be added to the mean cost; no cost of a record has it."""
        asked = getattr(self.model, "get_regularization_loss", None)
        return 0.0 if asked is None else asked()

    def logits(self, x: Tensor) -> Tensor:
        """What an ordinary module makes of a batch, after its own look at it where it has one."""
        check = getattr(self.model, "check_batch", None)
        if check is not None:
            check(x)
        return check_logits(self.called(x), x)

    def fit(
        self,
        train_loader: Batches,
        epochs: int = 10,
        val_loader: Batches | None = None,
        callbacks: Sequence[Any] = (),
        *,
        validation_split: float | None = None,
        checkpoint_path: str | Path | None = None,
        resume: bool = False,
    ) -> History:
        """Train for `epochs` more epochs and return the history of all of them.

        callbacks: functions of the epoch's record, or objects with hooks (see `callbacks`).
        validation_split: hold out this part of a train_loader made by `Split.batches`, instead of a
            val_loader.
        checkpoint_path: save a checkpoint there after every epoch. resume: go on with the fit that
        was interrupted, up to its `epochs`, from checkpoint_path if it exists; on a CPU the result
        is the same, bit for bit, or it is
        refused: other data, batches, settings or callbacks are another fit.
        Raises: BatchError naming epoch and batch (from 1) of the first failure; ValueError;
        CheckpointError. Warns once an epoch at most, when phases are expected to be 20 % off in the
        mean over its batches (see `settling`).
        """
        epochs = positive_int("epochs", epochs)
        resume = switch("resume", resume)
        path = None if checkpoint_path is None else a_path("checkpoint_path", checkpoint_path)
        check_loader("train_loader", train_loader, epochs)
        if val_loader is not None:
            check_loader("val_loader", val_loader, epochs)
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "fit must be called outside torch.inference_mode(), in which nothing can be trained"
            )
        if validation_split is not None:
            train_loader, val_loader = hold_out(train_loader, val_loader, validation_split)
        loaders = {"train": train_loader, "val": val_loader}
        vocab = shared_vocab(self.model, loaders)
        told = Callbacks([*callbacks, *([] if path is None else [ModelCheckpoint(path)])])
        with checkpoint.taken_up(self.state, path if resume else None):
            planned = self.state.begin(loaders, told, epochs, resume)
            take_vocab(self.model, vocab)
        try:
            told.start(self)
            for epoch in planned:
                with self._kernels():
                    record = self._epoch(epoch, train_loader)
                if val_loader is not None:
                    result = self.evaluate(val_loader)
                    record |= {f"val_{k}": v for k, v in result.items() if k != "samples"}
                self.history.append(record)
                self.state.mark(inside=0)
                try:
                    self._tell(told, record)
                except BaseException as error:
                    # Some have seen this epoch and some have not: it is no place to go on from.
                    self.state.mark(inside=0 if isinstance(error, StopTraining) else epoch)
                    raise
        except StopTraining:
            pass
        finally:
            self.state.keep()
            told.end(self)
        return self.history

    def _tell(self, told: Callbacks, record: Record) -> None:
        told.epoch(self, record)

    def _epoch(self, epoch: int, loader: Batches) -> Record:
        self.model.train()
        self.state.mark(inside=epoch)
        total = length(loader)
        loss_sum, correct, seen = 0.0, 0, 0
        self.settling = Settling()
        start = time.perf_counter()
        shown = progress_bar(loader, f"epoch {epoch}", self.progress)
        for number, item in enumerate(self.state.watch("train", loader, shown), start=1):
            try:
                x, y = pair(item, self.device)
                loss, logits, _ = self.train_batch(x, y)
            except Exception as error:
                raise BatchError(f"epoch {epoch}, batch {number}: {error}") from error
            loss_sum += float(loss.sum())
            seen += len(loss)
            correct += evaluation.correct(logits, y)
            for watcher in self.state.callbacks.watchers:
                watcher.on_batch_end(self, number, total)
        if seen == 0:
            raise ValueError("train_loader is empty: it must yield at least one batch (x, y)")
        if self.state.scheduler is not None and number != total:
            raise BatchError(
                f"epoch {epoch}: train_loader said it had {total} batches and gave {number}; the "
                f"schedule {self.schedule!r} was laid out for {total}"
            )
        seconds = time.perf_counter() - start
        try:
            check_parameters(self.parameters)
        except ValueError as error:
            raise BatchError(f"epoch {epoch}, after its last batch: {error}") from error
        self.settling.warn(epoch)
        # of an ordinary module too, where it has equilibrium blocks and says so
        bound = getattr(self.model, "contraction_bound", None)
        norm = math.nan if bound is None else bound()
        return {
            "epoch": epoch,
            "estimator": self.gradient,
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            "residual": self.settling.residual,
            "nudged_residual": self.settling.nudged_residual,
            "norm": norm,
            "sigma_error": sigma_error(self.model),
            "seconds": seconds,
        }

    def evaluate(self, loader: Batches) -> dict[str, float]:
        """{"accuracy", "loss", "residual", "samples"} over a loader.

        residual: worst free-phase residual, nan where nothing settles. With targets that are tokens
        (B, T) also "perplexity" and "bits_per_character" (see `evaluation`), samples are tokens
        then. Raises BatchError for the
        first batch that fails (none is skipped), ValueError for an empty loader.
        """
        self.model.eval()
        ours = loader is self.state.loaders.get("val")
        batches = self.state.watch("val", loader) if ours else loader
        with self._kernels():
            return evaluation.evaluate(self._answers, batches, self.cost, self.device)

    def _kernels(self) -> AbstractContextManager[None]:
        return quick_convolutions(self.device) if self.quick_kernels else nullcontext()

    def _answers(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        if self.settings is None or not isinstance(self.model, EquilibriumModel):
            with evaluating(self.eval_tol) as ends:
                rows = by_row(self.logits(x), y)
            return *rows, max(ends, default=math.nan)
        targets = self.model.targets(x, y)
        found = evaluation.free_logits(self.model, x, self.eval_tol, self.settings.solver)
        return found[0], targets, found[1]

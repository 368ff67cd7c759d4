"""Data-parallel training: every process takes its rows of each batch, one sum makes one gradient.

    dL/dtheta = sum_r (B_r / B) dL_r/dtheta,    B_r rows of rank r, L_r the mean cost of these

    script.py:    with process_group() as group:
                      trainer = DistributedTrainer(model, group=group)
                      trainer.fit(loader, epochs=10, checkpoint_path="last.pt", resume=True)
    shell:        torchrun --standalone --nproc-per-node 2 --max-restarts 3 script.py

All ranks go through the same batches, cut them, and step alike: no rank has parameters of its own,
and the training is that of one process up to the order of a sum. One flat vector travels a step:
weighted gradients, and costs, logits and residuals of every rank at their place, so that history
and metrics are those of whole batches everywhere (the nudged residual is that of the worst share).
Autograd's hooks (DDP) would see nothing of it: EqProp has no backward pass through the network.

Rank 0 writes checkpoints. When a process dies, torchrun starts the group again, and a fit with
resume=True goes on from the last one. `fit` and `evaluate` are called on all ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DistributedSampler

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.gradients import NUDGED
from eqprop_lab.equilibrium.inputs import check_pair
from eqprop_lab.training import sources
from eqprop_lab.training.history import Record, StopTraining, worse
from eqprop_lab.training.hooks import Callbacks
from eqprop_lab.training.local import LOCAL
from eqprop_lab.training.process_group import Group
from eqprop_lab.training.trainer import Batches, EqPropTrainer
from eqprop_lab.validation import a_path


class DistributedTrainer(EqPropTrainer):
    """`EqPropTrainer` on all processes of a group; equal to one process with the whole batches.

    Fixed step counts give the gradient of the full batch to rounding; with a `tol` a share may stop
    at another step, within `tol`. Processors must be of one kind: ranks that no longer have the
    same bits are refused after the epoch.

    Args: group, of `process_group`; all others as in `EqPropTrainer`.
    Raises: what that one does; ValueError naming what looks at a batch as a whole, and so cannot be
    cut into shares: a learning rule, beta="auto", batch normalisation, noise, a batch of fewer
    samples than ranks; and facts in which ranks differ.
    """

    def __init__(self, model: nn.Module, *arguments: Any, group: Group, **options: Any) -> None:
        if not isinstance(group, Group):
            raise TypeError(f"group must be what process_group gives, got {type(group).__name__}")
        self.group = group
        options["device"] = group.place(options.get("device"))
        if not group.first:
            options["progress"] = False
        super().__init__(model, *arguments, **options)
        for reason in undividable(self):
            raise ValueError(f"{reason}; a group of processes sees only its shares of a batch")
        self.unproven = sources.FIRST  # batches that ranks are still to compare

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "ranks": self.group.ranks}

    def save_checkpoint(self, path: str | Path) -> Path:
        """Everything the next epoch depends on, written by rank 0 only."""
        return super().save_checkpoint(path) if self.group.first else a_path("path", path)

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        share = self._prove(x, y)
        before = _drawn(self.device)
        loss, logits, residual = super()._gradients(x[share], y[share])
        if not torch.equal(before, _drawn(self.device)):
            raise ValueError(
                f"model {type(self.model).__name__} draws random numbers while it is trained "
                "(dropout, noise): every rank would draw the same ones for its own samples"
            )
        given = [p.grad for p in self.parameters.values() if p.grad is not None]
        weight = (share.stop - share.start) / len(x)
        *sums, loss, logits, told = self._sum([
            *(gradient * weight for gradient in given),
            placed(loss, share, len(x)),
            placed(logits, share, len(x)),
            self._noted(residual, *self.settling.told()),
        ])  # fmt: skip
        for gradient, whole in zip(given, sums, strict=True):
            gradient.copy_(whole)
        self.settling.hear([row[1:] for row in told.tolist()])
        return loss, logits, reduce(worse, told[:, 0].tolist())

    def _prove(self, x: Tensor, y: Tensor) -> slice:
        """This rank's rows of a batch that all ranks have, or ValueError on all of them."""
        check_pair(x, y)
        if self.unproven:
            self.group.agree({"batch": (x, y)})
            self.unproven -= 1
        return self.group.share(len(x))

    def _noted(self, *numbers: float) -> Tensor:
        """Numbers of this rank in its row, (ranks, n), zeros in those of all others."""
        row = torch.tensor([numbers], device=self.device)
        one = slice(self.group.rank, self.group.rank + 1)
        return placed(row, one, self.group.ranks)

    def _sum(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the same shapes on every rank, added up in one message."""
        dtype = reduce(torch.promote_types, (part.dtype for part in parts))
        flat = torch.cat([part.detach().to(dtype).flatten() for part in parts])
        whole = self.group.add(flat).split([part.numel() for part in parts])
        return [w.view(p.shape).to(p.dtype) for w, p in zip(whole, parts, strict=True)]

    def _answers(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        if len(x) < self.group.ranks:
            return super()._answers(x, y)  # every rank answers all of them
        share = self.group.share(len(x))
        logits, targets, residual = super()._answers(x[share], y[share])
        whole, told = self._sum([placed(logits, share, len(x)), self._noted(residual)])
        if isinstance(self.model, EquilibriumModel):
            targets = self.model.targets(x, y)
        else:
            targets = y if len(whole) == len(x) else y.flatten()
        return whole, targets, reduce(worse, told[:, 0].tolist())

    def _epoch(self, epoch: int, loader: Batches) -> Record:
        self._check_loader(loader)
        self.group.agree({
            **self._held(),
            "settings": self.describe(),
            "finished epochs": self.history.epochs,
            "train_loader": [sources.facts(loader), sources.states(loader)],
            "data": sources.data_of(self.state.sources["train"], loader),
        })  # fmt: skip
        self.unproven = sources.FIRST
        record = super()._epoch(epoch, loader)
        self.group.agree(self._held())
        return record

    def _held(self) -> dict[str, Any]:
        """What a step changes on all ranks alike."""
        return {"parameters": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def _check_loader(self, loader: Batches) -> None:
        """Raise ValueError for batches that are cut already, or that are too small to be cut."""
        if isinstance(getattr(loader, "sampler", None), DistributedSampler):
            raise ValueError(
                "train_loader must give whole batches on every rank, got one with a "
                "DistributedSampler, which cuts them too; leave the sampler out"
            )
        said = sources.facts(loader) or {}
        size, samples = said.get("batch_size"), said.get("samples")
        if not size or not samples:
            return
        last = size if said.get("drop_last") else samples % size or size
        if (smallest := min(size, last, samples)) < self.group.ranks:
            raise ValueError(
                f"train_loader must give each of the {self.group.ranks} ranks a sample of every "
                f"batch, one of its batches has {smallest} ({samples} samples in batches of "
                f"{size}); take another batch size"
            )

    def _tell(self, told: Callbacks, record: Record) -> None:
        """The callbacks of every rank; when those of one want to stop (by a clock), all stop."""
        stop = False
        try:
            super()._tell(told, record)
        except StopTraining:
            stop = True
        if any(self.group.gather(stop)):
            raise StopTraining


def placed(part: Tensor, share: slice, count: int) -> Tensor:
    """The rows of a share at their place among those of `count` samples, zeros elsewhere."""
    each = len(part) // (share.stop - share.start)  # rows of a sample: its tokens
    whole = part.new_zeros(count * each, *part.shape[1:], requires_grad=False)
    whole[share.start * each : share.stop * each] = part.detach()
    return whole


def undividable(trainer: EqPropTrainer) -> Iterator[str]:
    """What of a training looks at its whole batch, in words."""
    if trainer.gradient == LOCAL:
        rule = type(trainer.model).__name__
        yield f"gradient={LOCAL!r} ({rule}) is a learning rule that may keep what a batch told it"
    relative = trainer.settings is not None and trainer.settings.relative
    if relative and trainer.gradient in NUDGED and not trainer.blocks:
        yield "beta='auto' is fitted to the largest slope of a batch, it must be a number"
    for block in trainer.blocks:
        if block.estimator in NUDGED:
            yield (
                f"EquilibriumBlock with estimator={block.estimator!r} nudges relative to the "
                "largest slope of a batch; use 'response' or 'implicit'"
            )
    for name, module in trainer.model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _BatchNorm):
            yield f"{name} ({kind}) normalises by the statistics of a batch"
        if why := getattr(module, "across_samples", ""):
            yield f"{name} ({kind}) {why}"


def _drawn(device: torch.device) -> Tensor:
    """The state of the generator that a model on this device draws from."""
    on_gpu = device.type == "cuda"
    return torch.cuda.get_rng_state(device) if on_gpu else torch.get_rng_state()

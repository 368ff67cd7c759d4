"""What the processes of tests/training/test_distributed.py do: `torchrun ... ranks.py FOLDER`.

The first attempt measures, then its rank 1 dies in the middle of a training; the second one goes on
with that training, and makes it once more from the beginning.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab import (
    BackpropMLP,
    ConvEqProp,
    EqPropTrainer,
    LoopedMLP,
    StopTraining,
    TransformerEqProp,
)
from eqprop_lab.commands import train
from eqprop_lab.datasets import Split
from eqprop_lab.experiments.runs import fingerprint
from eqprop_lab.training.distributed import DistributedTrainer
from eqprop_lab.training.process_group import Group, process_group

PHASES: dict[str, Any] = {"free_steps": 12, "nudged_steps": 8}
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    name: (lambda: LoopedMLP(6, 5, 3, seed=0), {"gradient": name, **PHASES})
    for name in ("centered", "one_sided", "holomorphic", "response", "bptt")
}
MODELS |= {
    "kernel": (lambda: LoopedMLP(6, 5, 3, seed=0), {"use_kernel": True, **PHASES}),
    "mse": (lambda: LoopedMLP(6, 5, 3, seed=0), {"cost": "mse", **PHASES}),
    "convolutions": (
        lambda: ConvEqProp(1, (2, 3), 3, image_size=8, seed=0),
        {"gradient": "centered", **PHASES},
    ),
    "tokens": (
        lambda: TransformerEqProp.from_text("abcab", 4, 1, 4, seed=0),
        {"beta": 0.03, **PHASES},
    ),
    "autograd": (lambda: BackpropMLP(6, 5, 3, seed=0), {"gradient": "autograd"}),
}


def batch(name: str, count: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    if name == "tokens":
        return torch.randint(0, 3, (count, 4)), torch.randint(0, 3, (count, 4))
    shape = (1, 8, 8) if name == "convolutions" else (6,)
    return torch.rand(count, *shape, dtype=torch.float64), torch.randint(0, 3, (count,))


def still(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def step(trainer: EqPropTrainer, x: Tensor, y: Tensor) -> list[Tensor]:
    """All gradients as one vector, costs and logits."""
    loss, logits, _ = trainer.train_batch(x, y)
    found = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return [torch.cat(found), loss, logits]


def errors(group: Group, count: int) -> dict[str, float]:
    """Largest relative difference to one process with the whole batch."""
    found = {}
    for name, (build, options) in MODELS.items():
        how = {"optimizer": still, **options}
        alone = step(EqPropTrainer(build().double(), **how), *batch(name, count))
        shared = DistributedTrainer(build().double(), group=group, **how)
        cut = step(shared, *batch(name, count))
        off = [float((c - a).norm() / a.norm()) for c, a in zip(cut, alone, strict=True)]
        found[name] = max(off)
    return found


def fitted(kind: Callable[..., EqPropTrainer]) -> EqPropTrainer:
    """30 steps; the last batch of the validation is too small to be cut."""
    torch.manual_seed(4)
    split = Split(torch.rand(27, 6), torch.randint(0, 3, (27,)))
    held = Split(split.x[:21], split.y[:21])
    trainer = kind(LoopedMLP(6, 5, 3, seed=0), lr=0.01, clip_norm=0.5, **PHASES)
    trainer.fit(split.batches(5, shuffle=True), 5, held.batches(5))
    return trainer


def steps(group: Group) -> dict[str, Any]:
    alone = fitted(EqPropTrainer)
    here = fitted(lambda *a, **k: DistributedTrainer(*a, group=group, **k))
    curves = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "residual", "norm"]
    curves += ["nudged_residual", "val_residual"]
    mine = here.model.state_dict()
    told = group.gather((fingerprint(here.model), {c: here.history[c] for c in curves}))
    return {
        "updates": int(next(iter(here.optimizer.state.values()))["step"]),
        "equal": [one == told[0] for one in told],
        "off": max(float((mine[k] - v).abs().max()) for k, v in alone.model.state_dict().items()),
        "curves": {c: [here.history[c], alone.history[c]] for c in curves},
    }


def refused(group: Group, work: Callable[[], object]) -> list[str]:
    """What every rank is told."""
    try:
        work()
    except Exception as error:
        return group.gather(str(error))
    return group.gather("nothing")


def odd(group: Group) -> dict[str, Any]:
    """Ranks that differ, and models that draw."""
    torch.manual_seed(5)
    data = Split(torch.rand(12, 6), torch.randint(0, 3, (12,)))

    def fit(seed: int = 0, order: int = 0, model: nn.Module | None = None, **options: Any) -> int:
        model = LoopedMLP(6, 5, 3, seed=seed) if model is None else model
        trainer = DistributedTrainer(model, group=group, **options)
        callbacks = [stop_second] if group.rank == 1 else []
        same = data if not order else Split(data.x + order, data.y)
        loader: Any = same.batches(4, shuffle=True)
        return trainer.fit(loader, 3, callbacks=callbacks).epochs

    def stop_second(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise StopTraining

    own: dict[str, Any] = {
        "gradient": "autograd",
        "model": nn.Sequential(nn.Dropout(), nn.Linear(6, 3)),
    }
    return {
        "stopped": group.gather(fit()),
        "seeds": refused(group, lambda: fit(seed=group.rank)),
        "data": refused(group, lambda: fit(order=group.rank)),
        "noise": refused(group, lambda: fit(**own)),
        "batch": refused(
            group,
            lambda: DistributedTrainer(LoopedMLP(6, 5, 3), group=group).train_batch(
                torch.full((4, 6), float(group.rank)), data.y[:4]
            ),
        ),
    }


def dying(calls: int) -> Callable[..., Tensor]:
    """Group.add that kills its process at the call of that number."""
    plain, seen = Group.add, [0]

    def add(group: Group, flat: Tensor) -> Tensor:
        seen[0] += 1
        if seen[0] == calls and group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(group, flat)

    return add


def main(folder: Path) -> None:
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    arguments = [str(folder / "small.yaml"), "--runs"]
    if attempt == 0:
        with process_group() as group:
            found = {"even": errors(group, 8), "uneven": errors(group, 7)}
            found |= {"steps": steps(group), "odd": odd(group)}
            if group.first:
                (folder / "found.json").write_text(json.dumps(found))
        Group.add = dying(14)  # type: ignore[method-assign]  # in the third epoch
    assert train.main([*arguments, str(folder / "killed")]) == 0
    assert train.main([*arguments, str(folder / "whole")]) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))

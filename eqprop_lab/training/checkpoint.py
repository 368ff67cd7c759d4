"""Checkpoints: everything the next epoch depends on, in one file of tensors and plain containers.

    parameters and buffers, optimiser, schedule, generators (torch, CUDA, NumPy, Python, the loaders' own), history,
    the plan of the fit, the state of callbacks, the experiment config

On a CPU a resumed fit equals an uninterrupted one bit for bit. A file is written whole or not at all, and read with
`weights_only`, so that it cannot run code.
"""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eqprop_lab.training.files import replace_file
from eqprop_lab.training.history import History
from eqprop_lab.training.seeds import rng_state, set_rng_state
from eqprop_lab.validation import a_path

if TYPE_CHECKING:
    from eqprop_lab.training.trainer import EqPropTrainer

FORMAT = "eqprop_lab checkpoint 1"
KEYS = (
    "format",
    "model",
    "optimizer",
    "scheduler",
    "settings",
    "config",
    "plan",
    "history",
    "rng",
    "loaders",
    "callbacks",
)
PLAN = {"first", "epochs", "batches", "inside"}
PLAIN = (str, bool, int, float, type(None), bytes)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read, or used here; the message names the file and the reason."""


@torch.no_grad()
def settled_state(model: nn.Module) -> dict[str, Any]:
    """`model.state_dict()` after every parametrised weight has been read once.

    A bounded weight moves its tracked vectors at the first read after an update; saved before that read, they would
    stay behind, because a load is not an update.
    """
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for name in module.parametrizations:  # type: ignore[union-attr]
                getattr(module, name)
    return model.state_dict()


def _plain(value: object, name: str) -> Any:
    """A copy of nested containers, in the types that `weights_only` reads. Raises TypeError naming what is none."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {_plain(k, f"{name} key"): _plain(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(v, f"{name}.{i}") for i, v in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if type(value) not in PLAIN:
        raise TypeError(f"{name} is a {type(value).__name__}; only tensors, numbers, texts and containers of them fit")
    return value


def capture(trainer: EqPropTrainer) -> dict[str, Any]:
    """The content of a checkpoint of this trainer; tensors are not copied."""
    loaders = {name: getattr(loader, "generator", None) for name, loader in trainer.loaders.items()}
    content = {
        "format": FORMAT,
        "model": {"class": type(trainer.model).__name__, "state": settled_state(trainer.model)},
        "optimizer": {"class": type(trainer.optimizer).__name__, "state": trainer.optimizer.state_dict()},
        "scheduler": None if trainer.scheduler is None else trainer.scheduler.state_dict(),
        "settings": trainer.describe(),
        "config": trainer.config,
        "plan": trainer.plan,
        "history": trainer.history,
        "rng": rng_state(trainer.device.type == "cuda"),
        "loaders": {name: None if g is None else g.get_state() for name, g in loaders.items()},
        "callbacks": trainer.callbacks.state(),
    }
    plain: dict[str, Any] = _plain(content, "checkpoint")
    return plain


def save(trainer: EqPropTrainer, path: str | Path) -> Path:
    """Write a checkpoint, whole or not at all. Raises CheckpointError, OSError; an older file then stays as it was."""
    path = a_path("path", path)
    try:
        content = capture(trainer)
    except TypeError as error:
        raise CheckpointError(f"cannot save {path}: {error}") from error
    return replace_file(path, lambda file: torch.save(content, file))


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU, checked for damage and never executed. Raises CheckpointError."""

    def refuse(reason: str) -> CheckpointError:
        return CheckpointError(f"cannot load {path}: {reason}")

    path = a_path("path", path)
    if not path.is_file():
        raise refuse("there is no such file")
    if not zipfile.is_zipfile(path):
        raise refuse("it is cut off, or it is no checkpoint")
    try:
        # torch does not look at the checksums of the archive.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refuse("it holds objects other than tensors and plain containers, which could run code") from error
    except Exception as error:
        # What a damaged archive raises depends on the byte: zlib, index, key, value and runtime errors were seen.
        raise refuse(f"it is damaged, or it is no checkpoint ({type(error).__name__})") from error
    if damaged is not None:
        raise refuse(f"it is damaged (checksum of {damaged})")
    if not isinstance(content, dict) or content.get("format") != FORMAT or not content.keys() >= set(KEYS):
        raise refuse(f"it is no {FORMAT!r}: a trainer's save_checkpoint writes them")
    return content


def mismatch(trainer: EqPropTrainer, content: dict[str, Any], same_settings: bool = False) -> str | None:
    """Why this checkpoint does not fit this trainer, or None."""
    mine, theirs = type(trainer.model).__name__, content["model"]["class"]
    if mine != theirs:
        return f"it holds a {theirs}, the trainer has a {mine}"
    own, state = trainer.model.state_dict(), content["model"]["state"]
    for names, what in ((own.keys() - state.keys(), "lacks"), (state.keys() - own.keys(), "has, beyond the model,")):
        if names:
            return f"it {what} {', '.join(sorted(names))}"
    for name, tensor in own.items():
        wanted, found = _kind(tensor), _kind(state[name])
        if wanted != found:
            return f"its {name} is {found}, the model's is {wanted}"
    if type(trainer.optimizer).__name__ != content["optimizer"]["class"]:
        return f"it holds the state of {content['optimizer']['class']}, not of {type(trainer.optimizer).__name__}"
    groups, saved = trainer.optimizer.state_dict()["param_groups"], content["optimizer"]["state"]["param_groups"]
    if [g["params"] for g in groups] != [g["params"] for g in saved]:
        return "its optimiser has other parameter groups"
    there = content["settings"]
    other = [f"{k} is {there.get(k)!r} there, {v!r} here" for k, v in trainer.describe().items() if there.get(k) != v]
    if same_settings and other:
        return f"it is of a training with other settings: {', '.join(other)}"
    return None


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def load(trainer: EqPropTrainer, path: str | Path, same_settings: bool = False) -> None:
    """Put a trainer where the checkpoint was taken. The global generators are set too.

    Loaders, callbacks and the schedule belong to a fit: the next one takes theirs up. same_settings: refuse a training
    with other settings. Raises CheckpointError; nothing has changed then.
    """
    content = read(path)
    before = copy.deepcopy(capture(trainer))
    try:
        reason = mismatch(trainer, content, same_settings)
        if reason is None:
            _apply(trainer, content)
    except Exception as error:
        _apply(trainer, before)
        reason = f"its content does not fit ({type(error).__name__}: {error})"
        raise CheckpointError(f"cannot load {path}: {reason}") from error
    if reason is not None:
        raise CheckpointError(f"cannot load {path}: {reason}")
    trainer.pending = {key: content[key] for key in ("loaders", "callbacks", "scheduler")}


def _apply(trainer: EqPropTrainer, content: dict[str, Any]) -> None:
    history, plan = History(content["history"]), content["plan"]
    if len({len(curve) for curve in history.values()}) > 1 or (plan is not None and plan.keys() != PLAN):
        raise ValueError("its history or plan is not what a trainer writes")
    trainer.model.load_state_dict(content["model"]["state"])
    trainer.optimizer.load_state_dict(content["optimizer"]["state"])
    set_rng_state(content["rng"])
    # The trainer's own object: others may look at it.
    trainer.history.clear()
    trainer.history.update(history)
    trainer.plan, trainer.config = plan, content["config"]

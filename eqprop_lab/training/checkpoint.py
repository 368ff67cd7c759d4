"""Checkpoints: everything the next epoch depends on, in one file of tensors and plain containers.

    parameters and buffers, optimiser, schedule, generators (torch, CUDA, NumPy, Python, the
    loaders' own), history, the plan of the fit and what it was fed with, the state of callbacks,
    the experiment config

The parameters are those that the trainer has. Where a callback put others in their place when the
fit ended (the best ones), "last" holds those that the fit goes on from.

On a CPU a resumed fit equals an uninterrupted one bit for bit. A file is written whole or not at
all, and read with `weights_only`, so that it cannot run code.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.files import replace_file
from eqprop_lab.seeding import rng_state, set_rng_state
from eqprop_lab.training import soundness, sources
from eqprop_lab.training.history import CheckpointError as CheckpointError, History
from eqprop_lab.training.state import Rest, TrainingState
from eqprop_lab.validation import a_path

FORMAT = "eqprop_lab checkpoint 1"
KEYS = {
    "format", "model", "optimizer", "scheduler", "settings", "config", "plan", "history", "rng",
    "loaders", "callbacks",
}  # fmt: skip
PLAIN = (str, bool, int, float, type(None), bytes)


def _plain(value: object, name: str) -> Any:
    """A copy of nested containers, in the types that `weights_only` reads. Raises TypeError naming
    what is none.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {_plain(k, f"{name} key"): _plain(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(v, f"{name}.{i}") for i, v in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if type(value) not in PLAIN:
        raise TypeError(
            f"{name} is a {type(value).__name__}; only tensors, numbers, texts and containers of "
            "them fit"
        )
    return value


def model_settings(model: nn.Module) -> dict[str, Any]:
    """The arguments of a model and all its parts, as far as they are kept as plain values: "rho",
    "layers.1.p"; and what a model tells of its training besides.
    """
    told = getattr(model, "training_settings", None)
    found = {} if told is None else dict(told())
    for path, module in model.named_modules():
        for name in inspect.signature(type(module).__init__).parameters:
            value = vars(module).get(name)
            inside = value.values() if isinstance(value, dict) else value
            if type(value) in PLAIN or (
                isinstance(value, list | tuple | dict) and all(type(v) in PLAIN for v in inside)
            ):
                found[f"{path}.{name}".removeprefix(".")] = value
    return found


def _defaults(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        name: value for name, value in optimizer.defaults.items() if type(value) in (*PLAIN, tuple)
    }


def capture(state: TrainingState) -> dict[str, Any]:
    """The content of a checkpoint; tensors are not copied."""
    model, optimizer = state.model, state.optimizer
    content = {
        "format": FORMAT,
        "model": {
            "class": type(model).__name__,
            "state": model.state_dict(),
            "settings": model_settings(model),
        },
        "last": state.left_behind(),
        "optimizer": {
            "class": type(optimizer).__name__,
            "state": optimizer.state_dict(),
            "defaults": _defaults(optimizer),
        },
        "scheduler": None if state.scheduler is None else state.scheduler.state_dict(),
        "settings": state.settings,
        "config": state.config,
        "plan": state.plan,
        "sources": state.sources,
        "history": state.history,
        "rng": rng_state(state.cuda),
        "loaders": {name: sources.states(loader) for name, loader in state.loaders.items()},
        "callbacks": state.callbacks.state(),
    }
    plain: dict[str, Any] = _plain(content, "checkpoint")
    return plain


def save(state: TrainingState, path: str | Path) -> Path:
    """Write a checkpoint, whole or not at all; an older file stays as it was when this fails.

    Raises CheckpointError, OSError.
    """
    path = a_path("path", path)
    try:
        for name, note in state.sources.items():
            sources.data_of(note, state.loaders[name])
        content = capture(state)
    except TypeError as error:
        raise CheckpointError(f"cannot save {path}: {error}") from error
    return replace_file(path, lambda file: torch.save(content, file))


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU, checked for damage and never executed. Raises
    CheckpointError.
    """

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
        with torch.device("cpu"):
            content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refuse(
            "it holds objects other than tensors and plain containers, which could run code"
        ) from error
    except Exception as error:
        # What a damaged archive raises depends on the byte: zlib, index, key, value and runtime
        # errors were seen.
        raise refuse(f"it is damaged, or it is no checkpoint ({type(error).__name__})") from error
    if damaged is not None:
        raise refuse(f"it is damaged (checksum of {damaged})")
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not content.keys() >= KEYS
    ):
        raise refuse(f"it is no {FORMAT!r}: a trainer's save_checkpoint writes them")
    return content


def check(state: TrainingState, content: dict[str, Any], same_settings: bool = False) -> None:
    """Make a content ready for `_apply`; ValueError says why it is not sound, or does not fit."""
    saved, optimizer = content["model"], content["optimizer"]
    mine, theirs = type(state.model).__name__, saved["class"]
    if mine != theirs:
        raise ValueError(f"it holds a {theirs}, the trainer has a {mine}")
    soundness.check_parameters_fit(state.model, saved["state"])
    if content.get("last") is not None:
        soundness.check_parameters_fit(state.model, content["last"], "the last state")
    mine, theirs = type(state.optimizer).__name__, optimizer["class"]
    if mine != theirs:
        raise ValueError(f"it holds the state of {theirs}, not of {mine}")
    optimizer["state"] = soundness.check_optimizer(state.optimizer, optimizer["state"])
    soundness.check_plan(content["plan"], soundness.check_history(content["history"]))
    soundness.check_generators(content["rng"])
    model = model_settings(state.model)
    if same_settings:
        if "sources" not in content:
            raise ValueError(
                "an older version wrote it, which did not note the data; go on without resume=True"
            )
        # what only the file has counts too: a kernel, ranks
        _same("training", content["settings"], dict.fromkeys(content["settings"]) | state.settings)
        _same("model", saved.get("settings", {}), model)
        _same("training", optimizer.get("defaults", {}), _defaults(state.optimizer))
    elif isinstance(state.model, EquilibriumModel):
        # Other steps are another measurement of the same network; another rho or gamma is another
        # network.
        model.pop("max_steps", None)
        _same("model", saved.get("settings", model), model)


def _same(what: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    other = [
        f"{k} is {there.get(k)!r} there, {v!r} here"
        for k, v in here.items()
        if _as_list(there.get(k)) != _as_list(v)
    ]
    if other:
        raise ValueError(f"it is of a {what} with other settings: {', '.join(other)}")


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def load(state: TrainingState, path: str | Path, same_settings: bool = False) -> None:
    """Put a training where the checkpoint was taken, the global generators included.

    Loaders, callbacks and the schedule belong to a fit: the next one takes theirs up.
    same_settings: refuse a training with other settings. Raises CheckpointError; nothing has
    changed then.
    """
    content = read(path)
    with unchanged(state):
        try:
            check(state, content, same_settings)
            _apply(state, content)
        except ValueError as error:
            raise CheckpointError(f"cannot load {path}: {error}") from error
        except Exception as error:
            reason = f"its content does not fit ({type(error).__name__}: {error})"
            raise CheckpointError(f"cannot load {path}: {reason}") from error
        of_the_fit = {key: content[key] for key in ("loaders", "callbacks", "rng", "scheduler")}
        state.rest = Rest(**of_the_fit, from_file=True)


@contextmanager
def taken_up(state: TrainingState, path: Path | None) -> Iterator[None]:
    """Load a file, if it is there, for a fit that the body begins; undone when the body raises."""
    if path is None or not path.exists():
        yield  # a fit looks at everything before it changes anything: no copy is needed
        return
    with unchanged(state):
        load(state, path, same_settings=True)
        yield


@contextmanager
def unchanged(state: TrainingState) -> Iterator[None]:
    """A training that is as it was when the body raises."""
    before = copy.deepcopy(capture(state))
    names = ("rest", "resumed", "scheduler", "sources", "last")
    kept = {name: getattr(state, name) for name in names}
    try:
        yield
    except BaseException:
        _apply(state, before)
        vars(state).update(kept)
        raise


def _apply(state: TrainingState, content: dict[str, Any]) -> None:
    state.model.load_state_dict(content["model"]["state"])
    state.optimizer.load_state_dict(content["optimizer"]["state"])
    set_rng_state(content["rng"])
    # The trainer's own object: others may look at it.
    history = History(content["history"])
    state.history.clear()
    state.history.update(history)
    state.plan = content["plan"]
    state.config = content["config"]
    state.last = content.get("last")
    state.sources = content.get("sources") or {}

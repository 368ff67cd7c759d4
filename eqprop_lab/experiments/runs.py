"""A store of runs: `<folder>/<id>/` with config.yaml, versions.json, curves.json and checkpoint.pt.

    run = RunStore("runs").create(config);   trainer.fit(..., callbacks=[run])

keeps what is needed to look at a training later, to compare it with another (`comparing.compare`),
and to see whether it reproduces (`comparing.rerun`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from eqprop_lab.files import replace_text
from eqprop_lab.training.history import History, Record
from eqprop_lab.training.loggers import finite
from eqprop_lab.training.state import Trainer
from eqprop_lab.validation import a_path
from eqprop_lab.version import __version__
from eqprop_lab.yaml_files import YamlError, read_yaml

CHECKPOINT = "checkpoint.pt"  # in the folder of a run


class RunError(RuntimeError):
    """A run that is not in the store, or whose files cannot be read; the message names it."""


def versions() -> dict[str, Any]:
    """What the last digit of a result may depend on: versions, processor and number of threads."""
    return {
        "eqprop_lab": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "processor": platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
    }


def public_versions() -> dict[str, Any]:
    """`versions` for a result that others read: what there is, and not how torch was built."""
    known = {key: value for key, value in versions().items() if value is not None}
    return known | {"torch": known["torch"].partition("+")[0]}


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """SHA-256 of names, shapes, types and bytes of all tensors: equal if and only if they are."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            array = value.detach().cpu().contiguous()
            digest.update(f"{name} {tuple(array.shape)} {array.dtype};".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint(model: nn.Module) -> str:
    """`tensors_digest` of all parameters and buffers of a model."""
    return tensors_digest(model.state_dict())


class Run:
    """One run of a store, and the callback of `fit` that fills it after every epoch."""

    runs_last = True

    def __init__(self, folder: str | Path) -> None:
        self.folder = a_path("folder", folder)

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint is, or will be."""
        return self.folder / CHECKPOINT

    @property
    def config(self) -> dict[str, Any]:
        """The stored configuration. Raises RunError."""
        return self._read("config.yaml")

    @property
    def versions(self) -> dict[str, Any]:
        """Versions and processor at the time it was created. Raises RunError."""
        return self._read("versions.json")

    @property
    def history(self) -> History:
        """The stored curves; None stands for a number that was not finite. Raises RunError."""
        return History(self._read("curves.json")["curves"])

    @property
    def parameters(self) -> str | None:
        """`fingerprint` of the model at the end. Raises RunError."""
        return self._read("curves.json")["parameters"]

    def _read(self, name: str) -> dict[str, Any]:
        try:
            path = self.folder / name
            content = (
                read_yaml(path)
                if name.endswith(".yaml")
                else json.loads(path.read_text(encoding="utf-8"))
            )
        except (OSError, UnicodeDecodeError, YamlError, json.JSONDecodeError) as error:
            raise RunError(f"run {self.id}: cannot read {name} ({error})") from error
        if not isinstance(content, dict) or (
            name == "curves.json" and content.keys() != {"curves", "parameters"}
        ):
            raise RunError(f"run {self.id}: {name} is not what a run store writes")
        return content

    def write_curves(self, history: Mapping[str, Any], model: nn.Module | None) -> None:
        """Store curves and the fingerprint of the model."""
        content = {
            "curves": finite(history),
            "parameters": None if model is None else fingerprint(model),
        }
        replace_text(
            self.folder / "curves.json", json.dumps(content, indent=1, allow_nan=False) + "\n"
        )

    def on_fit_start(self, trainer: Trainer) -> None:
        """The checkpoints of this fit carry the config of the run.

        Raises RunError for a second training in one run.
        """
        trainer.state.config = self.config
        if not trainer.state.resumed and (epochs := self.history.epochs):
            lost = "" if self.checkpoint.exists() else f" ({self.checkpoint.name} is missing)"
            raise RunError(
                f"run {self.id} holds a training of {epochs} epochs: create a run for the next "
                f"one, or go on with this one from its checkpoint{lost}, with resume=True"
            )

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Store where the training is, then the curves.

        So no epoch is shown that cannot be gone back to.
        """
        trainer.save_checkpoint(self.checkpoint)
        self.write_curves(trainer.history, trainer.model)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Store what came out: a callback may have put the best parameters back.

        A fit that ended inside an epoch leaves what the epoch before has stored.
        """
        plan = trainer.state.plan
        if plan is None or plan["inside"] or not trainer.history.epochs:
            return
        if trainer.state.left_behind() is not None:
            trainer.save_checkpoint(self.checkpoint)
        self.write_curves(trainer.history, trainer.model)


class RunStore:
    """Runs in a folder, one folder each. Nothing is ever overwritten."""

    def __init__(self, folder: str | Path = "runs") -> None:
        self.folder = a_path("folder", folder)

    def create(self, config: Mapping[str, Any]) -> Run:
        """A new run with its config and versions.

        Raises ValueError for a config that YAML cannot hold, OSError.
        """
        try:
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as error:
            raise ValueError(
                f"config must hold plain values only (numbers, texts, lists, mappings): {error}"
            ) from error
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        number, folder = 1, self.folder / stem
        while True:
            try:
                # refuses a folder that is there: two runs of the same second stay two runs
                os.mkdir(folder)
                break
            except FileExistsError:
                number += 1
                folder = self.folder / f"{stem}-{number}"
        run = Run(folder)
        replace_text(folder / "config.yaml", text)
        replace_text(folder / "versions.json", json.dumps(versions(), indent=1) + "\n")
        run.write_curves({}, None)
        return run

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return [Run(path.parent) for path in sorted(self.folder.glob("*/config.yaml"))]

    def get(self, id: str) -> Run:
        """The run with this id, or the only one whose id starts so.

        Raises RunError naming what there is.
        """
        found = [run for run in self.runs() if run.id == id] or [
            r for r in self.runs() if id and r.id.startswith(id)
        ]
        if len(found) == 1:
            return found[0]
        there = ", ".join(run.id for run in (found or self.runs())[-10:]) or "nothing"
        what = f"{len(found)} runs start with {id!r}" if found else f"no run {id!r}"
        raise RunError(f"{what} in {self.folder}; there: {there}")

"""Where the records of a training go: CSV and JSON lines built in, TensorBoard and Weights & Biases
if installed.

    start(config)  log(record, step)  finish()

is all a logger has; as callbacks of `fit` they are given the settings, every epoch, and the end. A
second or resumed fit logs the earlier epochs again first, so that every log is whole.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqprop_lab.files import replace_text
from eqprop_lab.lazy import optional
from eqprop_lab.tables import csv_text
from eqprop_lab.training.history import Record
from eqprop_lab.training.state import Trainer
from eqprop_lab.validation import a_path


class Logger(ABC):
    """Base of all loggers: three methods, and the callback that calls them."""

    @abstractmethod
    def start(self, config: Mapping[str, Any]) -> None:
        """A training begins; `config` holds its settings as plain values."""

    @abstractmethod
    def log(self, record: Record, step: int) -> None:
        """One epoch; step: its number, from 1."""

    def finish(self) -> None:  # noqa: B027 - most have nothing left to do
        """The training is over, however it ended."""

    def on_fit_start(self, trainer: Trainer) -> None:
        """Begin, and catch up on the epochs that are done."""
        state = trainer.state
        experiment = {} if state.config is None else {"experiment": state.config}
        self.start({**state.settings, **experiment})
        for record in state.history.records():
            self.on_epoch_end(trainer, record)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Log the epoch."""
        self.log(record, int(record["epoch"]))

    def on_fit_end(self, trainer: Trainer) -> None:
        """Finish."""
        self.finish()


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a record, without its epoch: what a plot can show."""
    found = {
        k: v for k, v in record.items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    return {k: float(v) for k, v in found.items() if k != "epoch" and math.isfinite(v)}


class CSVLogger(Logger):
    """One row an epoch, one column a curve; the file is whole after every epoch."""

    def __init__(self, path: str | Path) -> None:
        self.path = a_path("path", path)
        self.rows: list[Record] = []

    def start(self, config: Mapping[str, Any]) -> None:
        self.rows = []

    def log(self, record: Record, step: int) -> None:
        self.rows.append(dict(record))
        columns = dict.fromkeys(key for row in self.rows for key in row)
        rows = [[row.get(key) for key in columns] for row in self.rows]
        replace_text(self.path, csv_text([columns, *rows]))


class JSONLogger(Logger):
    """JSON lines: {"config": ...}, then one object an epoch. Numbers that are not finite become
    null.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = a_path("path", path)
        self.lines: list[str] = []

    def start(self, config: Mapping[str, Any]) -> None:
        self.lines = []
        self._add({"config": config})

    def log(self, record: Record, step: int) -> None:
        self._add(record)

    def _add(self, item: Mapping[str, Any]) -> None:
        self.lines.append(json.dumps(finite(item), allow_nan=False))
        replace_text(self.path, "\n".join(self.lines) + "\n")


def finite(value: Any) -> Any:
    """The same nested containers with None for numbers that are not finite, which JSON does not
    know.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value


class TensorBoardLogger(Logger):
    """Curves and settings as TensorBoard event files in `folder`. Raises ImportError without the
    package.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = a_path("folder", folder)
        self._module = optional(
            "torch.utils.tensorboard", "TensorBoardLogger", "tensorboard", "tensorboard"
        )
        self._writer: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        # what an earlier fit wrote into the folder is replaced by what is caught up on
        self._writer = self._module.SummaryWriter(str(self.folder), purge_step=0)
        self._writer.add_text(
            "config", f"```\n{json.dumps(finite(config), indent=1, default=str)}\n```", 0
        )

    def log(self, record: Record, step: int) -> None:
        for name, value in numbers(record).items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class WandbLogger(Logger):
    """Curves and settings as a run of Weights & Biases.

    mode: "offline" (the default: files in `folder`, nothing leaves the machine) or "online" (needs
    an account). Other options are those of wandb.init. Raises ImportError without the package.
    """

    def __init__(
        self,
        project: str = "eqprop_lab",
        mode: str = "offline",
        folder: str | Path | None = None,
        **options: Any,
    ) -> None:
        place = None if folder is None else a_path("folder", folder)
        self._wandb = optional("wandb", "WandbLogger", "wandb", "wandb")
        self.options = {"project": project, "mode": mode, **options}
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
            self.options["dir"] = str(place)
        self._run: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        self._run = self._wandb.init(config=dict(config), **self.options)

    def log(self, record: Record, step: int) -> None:
        self._run.log(numbers(record), step=step)

    def finish(self) -> None:
        self._run.finish()

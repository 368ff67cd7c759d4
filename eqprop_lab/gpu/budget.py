"""Long trainings in short calls: a budget of minutes, and results that are stored after every
epoch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eqprop_lab.experiments.comparing import MISSING, differences
from eqprop_lab.files import replace_text
from eqprop_lab.training.history import Record, StopTraining
from eqprop_lab.training.loggers import finite
from eqprop_lab.validation import real

if TYPE_CHECKING:
    from eqprop_lab.training.trainer import EqPropTrainer

MARGIN = 1.1  # an epoch may take this much longer than the longest one so far


class Budget:
    """The minutes of one call, and the callback of `fit` that ends it when another epoch would not
    fit into them.

    One epoch is always granted, so that repeated calls get ahead however few minutes they have.
    seconds: of every epoch of this call, all that belongs to it included (validation, certificate,
    checkpoint); expected: of the first one, where an earlier call has measured it. Raises
    TypeError, ValueError for minutes that are not > 0.
    """

    runs_last = True

    def __init__(self, minutes: float, expected: float = 0.0) -> None:
        self.end = time.monotonic() + 60 * real("minutes", minutes, above=0.0)
        self.longest = expected
        self.seconds: list[float] = []
        self._began = 0.0

    def fits(self) -> bool:
        """Whether there is time for another epoch, or for as much work as one."""
        return not self.seconds or time.monotonic() + MARGIN * self.longest <= self.end

    def on_fit_start(self, trainer: EqPropTrainer) -> None:
        """Start the clock of the first epoch."""
        self._began = time.monotonic()

    def on_epoch_end(self, trainer: EqPropTrainer, record: Record) -> None:
        """Note how long the epoch took, and stop where the next one would be too long."""
        now = time.monotonic()
        self.seconds.append(now - self._began)
        self.longest, self._began = max(self.longest, self.seconds[-1]), now
        if not self.fits():
            raise StopTraining


class Results:
    """One JSON file that several calls fill. content: what it holds; "calls" lists the calls that
    had a part in it.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Take up the file if it is there. facts: what all calls must share; ValueError names the
        first difference.
        """
        self.path = path
        self.content: dict[str, Any] = {"finished": False, **finite(facts), "calls": []}
        stored = read_results(path)
        if stored is None:
            return
        other = difference(stored, {key: self.content[key] for key in facts})
        if other is not None:
            raise ValueError(
                f"{path} holds a run with other settings: {other}; choose another folder (--out) or remove it and its "
                "checkpoints"
            )
        self.content = stored

    def begin(self, device: str, versions: dict[str, Any]) -> None:
        """Note a call that is going to work on this."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        self.content |= {"date": date, "device": device, "versions": versions}
        self.content["calls"].append({"date": date, "device": device, "epochs": 0, "seconds": 0.0})

    def worked(self, seconds: list[float]) -> None:
        """How long each epoch of this call took."""
        self.content["calls"][-1] |= {"epochs": len(seconds), "seconds": sum(seconds)}

    def longest_epoch(self) -> float:
        """Mean seconds an epoch of the slowest call on the device of the last one, 0 before there
        was any.
        """
        calls = [
            c
            for c in self.content["calls"]
            if c["epochs"] and c["device"] == self.content["device"]
        ]
        return max((call["seconds"] / call["epochs"] for call in calls), default=0.0)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        replace_text(self.path, json.dumps(finite(self.content), indent=1, allow_nan=False) + "\n")


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first entry of `here`, nested mappings included, that is another one in `there`; None if
    there is none.
    """
    for found in differences(here, there):
        if found.a != MISSING:  # what only `there` has is no difference
            other = None if found.b == MISSING else found.b
            return f"{found.name} is {other!r} there, {found.a!r} here"
    return None


def read_results(path: Path) -> dict[str, Any] | None:
    """What `Results.save` wrote, None if there is no file. Raises ValueError for a file that is
    something else.
    """
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it and its checkpoints to begin anew"
        ) from error
    if not isinstance(stored, dict) or not {"finished", "calls", "recipe"} <= stored.keys():
        raise ValueError(f"{path} is not what this check writes; choose another folder (--out)")
    return stored


def wait(device: torch.device) -> None:
    """Return when the device has done what it was handed; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The name of the card, or "cpu" with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).name
    return f"{device.type}, {torch.get_num_threads()} thread(s)"

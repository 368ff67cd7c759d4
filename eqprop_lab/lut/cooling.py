"""Tables that harden while they are trained: a temperature for every epoch.

    T_e = start (end / start)^((e - 1) / (epochs - 1)),   e = 1 .. epochs

`fit(..., callbacks=[Cooling(1.0, 0.2, epochs=20)])`; later epochs keep `end`. A cold relaxation is
close to the truth tables, so that less is lost when these take over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqprop_lab.lut.base_model import BaseLUTModel
from eqprop_lab.validation import positive_int, real


class Cooling:
    """Sets the runtime temperature of a LUT network before each epoch.

    Args: start, end > 0; epochs: until `end` is reached, counted over all fits of a trainer.
    Raises: TypeError, ValueError naming the argument; TypeError for another kind of model.
    """

    def __init__(self, start: float, end: float, epochs: int) -> None:
        self.start, self.end = real("start", start, above=0.0), real("end", end, above=0.0)
        self.epochs = positive_int("epochs", epochs)

    def temperature(self, epoch: int) -> float:
        """T of epoch 1, 2, ..."""
        part = min(1.0, (epoch - 1) / max(1, self.epochs - 1))
        return float(self.start * (self.end / self.start) ** part)

    def _set(self, trainer: Any, epoch: int) -> None:
        model = trainer.model
        if not isinstance(model, BaseLUTModel):
            raise TypeError(f"model must be a BaseLUTModel to cool, got {type(model).__name__}")
        model.schedule({"temperature": self.temperature(epoch)})

    def on_fit_start(self, trainer: Any) -> None:
        """Set the temperature of the next epoch."""
        self._set(trainer, trainer.history.epochs + 1)

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        """Set the temperature of the next epoch."""
        self._set(trainer, record["epoch"] + 1)

    def state_dict(self) -> dict[str, Any]:
        """Its settings: the epoch says the rest."""
        return {"cooling": (self.start, self.end, self.epochs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError for those of another schedule."""
        if tuple(state.get("cooling", ())) != (self.start, self.end, self.epochs):
            raise ValueError(f"a schedule had {state.get('cooling')}, this one has {vars(self)}")

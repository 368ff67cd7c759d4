"""`TrainingTab`: a cockpit that trains what its controls say and keeps every run in a store."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from torch import nn

from eqprop_lab.experiments.config import (
    ExperimentConfig,
    build_experiment,
    fit_experiment,
    parse_config,
)
from eqprop_lab.experiments.errors import USERS_ERRORS
from eqprop_lab.experiments.runs import RunStore
from eqprop_lab.notebook.cockpit import TrainingCockpit
from eqprop_lab.notebook.curves import CURVES_WITH_LOSS
from eqprop_lab.notebook.dashboard.choices import Kind
from eqprop_lab.notebook.dashboard.estimates import needs
from eqprop_lab.notebook.picture import alert_html, safe_message
from eqprop_lab.training import History


class Experiment:
    """An experiment as the cockpit takes it: `fit` keeps a run of the store, from its first epoch.

    watch: a function of the trainer, called after every epoch.
    """

    def __init__(
        self, config: ExperimentConfig, store: RunStore, watch: Callable[[Any], object]
    ) -> None:
        self._config, self._store, self._watch = config, store, watch
        self._trainer, self._data = build_experiment(config)
        self._trainer.progress = False

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self._trainer.model

    def fit(
        self, train: Any, epochs: int, val_loader: Any = None, callbacks: Sequence[Any] = ()
    ) -> History:
        """Train on the data of the experiment; the loaders of the cockpit are not used."""
        run = self._store.create(self._config.as_dict())
        watchers = (*callbacks, lambda _: self._watch(self._trainer), run)
        return fit_experiment(self._config, self._trainer, self._data, watchers)


class TrainingTab(TrainingCockpit):
    """Controls of one kind, what they will need, Start, Pause, Stop, and live curves.

    Args:
        kind: what is offered. store: where runs are kept, one folder each, from Start on.
    """

    panels = CURVES_WITH_LOSS
    size = (7.0, 4.2)

    def __init__(self, kind: Kind, store: RunStore) -> None:
        self._kind, self._store = kind, store
        self._card = widgets.HTML()
        self._said = ""
        super().__init__(self._make, kind.controls(), title=f"{kind.title}: train and watch")
        self._before = self.values
        self.widget.children = self._placed(list(self.widget.children))
        # In a thread: the page need not wait for it.
        self._redraws.ask()

    @property
    def needs(self) -> str:
        """What the present values need, as the page says it."""
        return self._said

    def _placed(self, rows: list[widgets.Widget]) -> list[widgets.Widget]:
        """The rows of the page with the needs above the buttons."""
        after = 1 + len(self._controls.widgets)
        return [*rows[:after], self._card, *rows[after:]]

    def set(self, **values: Any) -> None:
        """Move controls, and those that go with them; RuntimeError during a run, ValueError."""
        super().set(**values)
        self._moved()

    def reset(self) -> None:
        super().reset()
        self._moved()

    def _moved(self) -> None:
        """Controls that belong together, then the picture's note, then what all that will need."""
        with self._lock:
            self._controls.assign(self._kind.following(self._before, self.values))
            self._before = self.values
            self.redraw()
        self._say_needs(self.values)

    def _say_needs(self, values: dict[str, Any]) -> None:
        self._say("Estimating what this needs ...")
        try:
            found = needs(parse_config(self._kind.config(values)))
        except USERS_ERRORS as error:
            self._say(f"This cannot be trained. {safe_message(error)}", wrong=True)
        else:
            if values == self.values:
                self._say(str(found))

    def _say(self, text: str, wrong: bool = False) -> None:
        self._said = text
        line = f'<span role="status" class="eqprop-needs">{html.escape(text)}</span>'
        self._card.value = alert_html(text) if wrong else line

    def _make(self, values: dict[str, Any]) -> tuple[Experiment, None, None]:
        config = parse_config(self._kind.config(values))
        return Experiment(config, self._store, self._after_epoch), None, None

    def _after_epoch(self, trainer: Any) -> None:
        """In the thread of the training, after every epoch: nothing, for images."""

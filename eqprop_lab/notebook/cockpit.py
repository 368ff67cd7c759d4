"""`TrainingCockpit`: Start, Stop and Reset of a training run with live curves."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ipywidgets as widgets

from eqprop_lab.notebook.background import AlreadyRunning, StopRequested, TrainingWorker
from eqprop_lab.notebook.controls import Control
from eqprop_lab.notebook.curves import CURVES_SIZE, curves_sentence, draw_curves
from eqprop_lab.notebook.layout import SteadyLayout
from eqprop_lab.notebook.panel import Controls, action_button, parameters_box, toggle_parameters
from eqprop_lab.notebook.picture import (
    LivePicture,
    alert_html,
    image_html,
    safe_message,
    title_html,
)
from eqprop_lab.notebook.redrawing import LatestOnly
from eqprop_lab.notebook.style import new_figure
from eqprop_lab.training import StopTraining
from eqprop_lab.validation import positive_int

MakeTrainer = Callable[[dict[str, Any]], tuple[Any, Any, Any]]
"""Values of the controls -> (trainer, train loader, validation loader)."""

_PROGRESS_SECONDS = 0.1
_REDRAW_SECONDS = 0.3
_DPI = 140


class _Watch:
    """The trainer's callback: checks Stop after every batch, reports after every epoch."""

    def __init__(self, worker: TrainingWorker, epochs: int) -> None:
        self._worker, self._epochs, self._done, self._shown = worker, epochs, 0, 0.0

    def on_batch_end(self, trainer: Any, batch: int, batches: int | None) -> None:
        """`batch` counts from 1; a loader without a length (`batches` None) moves the bar by epochs
        only.
        """
        self._check()
        now = time.monotonic()
        if batches and now - self._shown > _PROGRESS_SECONDS:
            self._shown = now
            self._worker.progress = min(
                1.0, (self._done + min(1.0, batch / batches)) / self._epochs
            )

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Report first: an epoch that is finished is shown even when Stop came during it."""
        self._done += 1
        self._worker.progress = min(1.0, self._done / self._epochs)
        self._worker.report(record)
        self._check()

    def _check(self) -> None:
        try:
            self._worker.checkpoint()
        except StopRequested as stop:
            raise StopTraining("Stop was pressed") from stop


def _three(made: Any) -> tuple[Any, Any, Any]:
    """What make_trainer returned, if it is what is needed."""
    if not isinstance(made, tuple) or len(made) != 3 or not callable(getattr(made[0], "fit", None)):
        raise TypeError(
            f"make_trainer returned {type(made).__name__}; a trainer with fit(), a train loader and a validation "
            "loader (or None) are needed"
        )
    return made


class TrainingCockpit(LivePicture):
    """Train in a worker thread and watch accuracy, residual and operator norm.

    Args:
        make_trainer: called in the thread at every Start with the controls' values; returns trainer
            and loaders. The trainer has `fit(train_loader, epochs=, val_loader=, callbacks=)`; it
            must not print.
        controls: sliders, choices and switches; locked during a run. One named "epochs" overrides
            `epochs`.
        epochs: length of a run, >= 1.
        title: heading of the widget.
    """

    def __init__(
        self,
        make_trainer: MakeTrainer,
        controls: Sequence[Control] = (),
        epochs: int = 10,
        title: str = "Training cockpit",
    ) -> None:
        if not callable(make_trainer):
            raise TypeError(
                f"make_trainer is a {type(make_trainer).__name__}; a function of the values is needed"
            )
        self.trainer: Any = None
        self.picture_width = CURVES_SIZE[0] * 100
        self._make_trainer, self._epochs = make_trainer, positive_int("epochs", epochs)
        self._redraws = LatestOnly(self._redraw, "redraw of the cockpit")
        self._controls = Controls(controls, self._redraws.ask, {})
        self._run_values = self.values
        self._worker = TrainingWorker(self._train)
        self._run_epochs = self.values.get("epochs", epochs)
        self._lock, self._drawn = threading.RLock(), 0.0
        self._figure, self._layout = new_figure(*CURVES_SIZE), SteadyLayout()
        self._picture, self._alert, self._line = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._parameters = parameters_box()
        self._progress = widgets.FloatProgress(
            min=0.0, max=1.0, description="Progress", layout={"width": "100%"}
        )
        self._stop_button = action_button(
            "Stop", "eqprop-stop", "End the run after the present batch"
        )
        self.widget = self._build(title)
        self._redraw()
        self._show_state()
        self._worker.observe(lambda _: self._follow(), names="history")
        self._worker.observe(lambda _: self._show_state(), names=("status", "message"))
        self._worker.observe(
            lambda change: setattr(self._progress, "value", change["new"]), names="progress"
        )

    @property
    def values(self) -> dict[str, Any]:
        """A copy of the controls' present values."""
        return dict(self._controls.values)

    @property
    def status(self) -> str:
        """One of idle, running, stopping, stopped, finished, failed."""
        return str(self._worker.status)

    @property
    def errors(self) -> list[Exception]:
        """Errors of the present run."""
        return self._worker.errors

    @property
    def history(self) -> dict[str, list[Any]]:
        """The finished epochs of the present run as lists: epoch, train_loss, train_accuracy, ..."""
        records = self._worker.history
        return {key: [record[key] for record in records] for key in (records[0] if records else ())}

    def set(self, **values: Any) -> None:
        """Move controls from code; RuntimeError during a run, ValueError for a wrong name or value."""
        if self._worker.running:
            raise RuntimeError("the controls are locked while the training runs")
        self._controls.assign(self._controls.check(values))
        self._redraw()

    def start(self) -> None:
        """Begin a run with the present values; RuntimeError, shown as well, while one is at work.

        Picture and sentence are those of the new run from now on, before there is a model or an
        epoch.
        """
        with self._lock:
            before = self._run_values, self._run_epochs, self.trainer
            self._run_values, self.trainer = self.values, None
            self._run_epochs = self._run_values.get("epochs", self._epochs)
            try:
                self._worker.start()
            except AlreadyRunning:
                self._run_values, self._run_epochs, self.trainer = before
                raise
            self._redraw()

    def stop(self) -> None:
        """End the run after the present batch; finished epochs stay in `history`."""
        self._worker.stop()

    def close(self) -> None:
        """Stop the run after the present batch and take the cockpit off the page; curves and values
        stay.
        """
        self._worker.stop()
        self._worker.unobserve_all()
        super().close()

    def reset(self) -> None:
        """Stop, forget the curves and put every control back."""
        self._worker.reset()
        self._controls.reset()
        self._run_values, self._layout = self.values, SteadyLayout()
        self._run_epochs = self.values.get("epochs", self._epochs)
        self._redraw()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run; False after `timeout` seconds. Raises the run's error if it
        failed.
        """
        return self._worker.wait(timeout)

    def _train(self, worker: TrainingWorker) -> Any:
        worker.message = "Preparing data and model."
        trainer, train_loader, val_loader = _three(self._make_trainer(dict(self._run_values)))
        self.trainer = trainer
        # A progress bar from this thread would land in whatever cell runs.
        if hasattr(trainer, "progress"):
            trainer.progress = False
        worker.checkpoint()
        worker.message = f"Training for {self._run_epochs} epochs."
        watch = _Watch(worker, self._run_epochs)
        return trainer.fit(
            train_loader, epochs=self._run_epochs, val_loader=val_loader, callbacks=(watch,)
        )

    def _follow(self) -> None:
        """An epoch may be shorter than a redraw: then some epochs share one, and the training keeps
        its pace.
        """
        if not self._worker.running or time.monotonic() - self._drawn > _REDRAW_SECONDS:
            self._redraw()

    def _redraw(self) -> None:
        """In the worker's thread during a run; the lock keeps a late redraw off the figure of a new
        one.
        """
        with self._lock:
            history, epochs, note = self.history, self._run_epochs, self._controls.describe()
            if note:
                same = self.values == self._run_values
                note = f"Settings{'' if same else ' of the next run'}: {note}."
            running = "The run has begun. " if self._worker.running and not history else ""
            self.alt = f"{running}{curves_sentence(history, epochs)} {note}".strip()
            draw_curves(self._figure, history, epochs, note)
            self.png = self._layout.png(self._figure, _DPI)
            self._parameters.value = self._controls.as_parameters()
            self._picture.value = image_html(self.png, self.alt, self.picture_width)
            self._worker.image = self.png
            self._drawn = time.monotonic()

    def _show_state(self) -> None:
        """Status line, alert and buttons follow the worker."""
        status, message = self.status, self._worker.message
        done = (
            f" {len(self._worker.history)} epochs done."
            if status in ("stopped", "finished")
            else ""
        )
        text = message if status in ("running", "stopping") else status.capitalize() + "." + done
        self._line.value = f'<span role="status">{html.escape(text)}</span>'
        self._alert.value = alert_html(message if status == "failed" else "")
        if status in ("stopped", "finished", "failed"):
            self._redraw()
        busy = status in ("running", "stopping")
        self._stop_button.disabled = not busy
        self._controls.disable(busy)

    def _build(self, title: str) -> widgets.VBox:
        start = action_button("Start", "eqprop-start", "Train with the values above")
        reset = action_button(
            "Reset", "eqprop-reset", "Forget the curves and put every control back"
        )
        start.on_click(lambda _: self._start_by_hand())
        self._stop_button.on_click(lambda _: self.stop())
        reset.on_click(lambda _: self._reset_by_hand())
        buttons = [start, self._stop_button, reset]
        parameters = self._parameters
        if self._controls.widgets:
            copy = action_button(
                "Copy as parameters", "eqprop-copy", "Copy these values as a parameters cell"
            )
            copy.on_click(lambda _: toggle_parameters(parameters, self._controls.as_parameters()))
            buttons.append(copy)
        parts = [
            widgets.HTML(title_html(title)),
            *self._controls.widgets.values(),
            widgets.HBox(buttons),
            parameters,
            self._progress,
            self._line,
            self._alert,
            self._picture,
        ]
        box = widgets.VBox(parts)
        box.add_class("eqprop-cockpit").add_class("eqprop-live")
        return box

    def _start_by_hand(self) -> None:
        """A refused second Start is no error of the page: the status line already says what to do."""
        with suppress(AlreadyRunning):
            self.start()

    def _reset_by_hand(self) -> None:
        try:
            self.reset()
        except RuntimeError as error:
            self._alert.value = alert_html(safe_message(error))
            raise

"""`TrainingCockpit`: Start, Pause, Stop and Reset of a training run with live curves."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import ipywidgets as widgets
from traitlets import dlink

from eqprop_lab.notebook.background import AT_WORK, AlreadyRunning, TrainingWorker
from eqprop_lab.notebook.controls import Control
from eqprop_lab.notebook.curves import CURVES, CURVES_SIZE, Panels, curves_sentence, draw_curves
from eqprop_lab.notebook.layout import SteadyLayout
from eqprop_lab.notebook.live import DPI, LivePicture
from eqprop_lab.notebook.picture import alert_html, safe_message
from eqprop_lab.validation import positive_int

MakeTrainer = Callable[[dict[str, Any]], tuple[Any, Any, Any]]
"""Values of the controls -> (trainer, train loader, validation loader)."""

_PROGRESS_SECONDS = 0.1
_REDRAW_SECONDS = 0.3


class _Watch:
    """The trainer's callback: checks Stop after every batch, reports after every epoch."""

    def __init__(self, worker: TrainingWorker, epochs: int) -> None:
        self._worker, self._epochs = worker, epochs
        self._done, self._shown = 0, 0.0

    def on_batch_end(self, trainer: Any, batch: int, batches: int | None) -> None:
        """`batch` counts from 1; a loader without a length (`batches` None) moves no bar."""
        self._worker.checkpoint()
        now = time.monotonic()
        if batches and now - self._shown > _PROGRESS_SECONDS:
            self._shown = now
            share = self._done + min(1.0, batch / batches)
            self._worker.progress = min(1.0, share / self._epochs)

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Report first: an epoch that is finished is shown even when Stop came during it."""
        self._done += 1
        self._worker.progress = min(1.0, self._done / self._epochs)
        self._worker.report(record)
        self._worker.checkpoint()


def _three(made: Any) -> tuple[Any, Any, Any]:
    """What make_trainer returned, if it is what is needed."""
    if not isinstance(made, tuple) or len(made) != 3 or not callable(getattr(made[0], "fit", None)):
        raise TypeError(
            f"make_trainer returned {type(made).__name__}; a trainer with fit(), a train loader "
            "and a validation loader (or None) are needed"
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
    panels: where "accuracy", "loss", "residual" and "norm" lie in the picture.
    """

    panels: ClassVar[Panels] = CURVES
    size: ClassVar[tuple[float, float]] = CURVES_SIZE

    def __init__(
        self,
        make_trainer: MakeTrainer,
        controls: Sequence[Control] = (),
        epochs: int = 10,
        title: str = "Training cockpit",
    ) -> None:
        if not callable(make_trainer):
            raise TypeError(
                f"make_trainer is a {type(make_trainer).__name__}; a function of the values is "
                "needed"
            )
        self.trainer: Any = None
        self._make_trainer = make_trainer
        self._epochs = positive_int("epochs", epochs)
        self._worker = TrainingWorker(self._train)
        super().__init__(self.size, controls, {})
        self._drawn = 0.0
        self._line = widgets.HTML()
        self._progress = widgets.FloatProgress(max=1.0, description="Progress")
        self._progress.layout.width = "100%"
        buttons = [
            self._button("Start", "Train with the values above", self._start_by_hand),
            self._button("Pause", "Wait after the present batch, or go on", self._pause_by_hand),
            self._button("Stop", "End the run after the present batch", self.stop),
            self._button(
                "Reset", "Forget the curves and put every control back", self._reset_by_hand
            ),
        ]
        self._pause_button, self._stop_button = buttons[1:3]
        self.widget = self._box("cockpit", title, buttons, self._progress, self._line)
        self._run = self._present()
        self.redraw()
        self._show_state()
        self._worker.observe(lambda _: self._follow(), names="history")
        self._worker.observe(lambda _: self._show_state(), names=("status", "message"))
        dlink((self._worker, "progress"), (self._progress, "value"))

    @property
    def status(self) -> str:
        """One of idle, running, paused, stopping, stopped, finished, failed."""
        return str(self._worker.status)

    @property
    def errors(self) -> list[Exception]:
        """Errors of the present run."""
        return self._worker.errors

    @property
    def history(self) -> dict[str, list[Any]]:
        """The finished epochs of the present run, each quantity a list: epoch, train_loss, ..."""
        records = self._worker.history
        return {key: [record[key] for record in records] for key in (records[0] if records else ())}

    def set(self, **values: Any) -> None:
        """Move controls; RuntimeError during a run, ValueError for a wrong name or value."""
        if self._worker.running:
            raise RuntimeError("the controls are locked while the training runs")
        super().set(**values)

    def start(self) -> None:
        """Begin a run with the present values; RuntimeError, shown as well, while one is at work.

        Picture and sentence are those of the new run from now on, before there is a model or an
        epoch.
        """
        with self._lock:
            before = self._run, self.trainer
            self._run, self.trainer = self._present(), None
            try:
                self._worker.start()
            except AlreadyRunning:
                self._run, self.trainer = before
                raise
            self.redraw()

    def stop(self) -> None:
        """End the run after the present batch; finished epochs stay in `history`."""
        self._worker.stop()

    def pause(self) -> None:
        """Hold the run after the present batch; `go_on` ends that, and so does `stop`."""
        self._worker.pause()

    def go_on(self) -> None:
        """Go on after a pause."""
        self._worker.go_on()

    def close(self) -> None:
        """Stop the run and take the cockpit off the page; curves and values stay."""
        self._worker.stop()
        self._worker.unobserve_all()
        super().close()

    def reset(self) -> None:
        """Stop, forget the curves and put every control back."""
        self._worker.reset()
        self._controls.reset()
        self._layout = SteadyLayout()
        self._run = self._present()
        self.redraw()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run; False after `timeout` seconds. Raises the run's error."""
        return self._worker.wait(timeout)

    def _present(self) -> tuple[dict[str, Any], int]:
        """Values and length of the run that would begin now."""
        return self.values, self.values.get("epochs", self._epochs)

    def _train(self, worker: TrainingWorker) -> Any:
        values, epochs = self._run
        worker.message = "Preparing data and model."
        trainer, train_loader, val_loader = _three(self._make_trainer(dict(values)))
        self.trainer = trainer
        # A progress bar from this thread would land in whatever cell runs.
        if hasattr(trainer, "progress"):
            trainer.progress = False
        worker.checkpoint()
        worker.message = f"Training for {epochs} epochs."
        watch = _Watch(worker, epochs)
        return trainer.fit(train_loader, epochs=epochs, val_loader=val_loader, callbacks=(watch,))

    def _follow(self) -> None:
        """Epochs shorter than a redraw share one: the training keeps its pace."""
        if not self._worker.running or time.monotonic() - self._drawn > _REDRAW_SECONDS:
            self.redraw()

    def redraw(self) -> None:
        """Draw the finished epochs, during a run in the worker's thread.

        The lock keeps a late redraw off the figure of a new run.
        """
        with self._lock:
            history = self.history
            values, epochs = self._run
            note = self._controls.describe()
            if note:
                same = self.values == values
                note = f"Settings{'' if same else ' of the next run'}: {note}."
            running = "The run has begun. " if self._worker.running and not history else ""
            alt = f"{running}{curves_sentence(history, epochs, self.panels)} {note}".strip()
            draw_curves(self._figure, history, epochs, note, self.panels)
            self._show(self._layout.png(self._figure, DPI), alt)
            self._worker.image = self.png
            self._drawn = time.monotonic()

    def _show_state(self) -> None:
        """Status line, alert and buttons follow the worker."""
        status, message = self.status, self._worker.message
        ended = status in ("stopped", "finished")
        done = f" {len(self._worker.history)} epochs done." if ended else ""
        busy = status in AT_WORK
        text = message if busy else status.capitalize() + "." + done
        if status == "paused":
            text = "Paused. Press Go on, or Stop."
        self._line.value = f'<span role="status">{html.escape(text)}</span>'
        self._alert.value = alert_html(message if status == "failed" else "")
        if ended or status == "failed":
            self.redraw()
        self._stop_button.disabled = not busy
        self._pause_button.disabled = status not in ("running", "paused")
        self._pause_button.description = "Go on" if status == "paused" else "Pause"
        self._controls.disable(busy)

    def _start_by_hand(self) -> None:
        """A refused second Start is no error of the page: the status line says what to do."""
        with suppress(AlreadyRunning):
            self.start()

    def _pause_by_hand(self) -> None:
        (self.go_on if self.status == "paused" else self.pause)()

    def _reset_by_hand(self) -> None:
        try:
            self.reset()
        except RuntimeError as error:
            self._alert.value = alert_html(safe_message(error))
            raise

"""`TextBox`: a prompt, a button, and a text that grows on the page while a model writes it.

The model writes in a worker thread that talks through traits only, so the notebook stays usable and
Stop acts between two pieces. What the reader may mistype (an unknown character, an empty prompt) is
shown as an alert and is no error of the notebook; any other exception is shown, kept and raised.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ipywidgets as widgets

from eqprop_lab.notebook.background import AT_WORK, AlreadyRunning, TrainingWorker
from eqprop_lab.notebook.controls import LABEL_STYLE, Control
from eqprop_lab.notebook.freeing import close_all, keep_while_shown
from eqprop_lab.notebook.output import emit_widget
from eqprop_lab.notebook.panel import Controls
from eqprop_lab.notebook.picture import alert_html, safe_message, title_html

Write = Callable[..., object]
"""(prompt, stream=function of every new piece of text, one keyword per control), as `generate`."""


class TextBox:
    """Type a beginning, press Write, read on.

    Args:
        write: see `Write`; called in the thread, `model.generate` fits. A ValueError of it says
            what is wrong with the prompt.
        prompt: at the start. controls: sliders, choices and switches whose values `write` is given.
        title: heading of the widget. values: other start values of the controls.
    `text` is what has been written so far, prompt included.
    """

    def __init__(
        self,
        write: Write,
        prompt: str,
        controls: Sequence[Control] = (),
        title: str = "Write on",
        **values: Any,
    ) -> None:
        if not callable(write):
            raise TypeError(
                f"write is a {type(write).__name__}; a function of the prompt is needed"
            )
        if not isinstance(prompt, str):
            raise TypeError(f"prompt must be a text, got {type(prompt).__name__}")
        self._write = write
        self._controls = Controls(controls, lambda: None, values)
        self._worker = TrainingWorker(self._task)
        self._begun = prompt
        look: dict[str, Any] = {"style": LABEL_STYLE, "layout": {"width": "calc(100% - 4px)"}}
        self._prompt = widgets.Text(prompt, description="Beginning", continuous_update=True, **look)
        self._line, self._page, self._alert = (widgets.HTML() for _ in range(3))
        self._buttons = {
            "write": self._button("Write", "Go on from the beginning above", self._start_by_hand),
            "stop": self._button("Stop", "End after the present piece", self.stop),
        }
        row = widgets.HBox(list(self._buttons.values()))
        head = [widgets.HTML(title_html(title)), self._prompt, *self._controls.widgets.values()]
        self.widget = widgets.VBox([*head, row, self._line, self._alert, self._page])
        self.widget.add_class("eqprop-text").add_class("eqprop-live")
        self._show()
        self._worker.observe(lambda _: self._show(), names=("history", "status", "message"))

    @property
    def text(self) -> str:
        """The prompt of the present run and what follows it."""
        return self._begun + "".join(record["piece"] for record in self._worker.history)

    @property
    def status(self) -> str:
        """One of idle, running, stopping, stopped, finished, failed."""
        return str(self._worker.status)

    @property
    def errors(self) -> list[Exception]:
        """Errors of the present run."""
        return self._worker.errors

    @property
    def values(self) -> dict[str, Any]:
        """A copy of the controls' present values."""
        return dict(self._controls.values)

    def start(self, prompt: str | None = None, **values: Any) -> None:
        """Begin to write, from another prompt and with other values if they are given.

        Raises ValueError for a wrong name or value; AlreadyRunning.
        """
        checked = self._controls.check(values)
        if not self._worker.running:
            self._controls.assign(checked)
            if prompt is not None:
                self._prompt.value = prompt
            self._begun = self._prompt.value
        self._worker.start()

    def stop(self) -> None:
        """End after the present piece; what is written stays."""
        self._worker.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run; False after `timeout` seconds. Raises the run's error."""
        return self._worker.wait(timeout)

    def close(self) -> None:
        """Stop, and take it off the page; the text stays."""
        self._worker.stop()
        self._worker.unobserve_all()
        close_all(self.widget)

    def _task(self, worker: TrainingWorker) -> None:
        def stream(piece: str) -> None:
            worker.report({"piece": piece})
            worker.checkpoint()

        try:
            self._write(self._begun, stream=stream, **self.values)
        except ValueError as error:
            self.errors.append(error)

    def _button(self, text: str, tooltip: str, pressed: Callable[[], object]) -> widgets.Button:
        button = widgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})
        button.add_class(f"eqprop-{text.lower()}")
        button.on_click(lambda _: pressed())
        return button

    def _start_by_hand(self) -> None:
        with suppress(AlreadyRunning):
            self.start()

    def _show(self) -> None:
        """Text, status line, alert and buttons follow the worker."""
        busy = self.status in AT_WORK
        written = "".join(record["piece"] for record in self._worker.history)
        look = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.5"
        text = f"<strong>{html.escape(self._begun)}</strong>{html.escape(written)}"
        self._page.value = f'<div class="eqprop-written" style="{look}">{text}</div>'
        said = "Ready" if self.status == "idle" else self.status.capitalize()
        self._line.value = f'<span role="status">{said}: {len(written)} characters.</span>'
        self._alert.value = "" if busy else alert_html(self._refusal())
        self._buttons["write"].disabled, self._buttons["stop"].disabled = busy, not busy
        self._controls.disable(busy)

    def _refusal(self) -> str:
        return "\n".join(safe_message(error) for error in self.errors)

    def _ipython_display_(self) -> None:
        """The widget, and the text as it stands for pages without widgets."""
        keep_while_shown(self)
        page = f'<div class="eqprop-static">{self._page.value}</div>'
        emit_widget(self.widget, {"text/html": page, "text/plain": self.text})

"""`LanguageTab`: a training tab whose model writes, a line after every epoch, and when asked to."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as widgets

from eqprop_lab.notebook.background import AT_WORK
from eqprop_lab.notebook.controls import Slider
from eqprop_lab.notebook.dashboard.tab import TrainingTab
from eqprop_lab.notebook.text_box import TextBox

PROMPT = "The "
LINE = 60
TEMPERATURE = 0.7

_CONTROLS = (
    Slider("max_new_tokens", 20, 400, 120, 20, "length", "characters"),
    Slider("temperature", 0.1, 1.5, TEMPERATURE, 0.1, "temperature"),
    Slider("seed", 0, 99, 0, 1, "seed of the text"),
)


class LanguageTab(TrainingTab):
    """`sample`: what the model wrote after the last epoch; `text`: the box in which one asks it."""

    def __init__(self, *what: Any) -> None:
        self.sample = ""
        self._sample = widgets.HTML()
        self.text = TextBox(self._write, PROMPT, _CONTROLS, "The trained model writes on")
        super().__init__(*what)

    def _placed(self, rows: list[widgets.Widget]) -> list[widgets.Widget]:
        return [*super()._placed(rows), self._sample, self.text.widget]

    def start(self) -> None:
        """Begin a run; what the model before was writing ends."""
        self._quiet()
        super().start()
        self._show_sample("")

    def go_on(self) -> None:
        """Go on after a pause; what was being written ends: the weights move again."""
        self._quiet()
        super().go_on()

    def close(self) -> None:
        self.text.close()
        super().close()

    def reset(self) -> None:
        self._quiet()
        super().reset()
        self._show_sample("")

    def _quiet(self) -> None:
        self.text.stop()
        self.text.wait(5.0)

    def _after_epoch(self, trainer: Any) -> None:
        def on(_: str) -> None:
            self._worker.checkpoint()

        written = trainer.model.generate(PROMPT, LINE, TEMPERATURE, seed=0, stream=on)
        self._show_sample(written)

    def _show_sample(self, text: str) -> None:
        self.sample = text
        look = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.5"
        self._sample.value = text and (
            f'<div class="eqprop-sample" role="log" style="{look}"><strong>After epoch '
            f"{len(self._worker.history)}:</strong> {html.escape(text)}</div>"
        )

    def _write(self, prompt: str, **how: Any) -> object:
        """`generate` of the model that was trained last. Raises ValueError where there is none."""
        if self.status in AT_WORK and self.status != "paused":
            raise ValueError("the model is being trained: press Pause, or wait for the end")
        if self.trainer is None:
            raise ValueError("no model is trained yet: press Start")
        return self.trainer.model.generate(prompt, **how)

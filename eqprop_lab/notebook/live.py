"""`LivePicture`: controls, buttons and a picture with its sentence, live where widgets run, an
`<img alt>` on every other page.

Pictures are drawn under a lock on a figure of their own and never through pyplot: since ipykernel 7
a slider's callback may run in another thread while a cell plots.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from eqprop_lab.notebook.controls import LABEL_STYLE, Control
from eqprop_lab.notebook.freeing import close_all, keep_while_shown
from eqprop_lab.notebook.layout import SteadyLayout
from eqprop_lab.notebook.output import emit_widget
from eqprop_lab.notebook.panel import Controls
from eqprop_lab.notebook.picture import image_html, picture_bundle, title_html
from eqprop_lab.notebook.redrawing import LatestOnly
from eqprop_lab.notebook.style import fit_png, new_figure

STORED_BYTES = 48 * 1024
"""Of the copy a notebook stores beside the widget: 256 colours do for a page that cannot run it."""

DPI = 140


class LivePicture(ABC):
    """Base of `Explorer` and `TrainingCockpit`: png, alt (its sentence), widget, values.

    A subclass draws in `redraw`, which ends in `_show`, and puts its widget together with `_box`.
    """

    widget: widgets.VBox

    def __init__(
        self, size: tuple[float, float], controls: Sequence[Control], start: Mapping[str, Any]
    ) -> None:
        """size: of the picture, in inches. start: other start values of the controls."""
        self.alt, self.png = "", b""
        self.picture_width = size[0] * 100
        self._lock = threading.RLock()
        self._figure = new_figure(*size)
        self._layout = SteadyLayout()
        self._redraws = LatestOnly(self._moved, f"redraw of {type(self).__name__}")
        self._controls = Controls(controls, self._redraws.ask, start)
        self._picture = widgets.HTML()
        self._alert = widgets.HTML()
        # A text area, so that select-all takes the cell and nothing else; hidden until asked for.
        look = {"style": LABEL_STYLE, "layout": {"width": "100%", "display": "none"}}
        self._parameters = widgets.Textarea(description="Parameters cell", rows=5, **look)
        self._parameters.add_class("eqprop-parameters")

    @property
    def values(self) -> dict[str, Any]:
        """A copy of the controls' present values."""
        return dict(self._controls.values)

    def parameters(self) -> str:
        """The present values as the text of a papermill `parameters` cell."""
        return self._controls.as_parameters()

    def set(self, **values: Any) -> None:
        """Move controls from code and redraw at once; ValueError for a wrong name or value."""
        self._controls.assign(self._controls.check(values))
        self.redraw()

    @abstractmethod
    def redraw(self) -> None:
        """Draw and show the present values in the calling thread; a subclass's work."""

    def close(self) -> None:
        """Take it off the page and free what works for it; picture, sentence and values stay."""
        close_all(self.widget)

    def _moved(self) -> None:
        """In the thread of redraws, after the reader moved a control."""
        self.redraw()

    def _show(self, png: bytes, alt: str) -> None:
        self.png, self.alt = png, alt
        self._picture.value = image_html(png, alt, self.picture_width)
        self._parameters.value = self.parameters()

    def _button(self, text: str, tooltip: str, pressed: Callable[[], object]) -> widgets.Button:
        """A button with a tooltip; browser tests find it by the class of its first word."""
        button = widgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})
        button.add_class(f"eqprop-{text.split()[0].lower()}")
        button.on_click(lambda _: pressed())
        return button

    def _box(
        self, name: str, title: str, buttons: Sequence[widgets.Button], *rows: widgets.Widget
    ) -> widgets.VBox:
        """All parts below each other; `rows` lie above the picture, `name` is the box's class."""
        if self._controls.widgets:
            words = "Copy as parameters", "Copy these values as a parameters cell"
            buttons = [*buttons, self._button(*words, self._toggle_parameters)]
        head = [widgets.HTML(title_html(title)), *self._controls.widgets.values()]
        head += [widgets.HBox(list(buttons)), self._parameters]
        box = widgets.VBox([*head, *rows, self._alert, self._picture])
        box.add_class(f"eqprop-{name}").add_class("eqprop-live")
        return box

    def _toggle_parameters(self) -> None:
        """Show the parameters cell, or hide it."""
        self._parameters.value = self.parameters()
        layout = self._parameters.layout
        layout.display = "flex" if layout.display == "none" else "none"

    def _ipython_display_(self) -> None:
        """The widget, and its picture with the sentence for pages without widgets."""
        keep_while_shown(self)
        emit_live(self.widget, self.png, self.alt, self.picture_width)


def emit_live(widget: widgets.Widget, png: bytes, alt: str, width: float) -> None:
    """A widget, and a picture with its sentence for pages without widgets."""
    png = fit_png(png, STORED_BYTES)
    page = f'<div class="eqprop-static">{image_html(png, alt, width)}</div>'
    emit_widget(widget, *picture_bundle(png, alt, width, page))

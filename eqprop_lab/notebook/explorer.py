"""`Explorer`: sliders, a pure computation, a private figure, shown as a picture and its sentence.

Pictures are drawn under a lock on a figure of their own and never through pyplot: since ipykernel 7
a slider's callback may run in another thread while a cell plots.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import ipywidgets as widgets
from matplotlib.figure import Figure

from eqprop_lab.notebook.blitting import MovingPicture
from eqprop_lab.notebook.controls import Control
from eqprop_lab.notebook.figures import require_alt
from eqprop_lab.notebook.layout import SteadyLayout
from eqprop_lab.notebook.panel import Controls, action_button, parameters_box, toggle_parameters
from eqprop_lab.notebook.picture import (
    LivePicture,
    alert_html,
    image_html,
    safe_message,
    title_html,
)
from eqprop_lab.notebook.png import quick_png
from eqprop_lab.notebook.redrawing import LatestOnly
from eqprop_lab.notebook.style import new_figure, style_context

Show = Callable[[Any], None]
"""Gives artists that were made once the data of another picture."""

_DPI = 140


class Explorer(LivePicture):
    """Base of every explorer. Subclasses set `title` and `controls` and write three pure methods:

    - `compute(**values) -> data`: one keyword per control;
    - `draw(figure, data)`: on a cleared private figure of `size` inches, under the project's style;
    - `describe(data, **values) -> str`: the alternative text, a sentence of 20 characters or more.

    A quick one has another method in the place of `draw`, and each redraw then draws only what has
    changed:

    - `build(figure) -> [show, ...]`: makes axes with places of their own and the artists that will
      move; every `show(data)` gives some of them all that depends on the data, whatever they
      showed.

    An error of any of them is shown as an alert above the last good picture, kept in `errors`, and
    raised: out of the constructor, `set` and `reset`, or out of the redraw's thread after a slider
    moved.
    """

    title: ClassVar[str] = ""
    controls: ClassVar[Sequence[Control]] = ()
    size: ClassVar[tuple[float, float]] = (7.0, 3.2)

    def __init__(self, **values: Any) -> None:
        """Draw the first picture; `values` override the controls' start values, also for Reset."""
        if not self.title.strip():
            raise ValueError(f"{type(self).__name__} has no title")
        self.errors: list[BaseException] = []
        self.data: Any = None
        self.alt, self.png = "", b""
        self.picture_width = self.size[0] * 100
        self._lock = threading.RLock()
        self._figure, self._layout = new_figure(*self.size), SteadyLayout()
        self._moving: tuple[MovingPicture, Sequence[Show]] | None = None
        self._redraws = LatestOnly(self._follow, f"redraw of {type(self).__name__}")
        self._controls = Controls(self.make_controls(), self._redraws.ask, values)
        self._tried: dict[str, Any] | None = None
        self._picture, self._alert, self._parameters = (
            widgets.HTML(),
            widgets.HTML(),
            parameters_box(),
        )
        self.widget = self._build()
        self.redraw()

    def make_controls(self) -> Sequence[Control]:
        """`controls`, unless a range depends on what the constructor was given."""
        return self.controls

    def compute(self, *_: Any, **values: Any) -> Any:
        """What the picture shows, from the controls' values alone; the base passes them on."""
        return values

    def build(self, figure: Figure) -> Sequence[Show]:
        """Axes and artists without data on the empty `figure`, and what gives them data."""
        raise TypeError(
            f"{type(self).__name__} does not say what to draw: define build(self, figure) or "
            "draw(self, figure, data)"
        )

    def draw(self, figure: Figure, data: Any) -> None:
        """Draw `data` on the cleared `figure`."""
        figure.set_layout_engine("none")
        for show in self.build(figure):
            show(data)

    def describe(self, data: Any, *_: Any, **values: Any) -> str:
        """One sentence that says what is seen; a subclass's work."""
        raise TypeError(
            f"{type(self).__name__} has no alternative text: define describe(self, data, **values)"
        )

    @property
    def values(self) -> dict[str, Any]:
        """A copy of the controls' present values."""
        return dict(self._controls.values)

    def set(self, **values: Any) -> None:
        """Move controls from code and redraw; ValueError for a wrong name or value."""
        self._controls.assign(self._controls.check(values))
        self.redraw()

    def reset(self) -> None:
        """Put every control back to its start value and redraw at once."""
        self._controls.reset()
        with self._lock:
            self._layout = SteadyLayout()
            self.redraw()

    def parameters(self) -> str:
        """The present values as the text of a papermill `parameters` cell."""
        return self._controls.as_parameters()

    def redraw(self) -> None:
        """Compute, draw and show the present values in the calling thread; one redraw at a time."""
        with self._lock:
            values = self._tried = self.values
            try:
                data = self.compute(**values)
                png = self._drawing(data)
                alt = require_alt(self.describe(data, **values))
            except BaseException as error:
                # A picture half of which has moved is no place to go on from.
                self._moving = None
                self.errors.append(error)
                self._alert.value = alert_html(
                    f"{safe_message(error)}\nThe picture still shows the last good values."
                )
                raise
            self.data, self.alt, self.png = data, alt, png
            self._picture.value = image_html(png, alt, self.picture_width)
            self._alert.value = ""
            self._parameters.value = self.parameters()

    def _drawing(self, data: Any) -> bytes:
        """PNG of `data`: what changed over what is kept; all of it where a subclass has `draw`."""
        with style_context():
            if type(self).draw is not Explorer.draw:
                self._figure.clear()
                self.draw(self._figure, data)
                return self._layout.png(self._figure, _DPI)
            if self._moving is None:
                self._figure = new_figure(*self.size)
                self._moving = MovingPicture(self._figure, _DPI), self.build(self._figure)
            picture, shows = self._moving
            for show in shows:
                show(data)
            return quick_png(picture.pixels())

    def _follow(self) -> None:
        """In the thread of redraws, after a slider moved; what is shown is not drawn again."""
        with self._lock:
            if self.values != self._tried:
                self.redraw()

    def _build(self) -> widgets.VBox:
        reset = action_button("Reset", "eqprop-reset", "Put every control back to its start value")
        copy = action_button(
            "Copy as parameters", "eqprop-copy", "Copy these values as a parameters cell"
        )
        reset.on_click(lambda _: self._reset_by_hand())
        copy.on_click(lambda _: toggle_parameters(self._parameters, self.parameters()))
        buttons = widgets.HBox([reset, copy])
        title = widgets.HTML(title_html(self.title))
        box = widgets.VBox(
            [
                title,
                *self._controls.widgets.values(),
                buttons,
                self._parameters,
                self._alert,
                self._picture,
            ]
        )
        box.add_class("eqprop-explorer").add_class("eqprop-live")
        return box

    def _reset_by_hand(self) -> None:
        self._controls.reset()
        self._redraws.ask()

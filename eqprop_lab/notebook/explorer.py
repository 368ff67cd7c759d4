"""`Explorer`: sliders, a pure computation, a private figure; shown as a picture and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import ipywidgets as widgets
from matplotlib.figure import Figure

from eqprop_lab.notebook.blitting import MovingPicture
from eqprop_lab.notebook.controls import Control
from eqprop_lab.notebook.figures import require_alt
from eqprop_lab.notebook.layout import SteadyLayout
from eqprop_lab.notebook.live import DPI, LivePicture
from eqprop_lab.notebook.moving_axes import Show
from eqprop_lab.notebook.picture import alert_html, safe_message
from eqprop_lab.notebook.png import quick_png
from eqprop_lab.notebook.style import new_figure, style_context


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
        self._moving: tuple[MovingPicture, Sequence[Show]] | None = None
        self._tried: dict[str, Any] | None = None
        super().__init__(self.size, self.make_controls(), values)
        tip = "Put every control back to its start value"
        reset = self._button("Reset", tip, self._restart)
        buttons, rows = self.make_parts()
        self.widget = self._box("explorer", self.title, [*buttons, reset], *rows)
        self.redraw()

    def make_controls(self) -> Sequence[Control]:
        """`controls`, unless a range depends on what the constructor was given."""
        return self.controls

    def make_parts(self) -> tuple[Sequence[widgets.Button], Sequence[widgets.Widget]]:
        """Buttons before Reset, and rows between the buttons and the picture: none."""
        return (), ()

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

    def reset(self) -> None:
        """Put every control back to its start value and redraw at once."""
        self._controls.reset()
        with self._lock:
            self._layout = SteadyLayout()
            self.redraw()

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
            self.data = data
            self._show(png, alt)
            self._alert.value = ""

    def _drawing(self, data: Any) -> bytes:
        """PNG of `data`: what changed over what is kept; all of it where a subclass has `draw`."""
        with style_context():
            if type(self).draw is not Explorer.draw:
                self._figure.clear()
                self.draw(self._figure, data)
                return self._layout.png(self._figure, DPI)
            if self._moving is None:
                self._figure = new_figure(*self.size)
                self._moving = MovingPicture(self._figure, DPI), self.build(self._figure)
            picture, shows = self._moving
            for show in shows:
                show(data)
            return quick_png(picture.pixels())

    def _moved(self) -> None:
        with self._lock:
            # What is shown already is not drawn again.
            if self.values != self._tried:
                self.redraw()

    def _restart(self) -> None:
        """The Reset of the page, where a redraw may take its time."""
        self._controls.reset()
        self._redraws.ask()

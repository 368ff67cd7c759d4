"""Redraw without laying out again: the room for labels is measured once and kept while it does.

Measuring it (matplotlib's constrained layout) costs more than half of a redraw, and a picture whose
axes stay where they are is easier to watch.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from eqprop_lab.notebook.style import encode_png

_SPARE_INCHES = 0.09
_SPARE_CHARACTERS = 1


class SteadyLayout:
    """Draws one figure again and again; `png` reuses the axes' places of an alike drawing."""

    def __init__(self) -> None:
        self._shape: Hashable = None
        self._places: list[Any] = []
        self._room: list[int] = []

    def png(self, figure: Figure, dpi: float) -> bytes:
        """PNG of a freshly drawn figure with a constrained layout; other layouts are left alone."""
        engine = figure.get_layout_engine()
        if not isinstance(engine, ConstrainedLayoutEngine):
            return encode_png(figure, dpi)
        # Room for one more digit than the first drawing needs: "0.25" after "0.5" is no reason to
        # start over.
        engine.set(w_pad=_SPARE_INCHES)
        shape = _shape(figure)
        if shape == self._shape:
            figure.set_layout_engine("none")
            try:
                for axes, place in zip(figure.axes, self._places, strict=True):
                    axes.set_position(place)
                png = encode_png(figure, dpi)
            finally:
                figure.set_layout_engine(engine)
            if all(
                length <= room + _SPARE_CHARACTERS
                for length, room in zip(_label_lengths(figure), self._room, strict=True)
            ):
                return png
            for axes in figure.axes:
                axes.set_in_layout(True)
        png = encode_png(figure, dpi)
        self._shape = shape
        self._room = _label_lengths(figure)
        self._places = [axes.get_position(original=True).frozen() for axes in figure.axes]
        return png


def _shape(figure: Figure) -> Hashable:
    """What decides the layout apart from the tick labels: the axes and which texts they have."""
    axes = tuple(
        (
            ax.get_subplotspec() and ax.get_subplotspec().get_geometry(),  # type: ignore[union-attr]
            *(
                text.count("\n") if text else -1
                for text in (ax.get_title("left"), ax.get_title(), ax.get_xlabel())
            ),
            ax.get_ylabel() != "",
        )
        for ax in figure.axes
    )
    lines = (
        text.count("\n") if text else -1 for text in (figure.get_suptitle(), figure.get_supxlabel())
    )
    return axes, *lines, len(figure.legends)


def _label_lengths(figure: Figure) -> list[int]:
    """Longest tick label of every y axis, in characters; known once the figure is drawn."""
    return [
        max(
            (
                len(tick.label1.get_text()) + len(tick.label2.get_text())
                for tick in ax.yaxis.majorTicks
            ),
            default=0,
        )
        for ax in figure.axes
    ]

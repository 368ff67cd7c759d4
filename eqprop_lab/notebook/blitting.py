"""Draw once, then move what moves: changed artists are drawn over a kept background.

A figure that is cleared and drawn anew spends nine tenths of its time on axes, ticks and texts that
look as before. Here artists are made once and get new data; matplotlib marks what was changed
(`artist.stale`), and only these artists, with those that lie above them in the same axes, are drawn
again. A background is made anew when something in it has changed: limits, tick labels, a text that
stood still before. The pixels are those of a full drawing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eqprop_lab.notebook.style import style_context

_Panels = dict[Artist, list[Artist]]


class MovingPicture:
    """Draws `figure` again and again, each time only what changed since the last `pixels()`.

    Three layers: the ground, with axes in which nothing but moving artists ever changes; above it
    the axes that had other limits or texts at least once, without what moves; above all, what
    moves. The figure's resolution is set to `dpi` for good. Nothing may lay it out: axes have
    places of their own.
    """

    def __init__(self, figure: Figure, dpi: float) -> None:
        figure.set_layout_engine("none")
        figure.set_dpi(dpi)
        self._figure = figure
        self._canvas = FigureCanvasAgg(figure)
        self._still: set[Artist] = set()
        self._moving: set[Artist] = set()
        self._unsteady: set[Artist] = set()
        self._frames: dict[Artist, Hashable] = {}
        self._ground: Any = None
        self._background: Any = None

    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, 4), transparent where nothing is drawn; raises what drawing raises."""
        panels = _panels(self._figure)
        shown = {artist for children in panels.values() for artist in children}
        with style_context():
            front = self._restore(
                panels, {artist for artist in shown if any(part.stale for part in _parts(artist))}
            )
            renderer = self._canvas.get_renderer()
            for artist in front:
                artist.draw(renderer)
        for artist in shown:
            for part in _parts(artist):
                # What is invisible is not drawn and would count as changed for ever.
                part.stale = False
        return np.array(self._canvas.buffer_rgba())

    def _restore(self, panels: _Panels, changed: set[Artist]) -> list[Artist]:
        """Put the background on the canvas, as far anew as needed; returns what to draw over it."""
        shown = {artist for children in panels.values() for artist in children}
        front = _in_front(panels, self._moving | (shown - self._still))
        touched = self._still & (changed | set(front)) | self._still - shown
        frames: dict[Artist, Hashable] = {
            axes: _frame(axes) for axes in panels if isinstance(axes, Axes)
        }
        reframed: set[Artist] = {
            axes for axes, frame in frames.items() if self._frames.get(axes) != frame
        }
        # An axis never counts as moving: with new limits all in its axes has moved, and it is slow
        # to draw.
        moving = {
            artist for artist in self._moving | changed if not isinstance(artist, Axis)
        } & shown
        self._moving = set() if self._background is None else moving
        if self._ground is not None and not touched | reframed:
            self._canvas.restore_region(self._background)
            return front
        front = _in_front(panels, self._moving)
        self._still = shown - set(front)
        if (_owners(touched) | reframed) - self._unsteady:
            self._ground = None
        self._unsteady |= (
            _owners(touched & self._still) | (reframed if self._frames else set())
        ) - {self._figure}
        self._frames = frames
        self._draw_background(list(panels), front)
        return front

    def _draw_background(self, panels: list[Artist], front: list[Artist]) -> None:
        """All but the `front`, over the ground if that is kept."""
        above = [axes for axes in panels if axes in self._unsteady]
        for artist in (*front, *above):
            artist.set_animated(True)
        try:
            if self._ground is None:
                self._canvas.draw()
                self._ground = self._canvas.copy_from_bbox(self._figure.bbox)
            else:
                self._canvas.restore_region(self._ground)
            for axes in above:
                axes.draw(self._canvas.get_renderer())
            self._background = self._canvas.copy_from_bbox(self._figure.bbox)
        except BaseException:
            self._ground = None
            raise
        finally:
            for artist in (*front, *above):
                artist.set_animated(False)


def _parts(artist: Artist) -> Iterator[Artist]:
    """The artist and all within it: the label of an axis is changed without the axis being told."""
    yield artist
    for child in artist.get_children():
        yield from _parts(child)


def _frame(axes: Axes) -> Hashable:
    """Where the axes and their limits are; without ticks no axis would be changed with these."""
    place = axes.get_position(original=True)
    return axes.viewLim.bounds, place.bounds, axes.axison, axes.get_frame_on()


def _owners(artists: set[Artist]) -> set[Artist]:
    return {getattr(artist, "axes", None) or artist.get_figure() for artist in artists}  # type: ignore[misc]


def _in_front(panels: _Panels, moving: set[Artist]) -> list[Artist]:
    """In each panel the lowest artist that moves and all above it, in the order of drawing."""
    front: list[Artist] = []
    for children in panels.values():
        lowest = next(
            (place for place, artist in enumerate(children) if artist in moving), len(children)
        )
        front += children[lowest:]
    return front


def _panels(figure: Figure) -> _Panels:
    """What is drawn, from the bottom up: the artists of every axes, then the figure's own.

    Raises: ValueError where axes overlap: what moves in the lower one lies under the upper one.
    """
    panels = sorted((axes for axes in figure.axes if axes.get_visible()), key=attrgetter("zorder"))
    for number, axes in enumerate(panels):
        if any(axes.bbox.overlaps(other.bbox) for other in panels[:number]):
            raise ValueError(
                f"axes {number} overlaps another one; a picture that moves keeps its axes apart"
            )
    others = [
        artist
        for artist in figure.get_children()
        if artist is not figure.patch and not isinstance(artist, Axes)
    ]
    return {axes: _children(axes) for axes in panels} | {
        figure: sorted(others, key=attrgetter("zorder"))
    }


def _children(axes: Axes) -> list[Artist]:
    """Children in the order in which the axes draws them; the patch is of the background."""
    hidden: set[Artist] = {axes.patch}
    if not (axes.axison and axes.get_frame_on()):
        hidden |= set(axes.spines.values())
    if not axes.axison:
        hidden |= {axes.xaxis, axes.yaxis}
    return sorted(
        (artist for artist in axes.get_children() if artist not in hidden), key=attrgetter("zorder")
    )

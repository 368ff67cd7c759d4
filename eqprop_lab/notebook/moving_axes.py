"""Parts of moving pictures: axes at fixed places, ticks in plain text, lines, limits that stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from eqprop_lab.notebook.style import NEUTRAL

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


Show = Callable[[Any], None]
"""Gives artists that were made once the data of another picture."""

REFERENCE: dict[str, Any] = {"color": NEUTRAL, "linewidth": 0.8, "linestyle": ":"}
"""Look of a line that only guides the eye."""


def panels(
    figure: Figure, mosaic: str, inches: tuple[float, float, float, float], **grid: Any
) -> list[Axes]:
    """Axes at fixed places, in the order of the letters of `mosaic` ("AB;AC": one beside two).

    inches: margins left, right, bottom, top. grid: width_ratios, height_ratios, wspace and hspace
    as matplotlib has them.
    """
    width, height = figure.get_size_inches()
    left, right, bottom, top = inches
    grid |= {"left": left / width, "right": 1 - right / width}
    grid |= {"bottom": bottom / height, "top": 1 - top / height}
    return list(figure.subplot_mosaic(mosaic, gridspec_kw=grid).values())


def power_of_ten(exponent: int) -> str:
    """10**exponent as "10⁻²": plain text is laid out ten times quicker than mathtext."""
    plain = {0: "1", 1: "10"}
    return plain.get(exponent, "10" + str(exponent).translate(_SUPERSCRIPTS))


def decades(axis: Axis, first: int, last: int, every: int = 1) -> None:
    """Ticks at the powers of ten from `first` to `last`, on a log axis."""
    exponents = range(first, last + 1, every)
    axis.set_ticks([10.0**k for k in exponents], labels=[power_of_ten(k) for k in exponents])
    axis.set_ticks([], minor=True)


def line(axes: Axes, *style: str, **look: Any) -> Line2D:
    """An empty line, for data to come."""
    return axes.plot([], [], *style, **look)[0]


def titled(axes: Axes, title: str) -> None:
    """Set the title where it differs, at its usual place, without a search for ticks above it."""
    if axes.get_title("left") != title:
        axes.set_title(title, loc="left", y=1.0)


def ticks_below(axes: Axes) -> None:
    """Draw ticks and labels before any picture in the axes: they keep still when it moves."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_zorder(-1)


def limit(axes: Axes, which: str, limits: tuple[float, float]) -> bool:
    """Set xlim or ylim where it differs, and say so: an equal one would redraw the background."""
    differs = getattr(axes, f"get_{which}")() != limits
    if differs:
        axes.set(**{which: limits})
    return differs


def round_limits(values: Sequence[float] | np.ndarray, least: float = 0.0) -> tuple[float, float]:
    """Round limits around all finite values and 5 % more, at least `least` apart: seldom others."""
    finite = np.asarray(values)[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = max(0.05 * (high - low), (least - (high - low)) / 2, 1e-12)
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low - room, high + room)
    return float(ticks[0]), float(ticks[-1])

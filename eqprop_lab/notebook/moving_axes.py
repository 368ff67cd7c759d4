"""What the pictures that move are made of: axes at fixed places, ticks in plain text, lines and
limits that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def margins(
    figure: Figure, left: float, right: float, bottom: float, top: float, **spaces: float
) -> dict[str, float]:
    """`gridspec_kw` that leaves these margins, in inches; `wspace` and `hspace` as matplotlib has
    them.
    """
    width, height = figure.get_size_inches()
    sides = {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": bottom / height,
        "top": 1 - top / height,
    }
    return sides | spaces


def power_of_ten(exponent: int) -> str:
    """10**exponent as a reader sees it, "10⁻²": plain text is laid out ten times quicker than
    mathtext.
    """
    return (
        "1"
        if exponent == 0
        else "10"
        if exponent == 1
        else "10" + str(exponent).translate(_SUPERSCRIPTS)
    )


def decades(axis: Axis, first: int, last: int, every: int = 1) -> None:
    """Ticks at the powers of ten from `first` to `last`, on a log axis."""
    exponents = range(first, last + 1, every)
    axis.set_ticks([10.0**k for k in exponents], labels=[power_of_ten(k) for k in exponents])
    axis.set_ticks([], minor=True)


def line(axes: Axes, *style: str, **look: Any) -> Line2D:
    """An empty line, for data to come."""
    return axes.plot([], [], *style, **look)[0]


def titled(axes: Axes, title: str) -> None:
    """Set the title where it differs, at its usual place without a search for ticks above the axes."""
    if axes.get_title("left") != title:
        axes.set_title(title, loc="left", y=1.0)


def ticks_below(axes: Axes) -> None:
    """Draw ticks and their labels before any picture in the axes, so that they keep still when it
    changes.
    """
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_zorder(-1)


def limit(
    axes: Axes, x: tuple[float, float] | None = None, y: tuple[float, float] | None = None
) -> None:
    """New limits where they differ: setting the same ones would make the background anew."""
    if x is not None and axes.get_xlim() != x:
        axes.set_xlim(x)
    if y is not None and axes.get_ylim() != y:
        axes.set_ylim(y)


def round_limits(values: Sequence[float] | np.ndarray, least: float = 0.0) -> tuple[float, float]:
    """Limits at round numbers around all finite values and 5 % more, at least `least` apart: they
    change seldom.
    """
    finite = np.asarray(values)[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = max(0.05 * (high - low), (least - (high - low)) / 2, 1e-12)
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low - room, high + room)
    return float(ticks[0]), float(ticks[-1])

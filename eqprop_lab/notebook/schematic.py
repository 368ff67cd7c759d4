"""The network of the series as a drawing: input, hidden units with feedback, readout, the pull."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

from matplotlib.axes import Axes

from eqprop_lab.notebook.style import NEUTRAL, PALETTE

Point = tuple[float, float]

_INPUTS: Sequence[Point] = ((0.0, 0.42), (0.0, -0.42))
_HIDDEN: Sequence[Point] = ((1.05, 0.0), (1.4, 0.62), (1.95, 0.38), (1.95, -0.38), (1.4, -0.62))
_OUTPUTS: Sequence[Point] = ((3.0, 0.42), (3.0, -0.42))
_TARGET_X = 3.95


def draw_network(axes: Axes, nudged: bool) -> None:
    """Draw a LoopedMLP on empty axes: x on the left, h in the middle, z on the right.

    Args:
        axes: its frame is switched off and its limits are set.
        nudged: draw the target, and the pull of strength beta towards it, as well.
    """
    pairs = [*product(_INPUTS, _HIDDEN), *combinations(_HIDDEN, 2), *product(_HIDDEN, _OUTPUTS)]
    for start, end in pairs:
        within = start in _HIDDEN and end in _HIDDEN
        colour, width = (PALETTE[0], 1.3) if within else (NEUTRAL, 0.6)
        axes.plot(*zip(start, end, strict=True), color=colour, lw=width, ls="-", zorder=1)
    for nodes, face in ((_INPUTS, "white"), (_HIDDEN, PALETTE[0]), (_OUTPUTS, PALETTE[2])):
        x, y = zip(*nodes, strict=True)
        axes.scatter(x, y, s=75, c=face, edgecolors=NEUTRAL, linewidths=1.0, zorder=2)
    for at, name in ((0.0, "$x$"), (1.5, "$h$"), (3.0, "$z$")):
        axes.text(at, -0.92, name, ha="center", va="top")
    if nudged:
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": PALETTE[1], "shrinkA": 7}
        arrow |= {"linestyle": "--", "linewidth": 1.8}
        square: dict[str, Any] = {
            "s": 70,
            "c": PALETTE[1],
            "marker": "s",
            "edgecolors": NEUTRAL,
            "zorder": 2,
        }
        for _, height in _OUTPUTS:
            axes.annotate("", (_TARGET_X - 0.06, height), (3.0, height), arrowprops=arrow)
            axes.scatter([_TARGET_X + 0.08], [height], **square)
        axes.text(3.52, 0.56, r"$\beta$", ha="center", va="bottom", color=PALETTE[1])
        axes.text(_TARGET_X + 0.08, -0.92, "target", ha="center", va="top")
    axes.set(xlim=(-0.25, 4.4), ylim=(-1.2, 0.9))
    axes.set_axis_off()

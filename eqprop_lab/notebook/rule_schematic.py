"""The five families of learning rules as drawings: what runs up, what carries the error down."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from eqprop_lab.notebook.style import NEUTRAL, PALETTE
from eqprop_lab.validation import one_of

LAYERS = ("$x$", "$s_1$", "$s_2$", "$z$")
FAMILIES = ("backprop", "feedback alignment", "equilibrium", "predictive coding", "mixed")
_SIDE = 0.3
_DOWN = PALETTE[1]


def draw_family(axes: Axes, family: str) -> None:
    """Draw one of `FAMILIES` on empty axes: x at the bottom, logits z at the top.

    Grey arrows run up through weights W; dashed ones carry the error. A frame is switched off and
    limits are set. Raises ValueError for another family, naming the nearest.
    """
    one_of("family", family, FAMILIES)
    settles = family in ("equilibrium", "mixed")
    for level, name in enumerate(LAYERS):
        hidden = 0 < level < len(LAYERS) - 1
        _box(axes, level, name, PALETTE[0] if settles and hidden else NEUTRAL)
    for level in range(len(LAYERS) - 1):
        _arrow(axes, level, level + 1, -0.22, NEUTRAL, f"$W_{level + 1}$")
    _DRAWN[family](axes)
    axes.text(0.0, 3.62, "target", ha="center", va="bottom", color=_DOWN)
    _tip(axes, (0.0, 3.6), (0.0, 3.0 + _SIDE), _DOWN)
    axes.set(xlim=(-1.15, 1.65), ylim=(-0.5, 4.0))
    axes.set_axis_off()


def _backprop(axes: Axes) -> None:
    for level in (3, 2):
        _arrow(axes, level, level - 1, 0.22, _DOWN, f"$W_{level}^\\top$", "--")


def _feedback(axes: Axes) -> None:
    for level in (3, 2):
        _arrow(axes, level, level - 1, 0.22, _DOWN, f"$B_{level}$", "--")


def _equilibrium(axes: Axes) -> None:
    """States hear the layer above all the time; the nudge is small."""
    _arrow(axes, 2, 1, 0.22, PALETTE[0], "$W_2^\\top$")
    _arrow(axes, 3, 2, 0.22, _DOWN, "$\\beta\\, W_3^\\top$", "--")


def _predictive(axes: Axes) -> None:
    """Beside each state the error of its prediction, which moves the state below."""
    for level in (1, 2):
        _box(axes, level, f"$\\varepsilon_{level}$", _DOWN, across=0.95)
        _tip(axes, (_SIDE, level), (0.95 - _SIDE, level), NEUTRAL, style="<|-|>")
    _tip(axes, (0.85, 2 - _SIDE), (0.2, 1 + _SIDE), _DOWN, "--")
    axes.text(0.75, 1.48, "$B_2$", ha="left", va="center", color=_DOWN)
    _arrow(axes, 3, 2, 0.22, _DOWN, "$B_3$", "--")


def _mixed(axes: Axes) -> None:
    """Feedback alignment, and layers that settle by themselves."""
    _feedback(axes)
    for level in (1, 2):
        loop: dict[str, Any] = {"arrowstyle": "-|>", "color": PALETTE[0], "linewidth": 1.4}
        loop |= {"connectionstyle": "arc3,rad=-1.6"}
        ends = (_SIDE, level + 0.14), (_SIDE, level - 0.14)
        axes.annotate("", ends[1], ends[0], arrowprops=loop)
        axes.text(_SIDE + 0.42, level, f"$M_{level}$", va="center", color=PALETTE[0])


_DRAWN = dict(zip(FAMILIES, (_backprop, _feedback, _equilibrium, _predictive, _mixed), strict=True))


def _box(axes: Axes, level: float, name: str, colour: str, across: float = 0.0) -> None:
    corner = across - _SIDE + 0.06, level - _SIDE + 0.06
    side = 2 * (_SIDE - 0.06)
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.6}
    axes.add_patch(FancyBboxPatch(corner, side, side, "round,pad=0.06", **look))
    axes.text(across, level, name, ha="center", va="center")


def _arrow(
    axes: Axes, low: int, high: int, at: float, colour: str, label: str, line: str = "-"
) -> None:
    """From one level to the next, beside the middle, with its weight."""
    way = _SIDE if high > low else -_SIDE
    _tip(axes, (at, low + way), (at, high - way), colour, line)
    side = "right" if at < 0 else "left"
    axes.text(
        at + 0.12 * (1 if at > 0 else -1), (low + high) / 2, label,
        ha=side, va="center", color=colour,
    )  # fmt: skip


def _tip(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    line: str = "-",
    style: str = "-|>",
) -> None:
    look: dict[str, Any] = {"arrowstyle": style, "color": colour, "linestyle": line}
    look |= {"linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=look)

"""The five language models as drawings: what settles, what stands still, what the past says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from eqprop_lab.notebook.style import NEUTRAL, PALETTE
from eqprop_lab.validation import one_of

Place = tuple[float, float]
SETTLES, PAST = PALETTE[0], PALETTE[1]

# Columns: a token of the past, and the token itself. Rows from the embedding up to the logits.
BEFORE, SELF = 0.0, 1.7
BOTTOM, FIRST, SECOND, TOP = 0.0, 1.15, 2.3, 3.3


@dataclass(frozen=True)
class Drawing:
    """Words at their places; those that settle; arrows up, from the past, both ways, and around."""

    words: dict[Place, str]
    settles: tuple[Place, ...]
    up: tuple[tuple[Place, Place], ...]
    past: tuple[tuple[Place, Place], ...]
    both: tuple[tuple[Place, Place], ...] = ()
    around: tuple[tuple[Place, Place], ...] = ()


def _ends(*columns: float) -> dict[Place, str]:
    """Embeddings below and logits above the token itself."""
    names = {BEFORE: "$e_j$", SELF: "$e_i$"}
    return {(column, BOTTOM): names[column] for column in columns} | {(SELF, TOP): "$z_i$"}


def _chain(column: float, *rows: float) -> tuple[tuple[Place, Place], ...]:
    return tuple(((column, a), (column, b)) for a, b in zip(rows, rows[1:], strict=False))


DRAWINGS = {
    "full": Drawing(
        _ends(BEFORE, SELF)
        | {(BEFORE, FIRST): "$r^1_j$", (SELF, FIRST): "$r^1_i$"}
        | {(BEFORE, SECOND): "$r^2_j$", (SELF, SECOND): "$r^2_i$"},
        ((BEFORE, FIRST), (SELF, FIRST), (BEFORE, SECOND), (SELF, SECOND)),
        (*_chain(BEFORE, BOTTOM, FIRST), *_chain(SELF, BOTTOM, FIRST), *_chain(SELF, SECOND, TOP)),
        (((BEFORE, FIRST), (SELF, FIRST)), ((BEFORE, SECOND), (SELF, SECOND))),
        (((BEFORE, FIRST), (BEFORE, SECOND)), ((SELF, FIRST), (SELF, SECOND))),
        (((SELF, FIRST), (SELF, TOP)),),
    ),
    "attention_only": Drawing(
        _ends(BEFORE, SELF) | {(SELF, FIRST): "$a_i$", (SELF, SECOND): "network"},
        ((SELF, FIRST),),
        _chain(SELF, BOTTOM, FIRST, SECOND, TOP),
        (((BEFORE, BOTTOM), (SELF, FIRST)),),
    ),
    "recurrent_core": Drawing(
        _ends(BEFORE, SELF) | {(BEFORE, FIRST): "$r_j$", (SELF, FIRST): "$r_i$"},
        ((BEFORE, FIRST), (SELF, FIRST)),
        (*_chain(BEFORE, BOTTOM, FIRST), *_chain(SELF, BOTTOM, FIRST, TOP)),
        (((BEFORE, FIRST), (SELF, FIRST)),),
    ),
    "hybrid": Drawing(
        _ends(BEFORE, SELF) | {(SELF, FIRST): "block", (SELF, SECOND): "$r_i$"},
        ((SELF, SECOND),),
        _chain(SELF, BOTTOM, FIRST, SECOND, TOP),
        (((BEFORE, BOTTOM), (SELF, FIRST)),),
        around=(((SELF, FIRST), (SELF, TOP)),),
    ),
    "looped_mlp": Drawing(
        _ends(BEFORE, SELF) | {(SELF, SECOND): "$r_i$"},
        ((SELF, SECOND),),
        _chain(SELF, BOTTOM, SECOND, TOP),
        (((BEFORE, BOTTOM), (SELF, SECOND)),),
    ),
}


def draw_variant(axes: Axes, variant: str) -> None:
    """Draw a language model on empty axes: a token j of its past on the left, token i on the right.

    Blue boxes settle, grey ones are computed once; dashed arrows come from the past. The axes'
    frame is switched off and their limits are set.
    Raises ValueError for a variant without a drawing.
    """
    drawing = DRAWINGS[one_of("variant", variant, tuple(DRAWINGS))]
    for start, end in drawing.up:
        _arrow(axes, start, end, NEUTRAL)
    for start, end in drawing.past:
        _arrow(axes, start, end, PAST, linestyle="--", linewidth=1.6)
    for start, end in drawing.both:
        _arrow(axes, start, end, SETTLES, arrowstyle="<|-|>")
    for start, end in drawing.around:
        _arrow(axes, start, end, NEUTRAL, connectionstyle="arc3,rad=0.75")
    for place, word in drawing.words.items():
        _box(axes, place, word, place in drawing.settles)
    axes.set(xlim=(-0.85, 2.9), ylim=(-0.45, 3.75))
    axes.set_axis_off()


def _arrow(axes: Axes, start: Place, end: Place, color: str, **look: Any) -> None:
    style = {"arrowstyle": "-|>", "color": color, "linewidth": 1.2, "shrinkA": 11, "shrinkB": 11}
    axes.annotate("", end, start, arrowprops=style | look)


def _box(axes: Axes, place: Place, word: str, settles: bool) -> None:
    """A word in its box, with a loop on its outer side where it settles."""
    box: dict[str, Any] = {
        "boxstyle": "round,pad=0.3",
        "edgecolor": SETTLES if settles else NEUTRAL,
    }
    box["facecolor"] = (*to_rgb(SETTLES), 0.25) if settles else "none"
    axes.text(*place, word, ha="center", va="center", bbox=box)
    if settles:
        side = 1 if place[0] == SELF else -1
        x, y = place[0] + 0.3 * side, place[1]
        turn = {"arrowstyle": "-|>", "color": SETTLES, "linewidth": 1.4}
        turn["connectionstyle"] = f"arc3,rad={-1.6 * side}"
        axes.annotate("", (x, y - 0.16), (x, y + 0.16), arrowprops=turn)

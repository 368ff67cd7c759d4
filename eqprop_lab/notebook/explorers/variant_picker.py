"""Explorer: pick a language model, let it write, and see how it learned and what it scores.

The text is drawn when it is asked for, from the model itself; what was drawn once is kept. A model
of which only results are known shows those, and the sample that was stored with them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import (
    REFERENCE,
    Show,
    limit,
    line,
    panels,
    round_limits,
    titled,
)
from eqprop_lab.notebook.style import PALETTE
from eqprop_lab.validation import positive_int

COLUMNS, LINES = 38, 9
"""Of the text in the picture."""
_KEPT, _LARGEST = 64, 3
NOTHING = "(no weights here to draw from)"


@dataclass(frozen=True)
class Candidate:
    """What is known of one model.

    curve: (step, loss in nats a character), in order. numbers: {name: text}, shown as they are.
    floors: {name: nats a character} of its text, shown as lines: what counting reaches. Of each at
    most three. write: (temperature, number of the draw) -> text, None where there are no weights;
    sample: a text that was stored, shown then.
    """

    curve: Sequence[tuple[float, float]]
    numbers: Mapping[str, str]
    floors: Mapping[str, float] = field(default_factory=dict)
    write: Callable[[float, int], str] | None = None
    sample: str = NOTHING


@dataclass(frozen=True)
class Picked:
    """The model that was picked, the text as it was written, and its lines in the picture."""

    name: str
    candidate: Candidate
    text: str
    lines: tuple[str, ...]


class VariantPicker(Explorer):
    """Args:
        candidates: {name: Candidate}, at least one, each with two points of its curve or more.
        **values: start values of the controls variant, temperature and draw.
    Raises: TypeError, ValueError naming the argument.
    """

    title = "Variant picker: what each of them writes"
    size = (7.6, 3.3)

    def __init__(self, candidates: Mapping[str, Candidate], **values: Any) -> None:
        _check(candidates)
        self.candidates = dict(candidates)
        losses = [loss for each in candidates.values() for _, loss in each.curve]
        floors = [loss for each in candidates.values() for loss in each.floors.values()]
        self.limits = round_limits([*losses, *floors])
        self.written = lru_cache(maxsize=_KEPT)(self._written)
        super().__init__(**values)

    def _written(self, variant: str, temperature: float, draw: int) -> str:
        candidate = self.candidates[variant]
        return candidate.write(temperature, draw) if candidate.write else candidate.sample

    def make_controls(self) -> Sequence[Control]:
        names = tuple(self.candidates)
        return (
            Choice("variant", names, names[0], "Variant"),
            Slider("temperature", 0.1, 1.5, 0.7, 0.1, "Temperature"),
            Slider("draw", 0, 20, 0, 1, "Number of the draw"),
        )

    def compute(self, variant: str, temperature: float, draw: int) -> Picked:
        text = self.written(variant, temperature, draw)
        return Picked(variant, self.candidates[variant], text, wrapped(text))

    def build(self, figure: Figure) -> Sequence[Show]:
        board, curve = panels(figure, "AB", (0.15, 0.75, 0.6, 0.35), width_ratios=(1.35, 0.85))
        board.set_axis_off()
        board.set(xlim=(0, 1), ylim=(0, 1))
        return [_text(board), _numbers(board), _curve(curve), _floors(curve, self.limits)]

    def describe(self, data: Picked, **values: Any) -> str:
        drawn = data.candidate.write is not None
        how = f"draw {values['draw']} at temperature {values['temperature']:.1f}"
        source = f"writes, {how}" if drawn else "is known from a stored run; its sample"
        step, loss = data.candidate.curve[-1]
        numbers = "; ".join(f"{name} {text}" for name, text in data.candidate.numbers.items())
        return (
            f"{data.name} {source}: “{' '.join(data.text.split())}” Its loss falls from "
            f"{data.candidate.curve[0][1]:.2f} to {loss:.2f} nats a character in {step:.0f} steps. "
            f"{numbers}."
        )


def wrapped(text: str) -> tuple[str, ...]:
    """A text as at most LINES lines of COLUMNS characters, line ends kept."""
    lines = [part for whole in text.splitlines() for part in textwrap.wrap(whole, COLUMNS) or [""]]
    return tuple(lines[:LINES])


def _check(candidates: object) -> None:
    if not isinstance(candidates, Mapping) or not candidates:
        raise TypeError("candidates must be {name: Candidate} with at least one model")
    for name, candidate in candidates.items():
        if not isinstance(candidate, Candidate):
            kind = type(candidate).__name__
            raise TypeError(f"candidates[{name!r}] must be a Candidate, got a {kind}")
        positive_int(f"the points of the curve of {name}, less one,", len(candidate.curve) - 1)
        for part in ("numbers", "floors"):
            found = len(getattr(candidate, part))
            if found > _LARGEST:
                most = f"must have at most {_LARGEST}, got {found}"
                raise ValueError(f"candidates[{name!r}].{part} {most}")
        if not np.isfinite(candidate.curve).all():
            raise ValueError(f"candidates[{name!r}].curve must be finite")


def _text(axes: Axes) -> Show:
    """The name of the model and what it wrote."""
    titled(axes, "Text")
    body = axes.text(0, 0.97, "", va="top", family="monospace", fontsize=10.5, linespacing=1.35)
    body.set_parse_math(False)

    def show(data: Picked) -> None:
        titled(axes, data.name)
        body.set_text("\n".join(data.lines))

    return show


def _numbers(axes: Axes) -> Show:
    """The numbers below the text, a line each."""
    note = axes.text(0, -0.16, "", va="bottom", linespacing=1.35)

    def show(data: Picked) -> None:
        note.set_text("\n".join(f"{name}: {text}" for name, text in data.candidate.numbers.items()))

    return show


def _curve(axes: Axes) -> Show:
    """Loss over steps."""
    axes.set(xlabel="step")
    titled(axes, "Loss [nats a character]")
    curve = line(axes, "-", color=PALETTE[0])

    def show(data: Picked) -> None:
        steps, losses = np.array(data.candidate.curve, dtype=float).T
        curve.set_data(steps, losses)
        limit(axes, "xlim", (0.0, float(steps[-1])))

    return show


def _floors(axes: Axes, limits: tuple[float, float]) -> Show:
    """What counting reaches on the text of the model: lines, their names beside the picture."""
    axes.set_ylim(limits)
    look: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
    lines = [axes.axhline(0.0, **REFERENCE) for _ in range(_LARGEST)]
    names = [axes.text(1.03, 0.0, "", **look) for _ in range(_LARGEST)]

    def show(data: Picked) -> None:
        known = data.candidate.floors.items()
        for at, name, floor in zip_longest(lines, names, known):
            at.set_visible(floor is not None)
            name.set_visible(floor is not None)
            if floor is not None:
                at.set_ydata([floor[1], floor[1]])
                name.set(text=floor[0], y=floor[1])

    return show

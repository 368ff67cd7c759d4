"""Explorer: free and nudged phase step by step, a film of the hidden units and one probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqprop_lab.datasets import build_dataset
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import digits, two_phases
from eqprop_lab.notebook.moving_axes import (
    REFERENCE,
    Show,
    limit,
    line,
    panels,
    round_limits,
    ticks_below,
    titled,
)
from eqprop_lab.notebook.style import PALETTE, SIGNED
from eqprop_lab.training.trainer import EqPropTrainer

HIDDEN, DIGITS = 24, 16
FREE_STEPS, NUDGED_STEPS = 20, 20
STEPS = FREE_STEPS + NUDGED_STEPS
EPOCHS = 4
_ROWS = ("free", "+beta", "-beta", "+beta − free", "-beta − free")


@lru_cache(maxsize=1)
def half_trained_network() -> LoopedMLP:
    """A LoopedMLP 64-24-10 in float64 after a few epochs: it has an opinion, not yet a firm one."""
    model = LoopedMLP(64, HIDDEN, 10, seed=0).double()
    loader = build_dataset("digits").train.batches(64, shuffle=True, seed=0)
    batches = [(x.double(), y) for x, y in loader]
    EqPropTrainer(model, lr=5e-3, progress=False).fit(batches, EPOCHS)
    return model


@dataclass(frozen=True)
class Film:
    """states (T + 1, 3, H) of the copies free, +beta and -beta; probability (T + 1, 3) of the right
    class; the label; order (H,): the units sorted by how far the nudge moves them.
    """

    states: np.ndarray
    probability: np.ndarray
    label: int
    order: np.ndarray

    def rows(self, step: int) -> tuple[np.ndarray, float]:
        """Five rows of units at one step; the lower two are distances to the free copy, in units of
        the number that is returned with them.
        """
        free, plus, minus = self.states[step][:, self.order]
        end = self.states[-1]
        unit = max(1e-12, float(np.abs(end[1:] - end[0]).max()))
        return np.stack([free, plus, minus, (plus - free) / unit, (minus - free) / unit]), unit


@lru_cache(maxsize=64)
def film(digit: int, beta: float) -> Film:
    """Three copies of one training digit: all free, then one each nudged by 0, beta and -beta."""
    x, y = (part[digit : digit + 1] for part in digits(DIGITS))
    betas, steps = (0.0, beta, -beta), (FREE_STEPS, NUDGED_STEPS)
    path, likely = two_phases(half_trained_network(), x, y, betas, steps)
    states = torch.stack([h for (h,) in path])
    moved = states[-1, 1] - states[-1, 2]
    label = int(y)
    return Film(states.numpy(), likely[:, :, label].numpy(), label, moved.argsort().numpy())


class TwoPhaseMovie(Explorer):
    """One digit in a small network: it settles, then is pulled to the right answer and from it."""

    title = "Two phases, step by step"
    size = (7.4, 3.5)
    controls = (
        Slider("step", 0, STEPS, FREE_STEPS + 10, 1, f"Step (nudged from step {FREE_STEPS} on)"),
        Slider("beta", 0.01, 3.0, 0.3, 0.1, "Nudging strength beta", log=True),
        Slider("digit", 0, DIGITS - 1, 0, 1, "Number of the digit"),
    )

    def compute(self, step: int, beta: float, digit: int) -> tuple[Film, int]:
        return film(digit, beta), step

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (1.05, 0.15, 0.85, 0.3)
        left, right = panels(figure, "AB", inches, width_ratios=(1.15, 1.0), wspace=0.22)
        return [_units(left), _probabilities(figure, right)]

    def describe(self, data: tuple[Film, int], **values: Any) -> str:
        shown, step = data
        free, plus, minus = shown.probability[step]
        phase = f"step {step} of the free phase, the three copies are one"
        if step > FREE_STEPS:
            moved = np.linalg.norm(shown.states[step][1] - shown.states[step][0])
            phase = (
                f"step {step - FREE_STEPS} of the nudged phase with beta {values['beta']:.3g}, "
                f"distance {moved:.2g} from the free state"
            )
        return (
            f"Hidden units of digit {values['digit']} in rows of blue and red squares at {phase}; "
            f"probability of the right class {shown.label}: free {free:.3f}, +beta {plus:.3f}, "
            f"-beta {minus:.3f}."
        )


def _units(axes: Axes) -> Show:
    """Two pictures with a gap: the states of the copies above, below what the nudge has moved."""
    look: dict[str, Any] = {"cmap": SIGNED, "vmin": -1, "vmax": 1, "aspect": "auto"}
    pictures = [
        axes.imshow(np.zeros((rows, HIDDEN)), extent=extent, interpolation="nearest", **look)
        for rows, extent in (
            (3, (-0.5, HIDDEN - 0.5, 2.42, -0.5)),
            (2, (-0.5, HIDDEN - 0.5, 4.5, 2.58)),
        )
    ]
    axes.set_ylim(4.5, -0.5)
    axes.set_yticks(range(len(_ROWS)), _ROWS)
    axes.set_xticks([])
    axes.grid(False)
    ticks_below(axes)

    def show(data: tuple[Film, int]) -> None:
        shown, step = data
        rows, unit = shown.rows(step)
        for picture, part in zip(pictures, (rows[:3], rows[3:]), strict=True):
            picture.set_data(part)
        titled(axes, f"Step {step}: units, red < 0 < blue")
        axes.xaxis.label.set_text(f"hidden units; lower rows x {1 / unit:.2g}")

    return show


def _probabilities(figure: Figure, axes: Axes) -> Show:
    """Of every copy its whole curve, the part up to now, and now."""
    axes.set(xlabel="step", xlim=(-1, STEPS + 1))
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.axvline(FREE_STEPS, **REFERENCE | {"linewidth": 0.9})
    copies = []
    for copy, style in enumerate(("-", "--", "-.")):
        # The free copy lies above the others: they share the free phase with it.
        look = {"color": PALETTE[copy], "linestyle": style, "zorder": 4 - copy}
        whole = line(axes, alpha=0.25, linewidth=1.2, **look)
        past = line(axes, label=_ROWS[copy], **look)
        now = line(axes, "o", color=PALETTE[copy], markersize=6, zorder=5)
        copies.append((whole, past, now))
    figure.legend(handles=[past for _, past, _ in copies], loc="lower right", ncols=3)

    def show(data: tuple[Film, int]) -> None:
        shown, step = data
        time = np.arange(STEPS + 1)
        for (whole, past, now), likely in zip(copies, shown.probability.T, strict=True):
            whole.set_data(time, likely)
            past.set_data(time[: step + 1], likely[: step + 1])
            now.set_data([step], [likely[step]])
        limit(axes, "ylim", round_limits(shown.probability, least=0.04))
        titled(axes, f"Probability of class {shown.label}")

    return show

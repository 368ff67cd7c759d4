"""Explorer: free and nudged phases step by step, as a film of the hidden units and of one
probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.relaxation import settle
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import limit, line, margins, round_limits, ticks_below, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE, SIGNED
from eqprop_lab.training.trainer import EqPropTrainer

HIDDEN, DIGITS = 24, 16
FREE_STEPS, NUDGED_STEPS = 20, 20
STEPS = FREE_STEPS + NUDGED_STEPS
EPOCHS = 4
_ROWS = ("free", "+beta", "-beta", "+beta − free", "-beta − free")


@lru_cache(maxsize=1)
def half_trained_network() -> LoopedMLP:
    """A LoopedMLP 64-24-10 in float64 after a few epochs on the digits: it has an opinion and is
    not yet sure of it.
    """
    model = LoopedMLP(64, HIDDEN, 10, seed=0).double()
    data = build_dataset("digits").train
    batches = [(x.double(), y) for x, y in data.batches(64, shuffle=True, seed=0)]
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


@torch.no_grad()
def two_phases(model: LoopedMLP, digit: int, beta: float) -> Film:
    """Relax three copies of one training digit: all free for FREE_STEPS, then two of them nudged by
    +-beta.
    """
    data = build_dataset("digits").train
    x, y = data.x[digit : digit + 1].flatten(1).double().expand(3, -1), data.y[digit : digit + 1]
    cost = make_cost("cross_entropy", y, model.output_dim, x)
    drive = model.drive(x)
    free = settle(model, model.initial_state(drive), drive, max_steps=FREE_STEPS, trajectory=True)
    nudge = CostNudge(model, cost.grad, (0.0, beta, -beta))
    nudged = settle(model, free.state, drive, max_steps=NUDGED_STEPS, nudge=nudge, trajectory=True)
    assert free.trajectory is not None and nudged.trajectory is not None
    path = [state[0] for state in free.trajectory + nudged.trajectory[1:]]
    label = int(y)
    likely = torch.stack([model.readout((h,)).softmax(1)[:, label] for h in path])
    moved = path[-1][1] - path[-1][2]
    return Film(torch.stack(path).numpy(), likely.numpy(), label, moved.argsort().numpy())


@dataclass
class _Parts:
    """Axes, the rows of units, and of every copy its whole curve, the part up to now, and now."""

    left: Axes
    right: Axes
    units: list[AxesImage]
    copies: list[tuple[Line2D, Line2D, Line2D]]


def _rows(film: Film, step: int) -> tuple[np.ndarray, float]:
    """Five rows of units at one step, and the unit of the lower two: differences to the free copy,
    enlarged.
    """
    free, plus, minus = film.states[step][:, film.order]
    end = film.states[-1]
    scale = max(1e-12, float(np.abs(end[1:] - end[0]).max()))
    return np.stack([free, plus, minus, (plus - free) / scale, (minus - free) / scale]), scale


def _pictures(axes: Axes) -> list[AxesImage]:
    """Two pictures with a gap: states above, differences below."""
    look: dict[str, Any] = {
        "cmap": SIGNED,
        "vmin": -1,
        "vmax": 1,
        "aspect": "auto",
        "interpolation": "nearest",
    }
    places = (3, 2.42, -0.5), (2, 4.5, 2.58)
    pictures = [
        axes.imshow(np.zeros((rows, HIDDEN)), extent=(-0.5, HIDDEN - 0.5, bottom, top), **look)
        for rows, bottom, top in places
    ]
    axes.set_ylim(4.5, -0.5)
    return pictures


@lru_cache(maxsize=64)
def _film(digit: int, beta: float) -> Film:
    return two_phases(half_trained_network(), digit, beta)


class TwoPhaseMovie(Explorer):
    """One digit in a small network: let it settle, then pull it towards the right answer and away
    from it.
    """

    title = "Two phases, step by step"
    size: ClassVar[tuple[float, float]] = (7.4, 3.5)
    controls: ClassVar[Sequence[Control]] = (
        Slider("step", 0, STEPS, FREE_STEPS + 10, 1, f"Step (nudged from step {FREE_STEPS} on)"),
        Slider("beta", 0.01, 3.0, 0.3, 0.1, "Nudging strength beta", log=True),
        Slider("digit", 0, DIGITS - 1, 0, 1, "Number of the digit"),
    )

    def compute(self, **values: Any) -> tuple[Film, int]:
        """The whole film and the step it is stopped at."""
        return _film(values["digit"], values["beta"]), values["step"]

    def build(self, figure: Figure) -> _Parts:
        """Left the units of the three copies and what the nudge moved, right the probability of the
        right class.
        """
        places = margins(figure, 1.05, 0.15, 0.85, 0.3, wspace=0.22)
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0), gridspec_kw=places)
        units = _pictures(left)
        left.set_yticks(range(len(_ROWS)), _ROWS)
        left.set_xticks([])
        left.grid(False)
        ticks_below(left)
        right.set(xlabel="step", xlim=(-1, STEPS + 1))
        right.yaxis.set_major_formatter("{x:.2f}")
        right.axvline(FREE_STEPS, color=NEUTRAL, linewidth=0.9, linestyle=":")
        # The free copy lies above the others: they share the free phase with it.
        looks = [
            {"color": PALETTE[copy], "linestyle": style, "zorder": 4 - copy}
            for copy, style in enumerate(("-", "--", "-."))
        ]
        copies = [
            (
                line(right, alpha=0.25, linewidth=1.2, **look),
                line(right, label=label, **look),
                line(right, "o", color=look["color"], markersize=6, zorder=5),
            )
            for look, label in zip(looks, ("free", "+beta", "-beta"), strict=True)
        ]
        figure.legend(handles=[past for _, past, _ in copies], loc="lower right", ncols=3)
        return _Parts(left, right, units, copies)

    def move(self, parts: _Parts, data: tuple[Film, int]) -> None:
        """The rows of units at this step; the curves up to it in full colour."""
        film, step = data
        time = np.arange(STEPS + 1)
        for copy, (whole, past, now) in enumerate(parts.copies):
            whole.set_data(time, film.probability[:, copy])
            past.set_data(time[: step + 1], film.probability[: step + 1, copy])
            now.set_data([step], film.probability[step : step + 1, copy])
        limit(parts.right, y=round_limits(film.probability, least=0.04))
        titled(parts.right, f"Probability of class {film.label}")
        rows, scale = _rows(film, step)
        for picture, part in zip(parts.units, (rows[:3], rows[3:]), strict=True):
            picture.set_data(part)
        titled(parts.left, f"Step {step}: units, red < 0 < blue")
        parts.left.xaxis.label.set_text(f"hidden units; lower rows x {1 / scale:.2g}")

    def describe(self, data: tuple[Film, int], **values: Any) -> str:
        """Which phase it is, the three probabilities, how far the nudge has moved the states."""
        film, step = data
        free, plus, minus = film.probability[step]
        moved = np.linalg.norm(film.states[step][1] - film.states[step][0])
        phase = (
            f"step {step} of the free phase, the three copies are one"
            if step <= FREE_STEPS
            else f"step {step - FREE_STEPS} of the nudged phase with beta {values['beta']:.3g}, distance {moved:.2g} "
            "from the free state"
        )
        return (
            f"Hidden units of digit {values['digit']} in rows of blue and red squares at {phase}; probability of the "
            f"right class {film.label}: free {free:.3f}, +beta {plus:.3f}, -beta {minus:.3f}."
        )

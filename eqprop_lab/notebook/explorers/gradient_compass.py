"""Explorer: where an estimated gradient points, and how long it is, against the exact one; fresh
and trained weights.

Below the picture stands what can be said of beta without the exact gradient: whether it is inside
the radius of validity (see `equilibrium.validity`).
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
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.text import Text
from torch import Tensor

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.gradients import NUDGED, Gradients, Settings, estimate
from eqprop_lab.equilibrium.linear_maps import symmetric_part
from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.instruments.validity import Validity, check_nudge
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import decades, line, margins, titled
from eqprop_lab.notebook.style import MARKERS, NEUTRAL, PALETTE
from eqprop_lab.training.trainer import EqPropTrainer

HIDDEN, DIGITS, NORM = 24, 16, 0.8
SETTLED = 150
# free and nudged steps of the estimates behind the verdict: a key press waits for all four of them
JUDGED = 80, 12
EPOCHS, RATE, RHO = 5, 0.02, 0.9  # of the training
WEIGHTS = ("fresh", "trained")
FLOOR, CEILING = 1e-13, 10.0
GROUPS = {
    "W_in": ("W_in.weight",),
    "biases": ("W_in.bias", "W_rec.bias"),
    "W_rec": ("W_rec.parametrizations.weight.original",),
    "W_out": ("W_out.weight", "W_out.bias"),
}
ESTIMATORS = (
    "one_sided",
    "centered",
    "holomorphic",
    "asymmetric",
    "response",
    "implicit",
    "truncated_bptt",
)


def skewed_network(
    skew: float, hidden: int = HIDDEN, norm: float = NORM, seed: int = 0
) -> LoopedMLP:
    """A directed LoopedMLP for 8x8 digits in float64, W_rec = sqrt(1-skew) S/||S|| + sqrt(skew)
    K/||K|| (Frobenius), scaled to the operator norm `norm`; S is symmetric, K antisymmetric, skew
    in [0, 1] their share of the energy.
    """
    model = LoopedMLP(64, hidden, 10, use_spectral_norm=False, seed=seed, symmetric=False).double()
    original = model.W_rec.get_parameter("parametrizations.weight.original").detach()
    even = symmetric_part(original)
    _set_recurrent(model, even, original - even, skew, norm)
    return model


@torch.no_grad()
def _set_recurrent(model: LoopedMLP, even: Tensor, odd: Tensor, skew: float, norm: float) -> None:
    """W_rec becomes the mixture of `skewed_network`."""
    mixed = (1 - skew) ** 0.5 * even / even.norm() + skew**0.5 * odd / odd.norm()
    original = model.W_rec.get_parameter("parametrizations.weight.original")
    original.copy_(mixed * (norm / exact_norm(mixed)))


@lru_cache(maxsize=1)
def _trained() -> LoopedMLP:
    """A symmetric network of the compass's size, bounded by RHO, after a few epochs on the digits;
    a second's work.
    """
    model = LoopedMLP(64, HIDDEN, 10, rho=RHO, seed=0)
    batches = build_dataset("digits").train.batches(64, shuffle=True, seed=0)
    EqPropTrainer(model, lr=RATE, progress=False).fit(batches, EPOCHS)
    return model.double()


@torch.no_grad()
def trained_network(skew: float) -> LoopedMLP:
    """The trained network (at skew 0: itself) with the fresh one's antisymmetric part mixed into
    its W_rec, by the formula of `skewed_network` at the norm that training reached; the other
    weights are the trained ones.
    """
    model, source = skewed_network(0.0), _trained()
    for name in ("W_in", "W_out"):
        getattr(model, name).load_state_dict(getattr(source, name).state_dict())
    model.W_rec.bias.copy_(source.W_rec.bias)
    fresh = skewed_network(1.0).W_rec.weight
    even = symmetric_part(source.W_rec.weight)
    _set_recurrent(model, even, fresh, skew, exact_norm(even))
    return model


def grouped(gradients: Gradients) -> dict[str, Tensor]:
    """One flat vector for each of the four groups of parameters of a LoopedMLP."""
    return {
        group: torch.cat([gradients[name].flatten() for name in names])
        for group, names in GROUPS.items()
    }


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    data = build_dataset("digits").train
    return data.x[:DIGITS].flatten(1).double(), data.y[:DIGITS]


@lru_cache(maxsize=32)
def _exact(weights: str, skew: float) -> tuple[LoopedMLP, dict[str, Tensor]]:
    """(network, exact gradient by group), from the adjoint iterated to rounding."""
    model = trained_network(skew) if weights == "trained" else skewed_network(skew)
    settings = Settings(free_steps=400, nudged_steps=400, tol=1e-15)
    return model, grouped(estimate(model, *_digits(), "implicit", settings)[0].gradients)


@lru_cache(maxsize=256)
def verdict(weights: str, skew: float, estimator: str, beta: float) -> Validity | None:
    """Whether `beta` is inside the radius of validity, from estimates alone; None for what needs no
    nudge.
    """
    if estimator not in NUDGED:
        return None
    return check_nudge(_exact(weights, skew)[0], *_digits(), estimator, Settings(beta, *JUDGED))


@dataclass(frozen=True)
class Bearing:
    """One group against the exact gradient: angle in degrees, length in units of the exact one,
    relative error.
    """

    angle: float
    length: float
    error: float


@dataclass(frozen=True)
class Reading:
    """Every group's bearing, and the verdict on beta."""

    groups: dict[str, Bearing]
    nudge: Validity | None


def bearing(gradient: Tensor, exact: Tensor) -> Bearing:
    """The three numbers of two vectors. The angle is computed from the chord: arccos cannot see
    small angles.
    """
    length = float(gradient.norm() / exact.norm())
    chord = float((gradient / gradient.norm() - exact / exact.norm()).norm())
    angle = float(np.degrees(2 * np.arcsin(min(1.0, chord / 2))))
    return Bearing(angle, length, float((gradient - exact).norm() / exact.norm()))


class GradientCompass(Explorer):
    """Four groups of parameters, four needles: north is the exact gradient."""

    title = "Gradient compass"
    size: ClassVar[tuple[float, float]] = (7.4, 4.3)
    controls: ClassVar[Sequence[Control]] = (
        Choice("estimator", ESTIMATORS, "centered", "Estimator"),
        Slider("beta", 0.001, 3.0, 0.1, 0.1, "Nudging strength beta", log=True),
        Slider("steps", 1, 80, 60, 1, "Nudged steps"),
        Slider("skew", 0.0, 1.0, 0.0, 0.05, "Asymmetry of W_rec"),
        Choice("weights", WEIGHTS, "fresh", "Weights"),
    )

    def compute(self, **values: Any) -> Reading:
        """The estimate after a settled free phase, held against the exact gradient group by group."""
        model, exact = _exact(values["weights"], values["skew"])
        settings = Settings(values["beta"], SETTLED, values["steps"])
        found = grouped(estimate(model, *_digits(), values["estimator"], settings)[0].gradients)
        nudge = verdict(values["weights"], values["skew"], values["estimator"], values["beta"])
        return Reading({group: bearing(found[group], exact[group]) for group in GROUPS}, nudge)

    def build(self, figure: Figure) -> tuple[_Dials, _Errors, _Verdict]:
        """Above four dials, then the relative error of each group, a mark on a log axis and its
        number; a sentence.
        """
        places = margins(figure, 0.7, 0.2, 0.85, 0.35, hspace=0.15)
        top, bottom = figure.subplots(2, 1, height_ratios=(1.5, 1.0), gridspec_kw=places)
        return _Dials(top), _Errors(bottom), _Verdict(figure)

    def move(self, parts: tuple[_Dials, _Errors, _Verdict], data: Reading) -> None:
        """Turn every needle, move every mark, say the verdict."""
        dials, errors, said = parts
        dials.show(data.groups)
        errors.show(data.groups)
        said.show(data.nudge)

    def describe(self, data: Reading, **values: Any) -> str:
        """Angle, length and error of every group, and the verdict on beta."""
        groups = data.groups.items()
        parts = [
            f"{g} {_degrees(b.angle)}, length {b.length:.3f}, error {b.error:.1e}"
            for g, b in groups
        ]
        beta = (
            f", beta {values['beta']:.3g}"
            if values["estimator"] not in ("response", "implicit")
            else ""
        )
        return (
            f"Four compass needles against the exact gradient in the north, {values['weights']} weights, "
            f"{values['estimator']}{beta}, {values['steps']} nudged steps, asymmetry {values['skew']:.2f}: "
            f"{'; '.join(parts)}. {said_of(data.nudge)}."
        )


def said_of(nudge: Validity | None) -> str:
    """The verdict in one line. It is on beta alone: weights for which the estimator is wrong at any
    beta pass.
    """
    if nudge is None:
        return "No nudge to judge: the estimate needs no beta"
    judged = (
        f"beta {nudge.beta:.3g} is {'inside' if nudge.inside else 'OUTSIDE'} the radius of validity"
    )
    if not np.isfinite(nudge.error):
        return f"{judged}: a phase diverged"
    order = "" if np.isnan(nudge.order) else f", order {nudge.order:.1f} (N = {nudge.nudges})"
    return f"{judged}: expected error {nudge.error:.0e}{order}"


class _Verdict:
    """One line below the axes."""

    def __init__(self, figure: Figure) -> None:
        self.text = figure.text(0.01, 0.1 / figure.get_size_inches()[1], "", ha="left", va="bottom")

    def show(self, nudge: Validity | None) -> None:
        self.text.set_text(said_of(nudge))


class _Dials:
    """Grey: the exact gradient, pointing north. Coloured: the estimate, turned by its angle."""

    def __init__(self, axes: Axes) -> None:
        axes.set(xlim=(-1.6, 3.4 * (len(GROUPS) - 1) + 1.6), ylim=(-2.3, 1.4), aspect="equal")
        titled(axes, "Angle to the exact gradient (north), and length")
        axes.set_axis_off()
        needle: dict[str, Any] = {
            "arrowstyle": "-|>",
            "mutation_scale": 10.5,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        self.needles: list[FancyArrowPatch] = []
        self.notes: list[Text] = []
        for place, group in enumerate(GROUPS):
            x = 3.4 * place
            axes.add_patch(Circle((x, 0), 1.0, fill=False, color=NEUTRAL, alpha=0.6, linewidth=1))
            axes.plot(
                [x, x], [0, 1], "-", color=NEUTRAL, alpha=0.6, linewidth=5, solid_capstyle="butt"
            )
            arrow = FancyArrowPatch(
                (x, 0), (x, 1), color=PALETTE[place], linewidth=2, zorder=3, **needle
            )
            axes.add_patch(arrow)
            self.needles.append(arrow)
            axes.text(x, -1.25, group, ha="center", va="top", weight="bold", zorder=1)
            self.notes.append(axes.text(x, -1.72, "", ha="center", va="top"))

    def show(self, data: dict[str, Bearing]) -> None:
        for place, found in enumerate(data.values()):
            turn, length = np.radians(found.angle), min(found.length, 1.35)
            x = 3.4 * place
            self.needles[place].set_positions(
                (x, 0), (x + length * np.sin(turn), length * np.cos(turn))
            )
            self.notes[place].set_text(f"{_degrees(found.angle)}, x {found.length:.3f}")


class _Errors:
    """A mark on a log axis and its number, for each group.

    No bar leads to the mark: on a log axis it would have to start at a number that means nothing.
    """

    def __init__(self, axes: Axes) -> None:
        rows = range(len(GROUPS))
        axes.set(
            xscale="log",
            xlim=(FLOOR, CEILING),
            ylim=(len(GROUPS) - 0.5, -0.5),
            xlabel="relative error",
        )
        decades(axes.xaxis, -13, 1, 2)
        axes.set_yticks(rows, list(GROUPS))
        self.marks = [
            line(axes, "o", color=PALETTE[row], markersize=8, clip_on=False) for row in rows
        ]
        offset: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        self.numbers = [axes.annotate("", (1.0, row), (9, 0), **offset) for row in rows]

    def show(self, data: dict[str, Bearing]) -> None:
        for row, found in enumerate(data.values()):
            inside = FLOOR < found.error < CEILING
            shown = min(max(found.error, FLOOR), CEILING)
            self.marks[row].set_data([shown], [row])
            self.marks[row].set_marker(MARKERS[row] if inside else "<>"[found.error > FLOOR])
            side = -1 if shown > 1e-2 else 1
            number = self.numbers[row]
            number.xy = (shown, row)
            number.set(
                text=f"{found.error:.1e}",
                position=(9 * side, 0),
                ha="right" if side < 0 else "left",
            )


def _degrees(angle: float) -> str:
    return f"{angle:.1f}°" if angle >= 0.1 or angle < 1e-6 else f"{angle:.1g}°"

"""Explorer: where an estimated gradient points, and how long it is, against the exact one.

Below the picture stands what can be said of beta without the exact gradient: whether it is inside
the radius of validity (see `instruments.validity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from torch import Tensor

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.gradients import NUDGED, Gradients, Settings, estimate
from eqprop_lab.equilibrium.linear_maps import symmetric_part
from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.instruments.validity import Validity, check_nudge
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import digits, recurrent
from eqprop_lab.notebook.moving_axes import Show, decades, line, panels, titled
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


def skewed_network(skew: float, hidden: int = HIDDEN, seed: int = 0) -> LoopedMLP:
    """A directed LoopedMLP for 8x8 digits in float64.

        W_rec = sqrt(1 - skew) S/||S|| + sqrt(skew) K/||K||     (Frobenius norms)

    scaled to the operator norm NORM. S is symmetric, K antisymmetric, skew in [0, 1] the share of K
    in the energy.
    """
    model = LoopedMLP(64, hidden, 10, use_spectral_norm=False, seed=seed, symmetric=False).double()
    raw = recurrent(model)
    even = symmetric_part(raw)
    raw.copy_(_mixed(even, raw - even, skew, NORM))
    return model


def _mixed(even: Tensor, odd: Tensor, skew: float, norm: float) -> Tensor:
    """The mixture of `skewed_network`."""
    mixed = (1 - skew) ** 0.5 * even / even.norm() + skew**0.5 * odd / odd.norm()
    return mixed * (norm / exact_norm(mixed))


@lru_cache(maxsize=1)
def _trained() -> LoopedMLP:
    """A symmetric network of the compass's size after a few epochs: a second's work."""
    model = LoopedMLP(64, HIDDEN, 10, rho=RHO, seed=0)
    batches = build_dataset("digits").train.batches(64, shuffle=True, seed=0)
    EqPropTrainer(model, lr=RATE, progress=False).fit(batches, EPOCHS)
    return model.double()


@torch.no_grad()
def trained_network(skew: float) -> LoopedMLP:
    """The trained network with the fresh one's antisymmetric part mixed into its W_rec.

    The formula is that of `skewed_network` at the norm that training reached; skew 0 is the trained
    network itself, and the other weights are the trained ones at any skew.
    """
    model, source = skewed_network(0.0), _trained()
    for name in ("W_in", "W_out"):
        getattr(model, name).load_state_dict(getattr(source, name).state_dict())
    model.W_rec.bias.copy_(source.W_rec.bias)
    even = symmetric_part(source.W_rec.weight)
    odd = skewed_network(1.0).W_rec.weight
    recurrent(model).copy_(_mixed(even, odd, skew, exact_norm(even)))
    return model


def grouped(gradients: Gradients) -> dict[str, Tensor]:
    """One flat vector for each of the four groups of parameters of a LoopedMLP."""
    return {
        group: torch.cat([gradients[name].flatten() for name in names])
        for group, names in GROUPS.items()
    }


@lru_cache(maxsize=32)
def _exact(weights: str, skew: float) -> tuple[LoopedMLP, dict[str, Tensor]]:
    """(network, exact gradient by group), from the adjoint iterated to rounding."""
    model = trained_network(skew) if weights == "trained" else skewed_network(skew)
    settings = Settings(free_steps=400, nudged_steps=400, tol=1e-15)
    return model, grouped(estimate(model, *digits(DIGITS), "implicit", settings)[0].gradients)


@lru_cache(maxsize=256)
def verdict(weights: str, skew: float, estimator: str, beta: float) -> Validity | None:
    """Whether `beta` is inside the radius of validity, by estimates alone; None without a nudge."""
    if estimator not in NUDGED:
        return None
    model = _exact(weights, skew)[0]
    return check_nudge(model, *digits(DIGITS), estimator, Settings(beta, *JUDGED))


@dataclass(frozen=True)
class Bearing:
    """One group against the exact gradient: angle in degrees, relative length, relative error."""

    angle: float
    length: float
    error: float


@dataclass(frozen=True)
class Reading:
    """Every group's bearing, and the verdict on beta."""

    groups: dict[str, Bearing]
    nudge: Validity | None


def bearing(gradient: Tensor, exact: Tensor) -> Bearing:
    """The three numbers of two vectors; the angle by the chord, as arccos sees no small angles."""
    length = float(gradient.norm() / exact.norm())
    chord = float((gradient / gradient.norm() - exact / exact.norm()).norm())
    angle = float(np.degrees(2 * np.arcsin(min(1.0, chord / 2))))
    return Bearing(angle, length, float((gradient - exact).norm() / exact.norm()))


class GradientCompass(Explorer):
    """Four groups of parameters, four needles: north is the exact gradient."""

    title = "Gradient compass"
    size = (7.4, 4.3)
    controls = (
        Choice("estimator", ESTIMATORS, "centered", "Estimator"),
        Slider("beta", 0.001, 3.0, 0.1, 0.1, "Nudging strength beta", log=True),
        Slider("steps", 1, 80, 30, 1, "Nudged steps"),
        Slider("skew", 0.0, 1.0, 0.0, 0.05, "Asymmetry of W_rec"),
        Choice("weights", WEIGHTS, "fresh", "Weights"),
    )

    def compute(
        self, estimator: str, beta: float, steps: int, skew: float, weights: str
    ) -> Reading:
        model, exact = _exact(weights, skew)
        settings = Settings(beta, SETTLED, steps)
        found = grouped(estimate(model, *digits(DIGITS), estimator, settings)[0].gradients)
        groups = {group: bearing(found[group], exact[group]) for group in GROUPS}
        return Reading(groups, verdict(weights, skew, estimator, beta))

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.7, 0.2, 0.85, 0.35)
        top, bottom = panels(figure, "A;B", inches, height_ratios=(1.5, 1.0), hspace=0.15)
        said = figure.text(0.01, 0.1 / self.size[1], "", ha="left", va="bottom")
        return [_dials(top), _errors(bottom), lambda data: said.set_text(said_of(data.nudge))]

    def describe(self, data: Reading, **values: Any) -> str:
        parts = [
            f"{group} {_degrees(found.angle)}, length {found.length:.3f}, error {found.error:.1e}"
            for group, found in data.groups.items()
        ]
        needs_beta = values["estimator"] not in ("response", "implicit")
        beta = f", beta {values['beta']:.3g}" if needs_beta else ""
        return (
            f"Four compass needles against the exact gradient in the north, {values['weights']} "
            f"weights, {values['estimator']}{beta}, {values['steps']} nudged steps, asymmetry "
            f"{values['skew']:.2f}: {'; '.join(parts)}. {said_of(data.nudge)}."
        )


def said_of(nudge: Validity | None) -> str:
    """The verdict in one line, on beta alone: an estimator that is wrong at any beta passes."""
    if nudge is None:
        return "No nudge to judge: the estimate needs no beta"
    where = "inside" if nudge.inside else "OUTSIDE"
    judged = f"beta {nudge.beta:.3g} is {where} the radius of validity"
    if not np.isfinite(nudge.error):
        return f"{judged}: a phase diverged"
    order = "" if np.isnan(nudge.order) else f", order {nudge.order:.1f} (N = {nudge.nudges})"
    return f"{judged}: expected error {nudge.error:.0e}{order}"


def _dials(axes: Axes) -> Show:
    """Grey: the exact gradient, pointing north. Coloured: the estimate, turned by its angle."""
    axes.set(xlim=(-1.6, 3.4 * (len(GROUPS) - 1) + 1.6), ylim=(-2.3, 1.4), aspect="equal")
    titled(axes, "Angle to the exact gradient (north), and length")
    axes.set_axis_off()
    pale: dict[str, Any] = {"color": NEUTRAL, "alpha": 0.6}
    needle: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 10.5,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    dials = []
    for place, group in enumerate(GROUPS):
        x = 3.4 * place
        axes.add_patch(Circle((x, 0), 1.0, fill=False, linewidth=1, **pale))
        axes.plot([x, x], [0, 1], "-", linewidth=5, solid_capstyle="butt", **pale)
        look = needle | {"color": PALETTE[place], "linewidth": 2, "zorder": 3}
        arrow = FancyArrowPatch((x, 0), (x, 1), **look)
        axes.add_patch(arrow)
        axes.text(x, -1.25, group, ha="center", va="top", weight="bold", zorder=1)
        dials.append((x, arrow, axes.text(x, -1.72, "", ha="center", va="top")))

    def show(data: Reading) -> None:
        for (x, arrow, note), found in zip(dials, data.groups.values(), strict=True):
            turn = np.radians(found.angle)
            length = min(found.length, 1.35)
            arrow.set_positions((x, 0), (x + length * np.sin(turn), length * np.cos(turn)))
            note.set_text(f"{_degrees(found.angle)}, x {found.length:.3f}")

    return show


def _errors(axes: Axes) -> Show:
    """A mark on a log axis and its number, for each group.

    No bar leads to the mark: on a log axis it would have to start at a number that means nothing.
    """
    rows = range(len(GROUPS))
    axes.set(xscale="log", xlim=(FLOOR, CEILING), xlabel="relative error")
    axes.set_ylim(len(GROUPS) - 0.5, -0.5)
    decades(axes.xaxis, -13, 1, 2)
    axes.set_yticks(rows, list(GROUPS))
    marks = [line(axes, "o", color=PALETTE[row], markersize=8, clip_on=False) for row in rows]
    offset: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    numbers = [axes.annotate("", (1.0, row), (9, 0), **offset) for row in rows]

    def show(data: Reading) -> None:
        for row, found in enumerate(data.groups.values()):
            inside = FLOOR < found.error < CEILING
            shown = min(max(found.error, FLOOR), CEILING)
            marks[row].set_data([shown], [row])
            marks[row].set_marker(MARKERS[row] if inside else "<>"[found.error > FLOOR])
            numbers[row].xy = (shown, row)
            place, side = (-9, "right") if shown > 1e-2 else (9, "left")
            numbers[row].set(text=f"{found.error:.1e}", position=(place, 0), ha=side)

    return show


def _degrees(angle: float) -> str:
    return f"{angle:.1f}°" if angle >= 0.1 or angle < 1e-6 else f"{angle:.1g}°"

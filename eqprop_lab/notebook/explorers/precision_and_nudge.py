"""Explorer: what is left of a nudge when matrix products keep few bits.

    error(beta) = |g - g*| / |g*|,   g with factors rounded to b bits, g* exact

All nudges of a curve are relaxed as one batch, so that a moved slider is answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from eqprop_lab.equilibrium.contrast import Displacement, Gradients, contrast, stacked
from eqprop_lab.equilibrium.costs import CostGradient, make_cost
from eqprop_lab.equilibrium.gradients import Settings, estimate
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.relaxation import Equilibrium, free_state, settle
from eqprop_lab.equilibrium.state import State
from eqprop_lab.instruments.gradient_check import exact_gradients
from eqprop_lab.instruments.rounded_products import FLOAT32, rounded_products
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import digits, relative_error
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, limit, line, panels, titled
from eqprop_lab.notebook.style import PALETTE

HIDDEN, DIGITS, FREE_STEPS, NUDGED_STEPS = 24, 16, 40, 20
CENTERED, ONE_SIDED, RESPONSE = "centered", "one_sided", "response"
BETAS = tuple(10.0 ** (half / 2) for half in range(-6, 1))
LEAST = 3
SHOWN = "W_rec.parametrizations.weight.original"  # whose entries the right panel compares
_LIMITS = (1e-7, 3.0)


def products(bits: int | None) -> AbstractContextManager[object]:
    """Products whose factors have so many bits; None, or those of float32: as they are."""
    return nullcontext() if bits is None or bits >= FLOAT32 else rounded_products(bits)


@lru_cache(maxsize=2)
def network(double: bool = False) -> LoopedMLP:
    """An untrained LoopedMLP for the digits, in float32 or float64."""
    model = LoopedMLP(64, HIDDEN, 10, seed=0)
    return model.double() if double else model


@lru_cache(maxsize=1)
def exact() -> Gradients:
    """The exact gradient, in float64."""
    return exact_gradients(network(), *digits(DIGITS))


def _images(model: LoopedMLP) -> tuple[Tensor, Tensor]:
    x, y = digits(DIGITS)
    return x.to(model.W_out.weight), y


@lru_cache(maxsize=64)
@torch.no_grad()
def _free(bits: int | None) -> tuple[State, Equilibrium]:
    """(drive, free state) with products of so many bits; None: all in float64."""
    model = network(bits is None)
    with products(bits):
        return free_state(model, _images(model)[0], max_steps=FREE_STEPS)


@lru_cache(maxsize=128)
def gradients(bits: int | None, way: str, betas: tuple[float, ...]) -> list[Gradients]:
    """The estimate at every beta, factors of all products rounded to `bits`; None: in float64."""
    model = network(bits is None)
    x, y = _images(model)
    with products(bits):
        if way == RESPONSE:
            settings = Settings(1.0, FREE_STEPS, NUDGED_STEPS)
            return [estimate(model, x, y, RESPONSE, settings)[0].gradients] * len(betas)
        (drive, free), cost = _free(bits), make_cost("cross_entropy", y, 10, model.W_out.weight)
        with torch.no_grad():
            logits = model.readout(free.state)
            moved = _moved(model, drive, free, cost.grad, way, betas)
        return [contrast(model, x, each, free.state, logits, cost.grad) for each in moved]


def _moved(
    model: LoopedMLP,
    drive: State,
    free: Equilibrium,
    cost_grad: CostGradient,
    way: str,
    betas: tuple[float, ...],
) -> list[Displacement]:
    """What every beta makes of the free state: all phases in one batch."""
    strengths = (*betas, *(-beta for beta in betas)) if way == CENTERED else betas
    start, drives = stacked([free.state] * len(strengths)), stacked([drive] * len(strengths))
    nudge = CostNudge(model, cost_grad, strengths)
    end = settle(model, start, drives, max_steps=NUDGED_STEPS, nudge=nudge)
    phases = end.state[0].chunk(len(strengths))
    ends = phases[len(betas) :] or [free.state[0]] * len(betas)
    apart = 2.0 if way == CENTERED else 1.0
    return [
        Displacement(((plus - minus) / apart,), ((plus + minus) / 2,), end, beta)
        for beta, plus, minus in zip(betas, phases, ends, strict=False)
    ]


def off(found: Gradients) -> float:
    """|g - g*| / |g*| over all parameters."""
    wanted = exact()
    return relative_error((found[name] for name in wanted), wanted.values())


@lru_cache(maxsize=128)
def curve(bits: int | None, way: str) -> np.ndarray:
    """The error at every beta of BETAS."""
    return np.array([off(found) for found in gradients(bits, way, BETAS)])


@dataclass(frozen=True)
class Coarse:
    """errors and sharp (K,): at every beta of BETAS, with so many bits and in float64; error: at
    the beta that was chosen; wanted, found (H * H,): the gradient of W_rec, exact and estimated.
    """

    beta: float
    errors: np.ndarray
    sharp: np.ndarray
    error: float
    wanted: np.ndarray
    found: np.ndarray


class PrecisionAndNudge(Explorer):
    """A few digits, one gradient: how many bits a weak nudge needs."""

    title = "Precision and nudge: what rounding leaves of a gradient"
    size = (7.4, 3.5)
    controls = (
        Slider("bits", LEAST, FLOAT32, 10, 1, "Bits of mantissa in the products"),
        Slider("beta", 0.001, 1.0, 0.01, 0.1, "Nudging strength beta", log=True),
        Choice("way", (CENTERED, ONE_SIDED, RESPONSE), CENTERED, "Estimator"),
    )

    def compute(self, bits: int, beta: float, way: str) -> Coarse:
        (found,) = gradients(bits, way, (beta,))
        return Coarse(
            beta,
            curve(bits, way),
            curve(None, way),
            off(found),
            exact()[SHOWN].flatten().numpy(),
            found[SHOWN].flatten().double().numpy(),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.65, 0.15, 0.85, 0.3)
        left, right = panels(figure, "AB", inches, width_ratios=(1.4, 1.0), wspace=0.3)
        return [_errors(figure, left), _entries(right)]

    def describe(self, data: Coarse, **values: Any) -> str:
        best = int(data.errors.argmin())
        nudge = "without a nudge" if values["way"] == RESPONSE else f"at beta {data.beta:.3g}"
        least = (
            ""
            if values["way"] == RESPONSE
            else f"; the smallest error of its curve is {data.errors[best]:.1e} at beta "
            f"{BETAS[best]:.2g}"
        )
        return (
            f"Relative error of the {values['way']} gradient against beta, with products of "
            f"{values['bits']} bits and in float64: {data.error:.1e} {nudge}{least}. Beside it the "
            f"gradient of W_rec, entry by entry: correlation with the exact one "
            f"{np.corrcoef(data.wanted, data.found)[0, 1]:.3f}."
        )


def _errors(figure: Figure, axes: Axes) -> Show:
    """Error against beta, on logarithmic axes."""
    axes.set(xscale="log", yscale="log", xlim=(8e-4, 1.25), ylim=_LIMITS, xlabel="beta")
    decades(axes.xaxis, -3, 0)
    decades(axes.yaxis, -7, 0)
    sharp = line(axes, "--", color=PALETTE[2], label="float64")
    coarse = line(axes, "-", color=PALETTE[0], marker=".", label="rounded products")
    chosen = line(axes, "o", color=PALETTE[1], markersize=9, label="chosen beta", clip_on=False)
    figure.legend(handles=[sharp, coarse, chosen], loc="lower left", ncols=3)

    def show(data: Coarse) -> None:
        titled(axes, f"Error of the gradient: {data.error:.1e}")
        sharp.set_data(BETAS, np.maximum(data.sharp, 1e-12))
        coarse.set_data(BETAS, data.errors)
        chosen.set_data([data.beta], [min(max(data.error, _LIMITS[0]), _LIMITS[1])])

    return show


def _entries(axes: Axes) -> Show:
    """Estimated against exact entries; right ones lie on the diagonal."""
    largest = 1.3 * float(exact()[SHOWN].abs().max())
    axes.set(xlabel="exact", xticks=[], yticks=[], xlim=(-largest, largest))
    titled(axes, "Gradient of W_rec")
    axes.axline((0.0, 0.0), slope=1, **REFERENCE)
    dots = line(axes, ".", color=PALETTE[0], markersize=3)

    def show(data: Coarse) -> None:
        limit(axes, "ylim", (-largest, largest))
        dots.set_data(data.wanted, np.clip(data.found, -largest, largest))

    return show

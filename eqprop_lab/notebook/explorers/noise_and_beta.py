"""Explorer: what noise and few bits leave of a gradient, over beta.

    error^2 = (curvature beta^N)^2 + (noise/beta)^2      the law, from two measured numbers
    marks                                                gradients of the device itself

The law knows of noise alone: where rounding matters the marks leave it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.instruments.noise import Noisy
from eqprop_lab.instruments.noise_law import NoiseLaw, noise_law
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.notebook.controls import Choice, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import digits, relative_error
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

WIDTH, DIGITS, DRAWS, UNIT = 24, 16, 3, 1e-3
PHASES: dict[str, Any] = {"free_steps": 25, "nudged_steps": 15}
ESTIMATORS = ("one_sided", "centered", "holomorphic")
BITS: dict[str, int | str | None] = {
    "as they are": None, "8 bits": 8, "6 bits": 6, "4 bits": 4, "bfloat16": "bfloat16",
}  # fmt: skip
BENT_AT = {"one_sided": 0.1, "centered": 0.2, "holomorphic": 0.8}
BETAS = np.geomspace(0.005, 3.0, 60)
LIMITS = (1e-4, 100.0)
WEIGHT = "W_in.weight"


@lru_cache(maxsize=1)
def network() -> LoopedMLP:
    """An untrained network for the digits, in float64."""
    return LoopedMLP(64, WIDTH, 10, seed=0).double()


@lru_cache(maxsize=1)
def exact() -> dict[str, Tensor]:
    """Its gradient, by the adjoint."""
    return dict(
        estimate_gradients(network(), *digits(DIGITS), "implicit", free_steps=100, nudged_steps=100)
    )


@lru_cache(maxsize=8)
def law_of(estimator: str) -> NoiseLaw:
    """The law for noise of size UNIT; other noise is in proportion."""
    device = Noisy(network(), states=UNIT, seed=0)
    bent = BENT_AT[estimator]
    return noise_law(device, *digits(DIGITS), estimator, bent_at=bent, repeats=6, **PHASES)


@dataclass(frozen=True)
class Budget:
    """What is drawn: the law, errors (DRAWS,) of the device at beta, and one gradient of W_in
    beside the exact one.
    """

    beta: float
    law: NoiseLaw
    errors: np.ndarray
    got: np.ndarray
    wanted: np.ndarray

    @property
    def error(self) -> float:
        """Root mean square of the errors."""
        return float(np.sqrt(np.mean(self.errors**2)))


@lru_cache(maxsize=256)
def budget(noise: float, beta: float, estimator: str, bits: str) -> Budget:
    """A few gradients of the device, and the law."""
    unit, grid = law_of(estimator), BITS[bits]
    device = Noisy(network(), states=noise, state_bits=grid, weight_bits=grid, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # noise does not settle
        draws = [
            estimate_gradients(device, *digits(DIGITS), estimator, beta, **PHASES)
            for _ in range(DRAWS)
        ]
    errors = [relative_error(found.values(), exact().values()) for found in draws]
    law = NoiseLaw(unit.curvature, unit.noise * noise / UNIT, unit.order)
    wanted = exact()[WEIGHT].flatten()
    got = draws[-1][f"model.{WEIGHT}"].flatten() / wanted.abs().max()
    return Budget(beta, law, np.array(errors), got.numpy(), (wanted / wanted.abs().max()).numpy())


class NoiseAndBeta(Explorer):
    """A few digits, a small network on a device: errors over beta, and a gradient as it comes."""

    title = "Noise, bits and beta: what is left of a gradient"
    size = (7.4, 3.5)
    controls = (
        Slider("noise", 1e-5, 0.1, 1e-3, 0.25, "Noise of a unit", log=True),
        Slider("beta", 0.005, 3.0, 0.1, 0.1, "Nudging strength beta", log=True),
        Choice("estimator", ESTIMATORS, "centered", "Estimator"),
        Choice("bits", tuple(BITS), "as they are", "States and weights"),
    )

    def compute(self, noise: float, beta: float, estimator: str, bits: str) -> Budget:
        return budget(noise, beta, estimator, bits)

    def build(self, figure: Figure) -> Sequence[Show]:
        left, right = panels(figure, "AB", (0.65, 0.15, 0.85, 0.3), wspace=0.28)
        left.set(xscale="log", yscale="log", xlim=(BETAS[0], BETAS[-1]), ylim=LIMITS)
        left.set(xlabel="beta")
        decades(left.xaxis, -2, 0)
        decades(left.yaxis, -4, 2)
        titled(left, "Relative error of the gradient")
        right.set(xlim=(-1.1, 1.1), ylim=(-2.2, 2.2), xlabel="exact gradient of W_in")
        titled(right, "As the device gives it")
        return [_law(figure, left), _scatter(right)]

    def describe(self, data: Budget, **values: Any) -> str:
        return (
            f"{values['estimator']}, noise {values['noise']:.2g} a unit, states and weights "
            f"{values['bits']}: at beta {data.beta:.3g} the gradient is {data.error:.1e} off, by "
            f"the law of noise {data.law.error(data.beta):.1e}. Its best beta is "
            f"{data.law.best_beta:.2g}, with an error of {data.law.error(data.law.best_beta):.1e}."
        )


def _law(figure: Figure, axes: Axes) -> Show:
    """Both parts of the error, their sum, and the device's own at this beta."""
    bend = line(axes, ":", color=PALETTE[1], label="bend")
    noise = line(axes, "--", color=PALETTE[2], label="noise")
    both = line(axes, "-", color=PALETTE[0], label="both, the law")
    best = axes.axvline(1.0, **REFERENCE)
    seen = line(axes, "o", color=PALETTE[3], markersize=7, label="the device")
    figure.legend(handles=[bend, noise, both, seen], loc="lower left", ncols=4, columnspacing=1.0)

    def show(data: Budget) -> None:
        law = data.law
        for curve, values in (
            (bend, law.curvature * BETAS**law.order),
            (noise, law.noise / BETAS),
            (both, [law.error(beta) for beta in BETAS]),
        ):
            curve.set_data(BETAS, values)
        best.set_xdata([law.best_beta] * 2)
        seen.set_data([data.beta] * DRAWS, np.clip(data.errors, *LIMITS))

    return show


def _scatter(axes: Axes) -> Show:
    """Every weight a dot; on the diagonal it is right."""
    axes.plot([-1.1, 1.1], [-1.1, 1.1], color=NEUTRAL, linewidth=0.8)
    dots = line(axes, ".", color=PALETTE[3], markersize=3, alpha=0.5)

    def show(data: Budget) -> None:
        dots.set_data(data.wanted, np.clip(data.got, -2.15, 2.15))

    return show

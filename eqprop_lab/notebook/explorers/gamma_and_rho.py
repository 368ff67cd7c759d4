"""Explorer: what the feedback gain gamma and the bound rho do to a convolutional network with
random weights.

    cap = rho / (2 cos(pi/(L+1)) sqrt(gamma)),    q = sqrt(gamma) lambda_max(path matrix of ||W_2||, ..., ||W_L||)
    share of the feedback in layer l:    ||gamma W_(l+1)^T s_(l+1)|| / ||W_l s_(l-1) + b_l||

The random weights are the same for every setting and only scaled, so what changes in the picture is
gamma and rho.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.contract import State
from eqprop_lab.equilibrium.relaxation import SETTLED, movement, relax
from eqprop_lab.instruments.probes import measured_rate
from eqprop_lab.models.conv import ConvEqProp
from eqprop_lab.notebook.controls import Control, Slider, Toggle
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import decades, limit, line, margins, round_limits, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

CHANNELS, DIGITS, SWEEPS, DEEPEST = 8, 8, 30, 4
FLOOR = 1e-9
_SHOWN = (3e-4, 30.0)  # range of the panel with states and feedback
_ANCHOR = 2  # the sweep from which on the certificate holds


def random_network(gamma: float, rho: float, depth: int, bounded: bool, norm: float) -> ConvEqProp:
    """An untrained ConvEqProp for 8x8 digits in float64, `depth` layers of CHANNELS x 4 x 4.

    The raw weights of the interior layers have the operator norm `norm`; `bounded` says whether the
    model may shrink them below its cap. Apart from this scale they are the same for every setting
    of the same depth.
    """
    channels, strides = [CHANNELS] * depth, [2] + [1] * (depth - 1)
    model = ConvEqProp(
        1, channels, 10, gamma, rho, bounded, seed=0, image_size=8, strides=strides
    ).double()
    with torch.no_grad():
        for layer in model.layers[1:]:
            # Read through the bound, which has then seen the old weight and follows the new one.
            weight: Tensor = layer.weight  # type: ignore[assignment]
            layer.parametrizations["weight"].original.copy_(
                weight * (norm / layer.linear.norm_bound(weight))
            )  # type: ignore[operator, index, union-attr]
    return model


@torch.no_grad()
def feedback_shares(model: ConvEqProp, x: Tensor, state: State) -> list[float]:
    """||gamma W_(l+1)^T s_(l+1)|| / ||W_l s_(l-1) + b_l|| over the batch, for the layers 1, ...,
    L-1.
    """
    drive = model.drive(x)
    total = model.force(state, drive)
    shares = []
    for block in range(len(state) - 1):
        # Without the layers above, what is left of the force comes from below.
        alone = tuple(s if l <= block else torch.zeros_like(s) for l, s in enumerate(state))  # noqa: E741
        below = model.force(alone, drive)[block]
        shares.append(float((total[block] - below).norm() / below.norm()))
    return shares


@lru_cache(maxsize=1)
def digits() -> Tensor:
    """The first digits of the training set, (DIGITS, 1, 8, 8)."""
    return build_dataset("digits").train.x[:DIGITS].double()


@dataclass(frozen=True)
class Setting:
    """One setting, measured.

    residuals (SWEEPS,); steps: sweeps to a residual of 1e-4, None if not in SWEEPS; rate: factor a
    sweep, NaN where it does not settle; sizes (L,), rms of the states; norms (L - 1,), certified;
    cap; bounded; q; shares (L - 1,).
    """

    residuals: np.ndarray
    steps: int | None
    rate: float
    sizes: np.ndarray
    norms: np.ndarray
    cap: float
    bounded: bool
    q: float
    shares: np.ndarray


def measure(model: ConvEqProp, x: Tensor) -> Setting:
    """Relax the network on x for SWEEPS sweeps and look at everything."""
    path = relax(model, x, SWEEPS, trajectory=True).trajectory
    assert path is not None
    residuals = torch.stack(
        [movement(new, old)[0].max() for old, new in zip(path, path[1:], strict=False)]
    )
    below = np.flatnonzero(residuals.numpy() <= SETTLED)
    return Setting(
        residuals=residuals.numpy(),
        steps=int(below[0]) + 1 if len(below) else None,
        rate=float(measured_rate(residuals[:, None], high=0.3)) if len(below) else math.nan,
        sizes=np.array([float(block.square().mean().sqrt()) for block in path[-1]]),
        norms=np.array(model.layer_norms()),
        cap=model.cap,
        bounded=model.use_spectral_norm,
        q=model.contraction_bound(),
        shares=np.array(feedback_shares(model, x, path[-1])),
    )


class GammaAndRho(Explorer):
    """Random weights, a few digits: from a Hopfield network (gamma 1) to a nearly feed-forward one,
    beyond the cap.
    """

    title = "Gamma and rho: feedback, size of the states, certificate"
    size: ClassVar[tuple[float, float]] = (7.6, 4.4)
    controls: ClassVar[Sequence[Control]] = (
        Slider("gamma", 0.01, 1.0, 0.1, 0.1, "Gain of the feedback gamma", log=True),
        Slider("rho", 0.3, 0.99, 0.9, 0.01, "Bound of the contraction rho"),
        Slider("depth", 2, DEEPEST, 3, 1, "Layers L"),
        Slider("norm", 0.5, 8.0, 5.0, 0.5, "Norm of the raw weights"),
        Toggle("use_spectral_norm", True, "Keep the weights below the cap"),
    )

    def compute(self, **values: Any) -> Setting:
        """Relax the network of this setting on the digits."""
        bounded = values["use_spectral_norm"]
        model = random_network(
            values["gamma"], values["rho"], values["depth"], bounded, values["norm"]
        )
        return measure(model, digits())

    def build(self, figure: Figure) -> tuple[_Residuals, _Layers, _Norms]:
        """Left the residual, right the size of the states and the share of the feedback, and norms
        below their cap.
        """
        places = margins(figure, 0.6, 0.15, 0.55, 0.3, wspace=0.2, hspace=0.62)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1.0), **places)
        left, top, bottom = (
            figure.add_subplot(grid[place]) for place in (np.s_[:, 0], np.s_[0, 1], np.s_[1, 1])
        )
        return _Residuals(left), _Layers(top), _Norms(bottom)

    def move(self, parts: tuple[_Residuals, _Layers, _Norms], data: Setting) -> None:
        """Every panel shows its own part of the setting."""
        for panel in parts:
            panel.show(data)

    def describe(self, data: Setting, **values: Any) -> str:
        """Does it settle, how fast for certain and in fact, what is left of the signal on top."""
        settles = f"does not settle to {SETTLED:.0e} in {SWEEPS} sweeps (residual {data.residuals[-1]:.1e})"
        if data.steps is not None:
            rate = (
                "too fast for a rate"
                if math.isnan(data.rate)
                else f"observed factor {data.rate:.2g} a sweep"
            )
            settles = f"settles to {SETTLED:.0e} in {data.steps} sweeps, {rate}"
        promise = f"certified {data.q**2:.2g}" if data.q < 1 else "nothing is certified"
        weights = "kept below the cap" if data.bounded else "not bounded, the cap would be"
        return (
            f"{values['depth']} layers at gamma {values['gamma']:.3g} and rho {values['rho']:.2f}, raw weights of norm "
            f"{values['norm']:.1f} {weights} {data.cap:.2f}: q is {data.q:.2f}, the net {settles}, "
            f"{promise}. Certified norms {_listed(data.norms)}; rms of the states from the input up "
            f"{_listed(data.sizes)}; feedback relative to feed-forward {_listed(data.shares)}."
        )


class _Residuals:
    """Residual of every sweep, on a log axis, and the line that is certified."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        axes.set(
            xlabel="sweep",
            yscale="log",
            ylim=(1e-8, 20),
            xlim=(0, SWEEPS),
            xticks=range(0, SWEEPS + 1, 10),
        )
        decades(axes.yaxis, -8, 0, 2)
        axes.axhline(SETTLED, color=NEUTRAL, linewidth=0.8, linestyle=":")
        self.measured = line(axes, "-", color=PALETTE[0], linewidth=2.4)
        self.certified = line(axes, "--", color=PALETTE[1])
        self.settled = line(axes, "o", color=PALETTE[0], markersize=8)
        self.promise = axes.text(0.98, 0.98, "", ha="right", va="top", transform=axes.transAxes)

    def show(self, data: Setting) -> None:
        sweeps = np.arange(1, SWEEPS + 1)
        self.measured.set_data(sweeps, np.maximum(data.residuals, FLOOR))
        promised = data.residuals[_ANCHOR - 1] * data.q ** (2.0 * (sweeps - _ANCHOR))
        shown = slice(_ANCHOR - 1, None) if data.q < 1 else slice(0)
        self.certified.set_data(sweeps[shown], promised[shown])
        place = slice(0) if data.steps is None else slice(data.steps - 1, data.steps)
        self.settled.set_data(sweeps[place], data.residuals[place])
        certain = f"dashed: certified, factor {data.q**2:.2g} a sweep"
        self.promise.set_text(certain if data.q < 1 else "nothing is certified")
        settles = f"settled in {data.steps} sweeps" if data.steps is not None else "not settled"
        titled(self.axes, f"Residual: {settles}")


class _Layers:
    """Size of the states and share of the feedback, layer by layer, on a log axis."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        axes.set(xlabel="layer", yscale="log", ylim=_SHOWN)
        decades(axes.yaxis, -3, 1)
        titled(axes, "● rms of states  ■ feedback share")
        axes.grid(False, axis="x")
        axes.axhline(1.0, color=NEUTRAL, linewidth=0.8, linestyle=":")
        self.sizes = line(axes, "-", marker="o", markersize=8, color=PALETTE[0])
        self.shares = line(axes, "--", marker="s", markersize=7, color=PALETTE[2])

    def show(self, data: Setting) -> None:
        layers = np.arange(1, len(data.sizes) + 1)
        if self.axes.get_xlim()[1] != len(layers) + 0.4:
            self.axes.set(xticks=layers, xlim=(0.6, len(layers) + 0.4))
        self.sizes.set_data(layers, np.clip(data.sizes, *_SHOWN))
        self.shares.set_data(layers[:-1], np.clip(data.shares, *_SHOWN))


class _Norms:
    """A bar for the certified norm of every inner layer, and the cap as a line with its name beside
    the bars.
    """

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        axes.grid(False)
        axes.locator_params(axis="y", nbins=4)
        self.bars = axes.bar(range(2, DEEPEST + 1), 1.0, width=0.6, color=PALETTE[0])
        self.cap = axes.axhline(0.0, color=PALETTE[1], linestyle="--")
        self.name = axes.text(0.0, 0.0, "", ha="right", va="bottom")

    def show(self, data: Setting) -> None:
        numbers = np.arange(2, len(data.norms) + 2)
        # Room beside the bars, so that the word never lies on one.
        left, right = 1.5, 1.5 + len(data.norms) / 0.76
        if self.axes.get_xlim()[1] != right:
            self.axes.set_xlim(left, right)
            self.axes.set_xticks(numbers, [f"W{number}" for number in numbers])
        for place, bar in enumerate(self.bars):
            bar.set_visible(place < len(data.norms))
            bar.set_height(data.norms[place] if place < len(data.norms) else 0.0)
        self.cap.set_ydata([data.cap, data.cap])
        self.name.set_position((right, data.cap))
        self.name.set_text(f"cap {data.cap:.2f}" if data.bounded else "cap (off)")
        limit(self.axes, y=(0.0, round_limits([0.0, 1.2 * max(data.cap, data.norms.max())])[1]))
        titled(self.axes, f"Certified norms: q = {data.q:.2f}")


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(f"{number:.2g}" for number in numbers)

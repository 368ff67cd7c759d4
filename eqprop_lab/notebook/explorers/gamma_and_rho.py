"""Explorer: what feedback gain gamma and bound rho do to a convolutional network of random weights.

    cap = rho / (2 cos(pi/(L+1)) sqrt(gamma))
    q   = sqrt(gamma) lambda_max(path matrix of ||W_2||, ..., ||W_L||)
    share of the feedback in layer l:    ||gamma W_(l+1)^T s_(l+1)|| / ||W_l s_(l-1) + b_l||

The random weights are the same for every setting and only scaled: what changes in the picture is
gamma and rho.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from eqprop_lab.equilibrium.relaxation import SETTLED, movement, relax
from eqprop_lab.equilibrium.state import State
from eqprop_lab.instruments.probes import measured_rate
from eqprop_lab.models.conv import ConvEqProp
from eqprop_lab.notebook.controls import Slider, Toggle
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import digits, first_true
from eqprop_lab.notebook.moving_axes import (
    REFERENCE,
    Show,
    decades,
    limit,
    line,
    panels,
    round_limits,
    titled,
)
from eqprop_lab.notebook.style import PALETTE

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
    shape: dict[str, Any] = {"image_size": 8, "strides": strides}
    model = ConvEqProp(1, channels, 10, gamma, rho, bounded, seed=0, **shape).double()
    layer: Any
    with torch.no_grad():
        for layer in model.layers[1:]:
            # Read through the bound, which has then seen the old weight and follows the new one.
            weight = layer.weight
            scaled = weight * (norm / layer.linear.norm_bound(weight))
            layer.parametrizations["weight"].original.copy_(scaled)
    return model


@torch.no_grad()
def feedback_shares(model: ConvEqProp, x: Tensor, state: State) -> list[float]:
    """||gamma W_(l+1)^T s_(l+1)|| / ||W_l s_(l-1) + b_l|| over the batch, layers 1, ..., L-1."""
    drive = model.drive(x)
    total = model.force(state, drive)
    shares = []
    for block in range(len(state) - 1):
        # Without the layers above, what is left of the force comes from below.
        alone = tuple(s if l <= block else torch.zeros_like(s) for l, s in enumerate(state))  # noqa: E741
        below = model.force(alone, drive)[block]
        shares.append(float((total[block] - below).norm() / below.norm()))
    return shares


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
    residuals = torch.stack([movement(new, old)[0].max() for old, new in pairwise(path)])
    last = first_true(residuals <= SETTLED)
    return Setting(
        residuals=residuals.numpy(),
        steps=None if last is None else last + 1,
        rate=math.nan if last is None else float(measured_rate(residuals[:, None], high=0.3)),
        sizes=np.array([float(block.square().mean().sqrt()) for block in path[-1]]),
        norms=np.array(model.layer_norms()),
        cap=model.cap,
        bounded=model.use_spectral_norm,
        q=model.contraction_bound(),
        shares=np.array(feedback_shares(model, x, path[-1])),
    )


class GammaAndRho(Explorer):
    """Random weights, a few digits: from a Hopfield network (gamma 1) to almost no feedback."""

    title = "Gamma and rho: feedback, size of the states, certificate"
    size = (7.6, 4.4)
    controls = (
        Slider("gamma", 0.01, 1.0, 0.1, 0.1, "Gain of the feedback gamma", log=True),
        Slider("rho", 0.3, 0.99, 0.9, 0.01, "Bound of the contraction rho"),
        Slider("depth", 2, DEEPEST, 3, 1, "Layers L"),
        Slider("norm", 0.5, 8.0, 5.0, 0.5, "Norm of the raw weights"),
        Toggle("use_spectral_norm", True, "Keep the weights below the cap"),
    )

    def compute(
        self, gamma: float, rho: float, depth: int, norm: float, use_spectral_norm: bool
    ) -> Setting:
        images = digits(DIGITS)[0].unflatten(1, (1, 8, 8))
        return measure(random_network(gamma, rho, depth, use_spectral_norm, norm), images)

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.6, 0.15, 0.55, 0.3)
        spaces = {"wspace": 0.2, "hspace": 0.62}
        left, top, bottom = panels(figure, "AB;AC", inches, width_ratios=(1.25, 1.0), **spaces)
        return [_residuals(left), _layers(top), _norms(bottom)]

    def describe(self, data: Setting, **values: Any) -> str:
        settles = f"does not settle to {SETTLED:.0e} in {SWEEPS} sweeps "
        settles += f"(residual {data.residuals[-1]:.1e})"
        if data.steps is not None:
            observed = f"observed factor {data.rate:.2g} a sweep"
            rate = "too fast for a rate" if math.isnan(data.rate) else observed
            settles = f"settles to {SETTLED:.0e} in {data.steps} sweeps, {rate}"
        promise = f"certified {data.q**2:.2g}" if data.q < 1 else "nothing is certified"
        weights = "kept below the cap" if data.bounded else "not bounded, the cap would be"
        return (
            f"{values['depth']} layers at gamma {values['gamma']:.3g} and rho {values['rho']:.2f}, "
            f"raw weights of norm {values['norm']:.1f} {weights} {data.cap:.2f}: q is "
            f"{data.q:.2f}, the net {settles}, {promise}. Certified norms {_listed(data.norms)}; "
            f"rms of the states from the input up {_listed(data.sizes)}; feedback relative to "
            f"feed-forward {_listed(data.shares)}."
        )


def _residuals(axes: Axes) -> Show:
    """Residual of every sweep, on a log axis, and the line that is certified."""
    axes.set(xlabel="sweep", xlim=(0, SWEEPS), xticks=range(0, SWEEPS + 1, 10))
    axes.set(yscale="log", ylim=(1e-8, 20))
    decades(axes.yaxis, -8, 0, 2)
    axes.axhline(SETTLED, **REFERENCE)
    measured = line(axes, "-", color=PALETTE[0], linewidth=2.4)
    certified = line(axes, "--", color=PALETTE[1])
    settled = line(axes, "o", color=PALETTE[0], markersize=8)
    promise = axes.text(0.98, 0.98, "", ha="right", va="top", transform=axes.transAxes)

    def show(data: Setting) -> None:
        sweeps = np.arange(1, SWEEPS + 1)
        measured.set_data(sweeps, np.maximum(data.residuals, FLOOR))
        promised = data.residuals[_ANCHOR - 1] * data.q ** (2.0 * (sweeps - _ANCHOR))
        shown = slice(_ANCHOR - 1, None) if data.q < 1 else slice(0)
        certified.set_data(sweeps[shown], promised[shown])
        place = slice(0) if data.steps is None else slice(data.steps - 1, data.steps)
        settled.set_data(sweeps[place], data.residuals[place])
        certain = f"dashed: certified, factor {data.q**2:.2g} a sweep"
        promise.set_text(certain if data.q < 1 else "nothing is certified")
        settles = f"settled in {data.steps} sweeps" if data.steps is not None else "not settled"
        titled(axes, f"Residual: {settles}")

    return show


def _layers(axes: Axes) -> Show:
    """Size of the states and share of the feedback, layer by layer, on a log axis."""
    axes.set(xlabel="layer", yscale="log", ylim=_SHOWN)
    decades(axes.yaxis, -3, 1)
    titled(axes, "● rms of states  ■ feedback share")
    axes.grid(False, axis="x")
    axes.axhline(1.0, **REFERENCE)
    sizes = line(axes, "-", marker="o", markersize=8, color=PALETTE[0])
    shares = line(axes, "--", marker="s", markersize=7, color=PALETTE[2])

    def show(data: Setting) -> None:
        layers = np.arange(1, len(data.sizes) + 1)
        if limit(axes, "xlim", (0.6, len(layers) + 0.4)):
            axes.set_xticks(layers)
        sizes.set_data(layers, np.clip(data.sizes, *_SHOWN))
        shares.set_data(layers[:-1], np.clip(data.shares, *_SHOWN))

    return show


def _norms(axes: Axes) -> Show:
    """A bar for the certified norm of every inner layer; the cap is a line with its name beside."""
    axes.grid(False)
    axes.locator_params(axis="y", nbins=4)
    bars = axes.bar(range(2, DEEPEST + 1), 1.0, width=0.6, color=PALETTE[0])
    cap = axes.axhline(0.0, color=PALETTE[1], linestyle="--")
    name = axes.text(0.0, 0.0, "", ha="right", va="bottom")

    def show(data: Setting) -> None:
        # Room beside the bars, so that the word never lies on one.
        right = 1.5 + len(data.norms) / 0.76
        if limit(axes, "xlim", (1.5, right)):
            numbers = range(2, len(data.norms) + 2)
            axes.set_xticks(numbers, [f"W{number}" for number in numbers])
        for bar, norm in zip_longest(bars, data.norms):
            bar.set_visible(norm is not None)
            bar.set_height(norm or 0.0)
        cap.set_ydata([data.cap, data.cap])
        name.set_position((right, data.cap))
        name.set_text(f"cap {data.cap:.2f}" if data.bounded else "cap (off)")
        limit(axes, "ylim", (0.0, round_limits([0.0, 1.2 * max(data.cap, data.norms.max())])[1]))
        titled(axes, f"Certified norms: q = {data.q:.2f}")

    return show


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(f"{number:.2g}" for number in numbers)

"""Explorer: what the feedback gain gamma and the bound rho do to a convolutional network with random weights.

    cap = rho / (2 cos(pi/(L+1)) sqrt(gamma)),    q = sqrt(gamma) lambda_max(path matrix of ||W_2||, ..., ||W_L||)
    share of the feedback in layer l:    ||gamma W_(l+1)^T s_(l+1)|| / ||W_l s_(l-1) + b_l||

The random weights are the same for every setting and only scaled, so what changes in the picture is gamma and rho.
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
from eqprop_lab.equilibrium.probes import measured_rate
from eqprop_lab.equilibrium.relaxation import SETTLED, movement, relax
from eqprop_lab.models.base import State
from eqprop_lab.models.conv import ConvEqProp
from eqprop_lab.notebook.controls import Control, Slider, Toggle
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

CHANNELS, DIGITS, SWEEPS = 8, 8, 30
FLOOR = 1e-9
_SHOWN = (3e-4, 30.0)  # range of the panel with states and feedback
_ANCHOR = 2  # the sweep from which on the certificate holds


def random_network(gamma: float, rho: float, depth: int, bounded: bool, norm: float) -> ConvEqProp:
    """An untrained ConvEqProp for 8x8 digits in float64, `depth` layers of CHANNELS x 4 x 4.

    The raw weights of the interior layers have the operator norm `norm`; `bounded` says whether the model may shrink
    them below its cap. Apart from this scale they are the same for every setting of the same depth.
    """
    channels, strides = [CHANNELS] * depth, [2] + [1] * (depth - 1)
    model = ConvEqProp(1, channels, 10, gamma, rho, bounded, seed=0, image_size=8, strides=strides).double()
    with torch.no_grad():
        for layer in model.layers[1:]:
            # Read through the bound, which has then seen the old weight and follows the new one.
            weight: Tensor = layer.weight  # type: ignore[assignment]
            layer.parametrizations["weight"].original.copy_(weight * (norm / layer.linear.norm_bound(weight)))  # type: ignore[operator, index, union-attr]
    return model


@torch.no_grad()
def feedback_shares(model: ConvEqProp, x: Tensor, state: State) -> list[float]:
    """||gamma W_(l+1)^T s_(l+1)|| / ||W_l s_(l-1) + b_l|| over the batch, for the layers 1, ..., L-1."""
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

    residuals (SWEEPS,); steps: sweeps to a residual of 1e-4, None if not in SWEEPS; rate: factor a sweep, NaN where it
    does not settle; sizes (L,), rms of the states; norms (L - 1,), certified; cap; bounded; q; shares (L - 1,).
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
    residuals = torch.stack([movement(new, old)[0].max() for old, new in zip(path, path[1:], strict=False)])
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
    """Random weights, a few digits: from a Hopfield network (gamma 1) to a nearly feed-forward one, beyond the cap."""

    title = "Gamma and rho: feedback, size of the states, certificate"
    size: ClassVar[tuple[float, float]] = (7.6, 4.4)
    controls: ClassVar[Sequence[Control]] = (
        Slider("gamma", 0.01, 1.0, 0.1, 0.1, "Gain of the feedback gamma", log=True),
        Slider("rho", 0.3, 0.99, 0.9, 0.01, "Bound of the contraction rho"),
        Slider("depth", 2, 4, 3, 1, "Layers L"),
        Slider("norm", 0.5, 8.0, 5.0, 0.5, "Norm of the raw weights"),
        Toggle("use_spectral_norm", True, "Keep the weights below the cap"),
    )

    def compute(self, **values: Any) -> Setting:
        """Relax the network of this setting on the digits."""
        bounded = values["use_spectral_norm"]
        model = random_network(values["gamma"], values["rho"], values["depth"], bounded, values["norm"])
        return measure(model, digits())

    def draw(self, figure: Figure, data: Setting) -> None:
        """Left the residual, right the size of the states and the share of the feedback, and norms below their cap."""
        grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1.0))
        _draw_residuals(figure.add_subplot(grid[:, 0]), data)
        _draw_layers(figure.add_subplot(grid[0, 1]), data)
        _draw_norms(figure.add_subplot(grid[1, 1]), data)

    def describe(self, data: Setting, **values: Any) -> str:
        """Does it settle, how fast for certain and in fact, what is left of the signal on top."""
        settles = f"does not settle to {SETTLED:.0e} in {SWEEPS} sweeps (residual {data.residuals[-1]:.1e})"
        if data.steps is not None:
            rate = "too fast for a rate" if math.isnan(data.rate) else f"observed factor {data.rate:.2g} a sweep"
            settles = f"settles to {SETTLED:.0e} in {data.steps} sweeps, {rate}"
        promise = f"certified {data.q**2:.2g}" if data.q < 1 else "nothing is certified"
        weights = "kept below the cap" if data.bounded else "not bounded, the cap would be"
        return (
            f"{values['depth']} layers at gamma {values['gamma']:.3g} and rho {values['rho']:.2f}, raw weights of norm "
            f"{values['norm']:.1f} {weights} {data.cap:.2f}: q is {data.q:.2f}, the net {settles}, "
            f"{promise}. Certified norms {_listed(data.norms)}; rms of the states from the input up "
            f"{_listed(data.sizes)}; feedback relative to feed-forward {_listed(data.shares)}."
        )


def _draw_layers(axes: Axes, data: Setting) -> None:
    layers = np.arange(1, len(data.sizes) + 1)
    axes.axhline(1.0, color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.plot(layers, np.clip(data.sizes, *_SHOWN), "-", marker="o", markersize=8, color=PALETTE[0])
    axes.plot(layers[:-1], np.clip(data.shares, *_SHOWN), "--", marker="s", markersize=7, color=PALETTE[2])
    axes.set(title="● rms of states  ■ feedback share", xlabel="layer", xticks=layers, xlim=(0.6, len(layers) + 0.4))
    axes.set(yscale="log", ylim=_SHOWN)
    axes.set_yticks([1e-3, 1e-2, 1e-1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
    axes.minorticks_off()
    axes.grid(False, axis="x")


def _draw_norms(axes: Axes, data: Setting) -> None:
    numbers = np.arange(2, len(data.norms) + 2)
    axes.bar(numbers, data.norms, width=0.6, color=PALETTE[0])
    axes.axhline(data.cap, color=PALETTE[1], linestyle="--")
    # Room beside the bars, so that the word never lies on one.
    left, right = 1.5, 1.5 + len(data.norms) / 0.76
    axes.text(right, data.cap, f"cap {data.cap:.2f}" if data.bounded else "cap (off)", ha="right", va="bottom")
    axes.set(title=f"Certified norms: q = {data.q:.2f}", xlim=(left, right))
    axes.set(ylim=(0, 1.25 * max(data.cap, data.norms.max())))
    axes.set_xticks(numbers, [f"W{number}" for number in numbers])
    axes.locator_params(axis="y", nbins=4)
    axes.grid(False)


def _draw_residuals(axes: Axes, data: Setting) -> None:
    sweeps = np.arange(1, SWEEPS + 1)
    axes.axhline(SETTLED, color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.plot(sweeps, np.maximum(data.residuals, FLOOR), "-", color=PALETTE[0], linewidth=2.4)
    if data.q < 1:
        line = data.residuals[_ANCHOR - 1] * data.q ** (2.0 * (sweeps - _ANCHOR))
        axes.plot(sweeps[_ANCHOR - 1 :], line[_ANCHOR - 1 :], "--", color=PALETTE[1])
    if data.steps is not None:
        axes.plot(data.steps, data.residuals[data.steps - 1], "o", color=PALETTE[0], markersize=8)
    verdict = f"settled in {data.steps} sweeps" if data.steps is not None else "not settled"
    axes.set(title=f"Residual: {verdict}", xlabel="sweep", yscale="log", ylim=(1e-8, 20), xlim=(0, SWEEPS))
    axes.set(xticks=range(0, SWEEPS + 1, 10))
    axes.set_yticks([1e-8, 1e-6, 1e-4, 1e-2, 1], ["1e-8", "1e-6", "1e-4", "0.01", "1"])
    axes.minorticks_off()
    promise = f"dashed: certified, factor {data.q**2:.2g} a sweep" if data.q < 1 else "nothing is certified"
    axes.text(0.98, 0.98, promise, ha="right", va="top", transform=axes.transAxes)


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(f"{number:.2g}" for number in numbers)

"""Explorer: what few bits do to a settled state, in its weights or in itself.

    weights   F_b: rounded weights, another fixed point, reached as smoothly as the first
    state     s <- round_b(F(s)): the step lands on a grid, where nothing moves any more

A relative residual says how far the last step went. It knows nothing of the distance to the fixed
point of the exact weights.
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
from numpy.typing import NDArray
from torch import Tensor

from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.contract import holding
from eqprop_lab.equilibrium.relaxation import movement, relax
from eqprop_lab.equilibrium.state import State
from eqprop_lab.experiments.trained import load_trained
from eqprop_lab.models.conv import ConvEqProp
from eqprop_lab.notebook.controls import Choice, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import relative_error
from eqprop_lab.notebook.moving_axes import Show, decades, line, panels, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

BITS = tuple(range(2, 13))
KINDS = ("weights", "state")
STEPS, IMAGES = 20, 5
FLOOR = 1e-8  # a residual of exactly 0 is drawn here


def rounded_to(value: Tensor, bits: int, largest: float | None = None) -> Tensor:
    """The nearest of 2^bits - 1 values at equal distances from -largest to largest (default: the
    largest there is).
    """
    levels = 2 ** (bits - 1) - 1
    scale = (float(value.abs().max()) if largest is None else largest) / levels
    return (value / scale).round() * scale


@lru_cache(maxsize=1)
def network() -> tuple[ConvEqProp, Tensor]:
    """The shipped ConvEqProp, and the images that are shown."""
    return load_trained("digits_conv"), build_dataset("digits").test.x[:IMAGES]


@torch.no_grad()
def relaxation(x: Tensor, bits: int | None, kind: str) -> tuple[State, list[float]]:
    """The state after STEPS steps, and the residual of each. bits: None for all of them."""
    model, _ = network()
    weights = model.effective_weights()
    if bits is not None and kind == "weights":
        weights = {name: rounded_to(weight, bits) for name, weight in weights.items()}
    residuals = []
    with holding(model, lambda: weights):
        drive = model.drive(x)
        state = model.initial_state(drive)
        for _ in range(STEPS):
            new = model.step(state, drive)
            if bits is not None and kind == "state":
                new = tuple(rounded_to(block, bits, 1.0) for block in new)
            residuals.append(float(movement(new, state)[0].max()))
            state = new
    return state, residuals


@lru_cache(maxsize=1)
def exact() -> State:
    """Where the images settle with all bits."""
    model, images = network()
    return relax(model, images, 100, 1e-6).state


@lru_cache(maxsize=1)
def curves() -> dict[str, list[float]]:
    """Distance to the exact fixed point for every number of bits, by kind."""
    _, images = network()
    return {
        kind: [relative_error(relaxation(images, bits, kind)[0], exact()) for bits in BITS]
        for kind in KINDS
    }


@dataclass(frozen=True)
class Rounded:
    """residuals, plain (STEPS,): with few bits and with all; logits, sound (10,); distance of the
    states, relative.
    """

    bits: int
    kind: str
    residuals: NDArray[np.float64]
    plain: NDArray[np.float64]
    logits: NDArray[np.float64]
    sound: NDArray[np.float64]
    distance: float


@lru_cache(maxsize=256)
def look(image: int, bits: int | None, kind: str) -> tuple[State, NDArray[np.float64], Any]:
    """State, residuals and logits of one image."""
    model, images = network()
    state, residuals = relaxation(images[image : image + 1], bits, kind)
    with torch.no_grad():
        return state, np.array(residuals), model.readout(state)[0].cpu().double().numpy()


class BitsOfAState(Explorer):
    """Few bits in the weights or in the state of the shipped ConvEqProp."""

    title = "Bits of a settled state"
    size = (7.4, 3.0)
    controls = (
        Slider("bits", BITS[0], BITS[-1], 6, 1, "Bits"),
        Choice("kind", KINDS, KINDS[0], "Few bits in"),
        Slider("image", 0, IMAGES - 1, 0, 1, "Test image"),
    )

    def compute(self, bits: int, kind: str, image: int) -> Rounded:
        state, residuals, logits = look(image, bits, kind)
        plain, sound_residuals, sound = look(image, None, KINDS[0])
        distance = relative_error(state, plain)
        return Rounded(bits, kind, residuals, sound_residuals, logits, sound, distance)

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.6, 0.15, 0.55, 0.3)
        axes = panels(figure, "ABC", inches, wspace=0.42)
        return [_residuals(axes[0]), _distances(axes[1]), _logits(axes[2])]

    def describe(self, data: Rounded, **values: Any) -> str:
        last = data.residuals[-1]
        still = "exactly 0" if last == 0 else f"{last:.0e}"
        same = "the same" if data.logits.argmax() == data.sound.argmax() else "another"
        return (
            f"{data.bits} bits in the {data.kind}: after {STEPS} steps the residual is {still}, "
            f"and the state is {data.distance:.1%} away from that of all bits. The class is {same}."
        )


def _residuals(axes: Axes) -> Show:
    axes.set(yscale="log", xlim=(0.5, STEPS + 0.5), ylim=(0.5 * FLOOR, 3), xlabel="step")
    axes.set_ylabel("residual", labelpad=1)
    decades(axes.yaxis, -8, 0, 2)
    plain = line(axes, "--", color=NEUTRAL)
    few = line(axes, ".-", color=PALETTE[1])
    steps = np.arange(1, STEPS + 1)

    def show(data: Rounded) -> None:
        titled(axes, "Residual: it settles")
        plain.set_data(steps, np.maximum(data.plain, FLOOR))
        few.set_data(steps, np.maximum(data.residuals, FLOOR))

    return show


def _distances(axes: Axes) -> Show:
    axes.set(yscale="log", xlim=(1.5, 12.5), ylim=(1e-4, 1.5), xlabel="bits", xticks=BITS[::2])
    axes.set_ylabel("distance", labelpad=1)
    decades(axes.yaxis, -4, 0)
    for number, (kind, found) in enumerate(curves().items()):
        style = ("o-", "s-.")[number]
        axes.plot(BITS, found, style, color=PALETTE[number], label=kind, markersize=4)
    axes.legend(loc="lower left", fontsize=8)
    point = line(axes, "D", color=PALETTE[1], markersize=11, fillstyle="none")

    def show(data: Rounded) -> None:
        titled(axes, f"Distance: {data.distance:.1%}")
        point.set_data([data.bits], [max(data.distance, 1e-4)])

    return show


def _logits(axes: Axes) -> Show:
    axes.set(xlim=(-0.6, 9.6), ylim=(-9, 15), xlabel="class", xticks=range(10))
    axes.set_ylabel("logit", labelpad=1)
    bars = axes.bar(range(10), [0] * 10, color=PALETTE[0], width=0.7)
    marks = line(axes, "_", color=NEUTRAL, markersize=9, markeredgewidth=2)

    def show(data: Rounded) -> None:
        titled(axes, f"Its answer: {data.logits.argmax()}")
        for bar, height in zip(bars, data.logits, strict=True):
            bar.set_height(height)
        marks.set_data(range(10), data.sound)

    return show

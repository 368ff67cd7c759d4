"""Explorer: a LUT network whose tables hold wrong bits: what it answers, and how often it is right.

Every entry has a number between 0 and 1 of its own, and is turned where the rate is above it: at a
higher rate the faults of a lower one are there still.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eqprop_lab.datasets import build_dataset
from eqprop_lab.lut import SimpleFeedForward, build_model
from eqprop_lab.lut.packed import PackedLayer, PackedNetwork
from eqprop_lab.notebook.controls import Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

RATES = tuple(10.0 ** (part / 4) for part in range(-12, -1)) + (0.5,)
DRAWS = 4  # of faults


class Chip:
    """The shipped digits network in words, with numbers between 0 and 1 for all its entries."""

    def __init__(self) -> None:
        model = build_model("digits_small")
        assert isinstance(model, SimpleFeedForward)
        test = build_dataset("digits").test
        self.images, self.labels = test.x[:, 0].numpy(), test.y.numpy()
        self.network, self.tables = PackedNetwork(model), model.truth_tables()

    @lru_cache(maxsize=DRAWS)  # noqa: B019 - there is one chip
    def numbers(self, draw: int) -> list[NDArray[np.float32]]:
        """At which rate every entry is turned."""
        generator = np.random.default_rng(draw)
        return [generator.random(table.shape, dtype=np.float32) for table in self.tables]

    def turned(self, draw: int, rate: float) -> int:
        """How many entries are wrong."""
        return sum(int((part < rate).sum()) for part in self.numbers(draw))

    def counts(self, draw: int, rate: float) -> NDArray[np.int64]:
        """What each class counts (N, 10) with the faults of a rate."""
        turned = (torch.from_numpy(part < rate) for part in self.numbers(draw))
        parts = zip(self.network.layers, self.tables, turned, strict=True)
        faulty = copy.copy(self.network)
        faulty.layers = [
            PackedLayer.of(torch.from_numpy(layer.index), table ^ wrong)
            for layer, table, wrong in parts
        ]
        return faulty.counts(self.images)

    def accuracy(self, counts: NDArray[np.int64]) -> float:
        """The part of the images whose label is counted most."""
        return float((counts.argmax(1) == self.labels).mean())


@lru_cache(maxsize=1)
def chip() -> Chip:
    """The one chip."""
    return Chip()


@lru_cache(maxsize=1)
def curve() -> tuple[float, ...]:
    """Mean accuracy over the draws, at every rate of RATES."""
    one = chip()
    return tuple(
        float(np.mean([one.accuracy(one.counts(draw, rate)) for draw in range(DRAWS)]))
        for rate in RATES
    )


@dataclass(frozen=True)
class Faulty:
    """counts, sound (10,): of one image, with the faults and without; accuracy over all images."""

    rate: float
    turned: int
    accuracy: float
    image: NDArray[np.float32]
    label: int
    counts: NDArray[np.int64]
    sound: NDArray[np.int64]


class TableFaults(Explorer):
    """Wrong bits in the tables of the shipped digits network."""

    title = "Wrong bits in the tables"
    size = (7.4, 3.2)
    controls = (
        Slider("rate", 0.001, 0.5, 0.01, 0.1, "Part of the entries that are wrong", log=True),
        Slider("draw", 0, DRAWS - 1, 0, 1, "Which entries: draw"),
        Slider("image", 0, 359, 0, 1, "Test image"),
    )

    def compute(self, rate: float, draw: int, image: int) -> Faulty:
        one = chip()
        counts = one.counts(draw, rate)
        return Faulty(
            rate,
            one.turned(draw, rate),
            one.accuracy(counts),
            one.images[image],
            int(one.labels[image]),
            counts[image],
            _sound()[image],
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.6, 0.15, 0.55, 0.3)
        axes = panels(figure, "ABC", inches, width_ratios=(1.3, 0.6, 1.1), wspace=0.42)
        return [_accuracies(axes[0]), _picture(axes[1]), _votes(axes[2])]

    def describe(self, data: Faulty, **values: Any) -> str:
        return (
            f"With {data.turned} wrong entries, {data.rate:.2%} of all, {data.accuracy:.1%} of the "
            f"test images are right. Image {values['image']}, a {data.label}: counted most is "
            f"{data.counts.argmax()}, without faults {data.sound.argmax()}; ahead of the next by "
            f"{_ahead(data.counts)} outputs, without faults by {_ahead(data.sound)}."
        )


@lru_cache(maxsize=1)
def _sound() -> NDArray[np.int64]:
    return chip().counts(0, 0.0)


def _ahead(counts: NDArray[np.int64]) -> int:
    second, first = np.sort(counts)[-2:]
    return int(first - second)


def _accuracies(axes: Axes) -> Show:
    axes.set(xscale="log", xlim=(8e-4, 0.65), ylim=(0, 105), xlabel="part of entries wrong")
    axes.set_ylabel("right [%]", labelpad=1)
    decades(axes.xaxis, -3, -1)
    axes.axhline(10, **REFERENCE)
    axes.plot(RATES, [100 * part for part in curve()], color=PALETTE[0], marker=".")
    point = line(axes, "o", color=PALETTE[1], markersize=9, clip_on=False)

    def show(data: Faulty) -> None:
        titled(axes, f"All images: {data.accuracy:.1%}")
        point.set_data([data.rate], [100 * data.accuracy])

    return show


def _picture(axes: Axes) -> Show:
    axes.set(xticks=[], yticks=[])
    drawn = axes.imshow(np.zeros((8, 8)), cmap="gray", vmin=0, vmax=1)

    def show(data: Faulty) -> None:
        titled(axes, f"A {data.label}")
        drawn.set_data(data.image)

    return show


def _votes(axes: Axes) -> Show:
    largest = int(max(len(chip().tables[-1]) / 10, 1))
    axes.set(xlim=(-0.6, 9.6), ylim=(0, largest), xlabel="class", xticks=range(10))
    axes.set_ylabel("outputs that are 1", labelpad=1)
    bars = axes.bar(range(10), [0] * 10, color=PALETTE[0], width=0.7)
    marks = line(axes, "_", color=NEUTRAL, markersize=9, markeredgewidth=2)

    def show(data: Faulty) -> None:
        titled(axes, f"Its answer: {data.counts.argmax()}")
        for bar, height in zip(bars, data.counts, strict=True):
            bar.set_height(height)
            bar.set_color(PALETTE[1] if height == data.counts.max() else PALETTE[0])
        marks.set_data(range(10), data.sound)

    return show

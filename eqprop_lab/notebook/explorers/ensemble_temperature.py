"""Explorer: how many members answer together, and at which temperature: NLL and calibration.

Each member's logits are divided by T, then the probabilities are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from eqprop_lab.instruments.calibration import Calibration, calibration
from eqprop_lab.notebook.controls import Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import (
    REFERENCE,
    Show,
    limit,
    line,
    panels,
    round_limits,
    titled,
)
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

BINS = 15  # as `calibration` has it, so that both name the same ECE


@dataclass(frozen=True)
class Together:
    """alone (M,): NLL of every member; growing (M,): of the first 1, 2, ... together; judged: the
    chosen number of them.
    """

    members: int
    alone: NDArray[np.float64]
    growing: NDArray[np.float64]
    judged: Calibration


class EnsembleTemperature(Explorer):
    """Choose how many members answer together and the temperature of their answers.

    Args:
        logits: (members, N, classes), two members or more, of samples that none was trained on.
        labels: (N,) classes. **values: start values of the controls members, temperature.
    Raises: TypeError, ValueError naming the argument.
    """

    title = "Together, and how sure"
    size = (7.4, 3.0)

    def __init__(self, logits: Tensor, labels: Tensor, **values: Any) -> None:
        if logits.ndim != 3 or len(logits) < 2:
            raise ValueError(
                "logits must have the shape (members, N, classes) with two members or more, got "
                f"{tuple(logits.shape)}"
            )
        self.logits, self.labels = logits.detach().cpu().double(), labels.cpu()
        calibration(self.logits[0].softmax(1), self.labels)
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        most = len(self.logits)
        return (
            Slider("members", 1, most, most, 1, "Members that answer together"),
            Slider("temperature", 0.25, 4.0, 1.0, 0.05, "Temperature of each answer", log=True),
        )

    def compute(self, members: int, temperature: float) -> Together:
        p = (self.logits / temperature).softmax(2)
        number = torch.arange(1, len(p) + 1, dtype=p.dtype, device="cpu")
        means = p.cumsum(0) / number[:, None, None]
        return Together(
            members,
            np.array([calibration(one, self.labels).nll for one in p]),
            np.array([calibration(one, self.labels).nll for one in means]),
            calibration(means[members - 1], self.labels, BINS),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.72, 0.15, 0.5, 0.3)
        axes = panels(figure, "ABC", inches, width_ratios=(1.15, 1, 1), wspace=0.38)
        return [_growing(axes[0], len(self.logits)), _reliability(axes[1]), _claims(axes[2])]

    def describe(self, data: Together, **values: Any) -> str:
        told = data.judged
        return (
            f"{data.members} of {len(data.alone)} members at temperature "
            f"{values['temperature']:g}: NLL {data.growing[data.members - 1]:.3f}, the best of "
            f"all alone {data.alone.min():.3f}, their mean {data.alone.mean():.3f}. "
            f"{told.accuracy:.1%} right, {told.confidence:.1%} claimed, ECE {told.ece:.1%}."
        )


def _growing(axes: Axes, members: int) -> Show:
    axes.set(xlim=(0.6, members + 0.4), xlabel="members", xticks=range(1, members + 1))
    axes.set_ylabel("NLL [nats]", labelpad=1)
    alone = line(axes, "o", color=NEUTRAL, markersize=5, label="alone")
    growing = line(axes, color=PALETTE[0], label="together")
    point = line(axes, "o", color=PALETTE[1], markersize=9)
    axes.legend(loc="upper right", handlelength=1.2)

    def show(data: Together) -> None:
        titled(axes, f"Together: {data.growing[data.members - 1]:.3f}")
        number = np.arange(1, members + 1)
        limit(axes, "ylim", round_limits([*data.alone, *data.growing], 0.05))
        alone.set_data(number, data.alone)
        growing.set_data(number, data.growing)
        point.set_data([data.members], [data.growing[data.members - 1]])

    return show


def _reliability(axes: Axes) -> Show:
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="probability claimed", xticks=(0, 0.5, 1))
    axes.set_ylabel("share right", labelpad=1)
    axes.plot([0, 1], [0, 1], **REFERENCE)
    held = line(axes, "s-", color=PALETTE[0], markersize=5, clip_on=False)

    def show(data: Together) -> None:
        titled(axes, f"ECE {data.judged.ece:.1%}")
        there = data.judged.count > 0
        held.set_data(data.judged.claimed[there], data.judged.right[there])

    return show


def _claims(axes: Axes) -> Show:
    places = (np.arange(BINS) + 0.5) / BINS
    axes.set(xlim=(0, 1), ylim=(0, 103), xlabel="probability claimed", xticks=(0, 0.5, 1))
    axes.set_ylabel("samples [%]", labelpad=1)
    bars = axes.bar(places, np.zeros(BINS), width=0.9 / BINS, color=PALETTE[2])

    def show(data: Together) -> None:
        titled(axes, f"{data.judged.accuracy:.1%} right")
        shares = 100 * data.judged.count / data.judged.count.sum()
        for bar, share in zip(bars, shares.tolist(), strict=True):
            bar.set_height(share)

    return show

"""Explorer: what a LUT network loses when its tables become bits, layer by layer.

soft   every table as sigmoid(z / T)         hard   every table as z >= 0, whatever T is
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from eqprop_lab.lut.base_model import BaseLUTModel
from eqprop_lab.lut.hardening import hardened
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import MARKERS, PALETTE

TEMPERATURES = tuple(float(t) for t in np.logspace(-1, 1, 9))
BINS = 20
Trained = Mapping[tuple[str, float], BaseLUTModel]


@dataclass(frozen=True)
class Gap:
    """Accuracies. sweep: all layers soft, at every one of TEMPERATURES; soft: at T; hard: of truth
    tables; first (L + 1,): with the first 0, ..., L layers hard; alone (L,): one layer hard;
    entries (L, BINS): share of the entries p of each layer's tables, from 0 to 1.
    """

    temperature: float
    sweep: np.ndarray
    soft: float
    hard: float
    first: np.ndarray
    alone: np.ndarray
    entries: np.ndarray


class DiscretisationGap(Explorer):
    """Networks that differ in how they began and how fast they learned.

    Args:
        models: trained networks of equally many layers by (initialisation, learning rate), one for
            every pair. x, y: samples on which they are judged.
        **values: start values of start, rate and temperature.
    Raises: TypeError, ValueError naming what does not fit.
    """

    title = "The gap: what is lost when tables become bits"
    size = (7.8, 3.2)

    def __init__(self, models: Trained, x: Tensor, y: Tensor, **values: Any) -> None:
        self.models, self.x, self.y = _checked(models), x, y
        self._sweeps: dict[tuple[str, float], np.ndarray] = {}
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        starts, rates = (tuple(dict.fromkeys(keys)) for keys in zip(*self.models, strict=True))
        return (
            Choice("start", starts, starts[0], "Tables began as"),
            Choice("rate", rates, rates[0], "Learning rate"),
            Slider("temperature", 0.1, 10.0, 1.0, 0.1, "Temperature T, when it is read", log=True),
        )

    def accuracy(
        self, model: BaseLUTModel, hard: Collection[int], temperature: float | None = None
    ) -> float:
        """Part of the samples that are right with those layers hard."""
        with torch.no_grad(), hardened(model.eval(), hard, temperature):
            return float((model(self.x).argmax(1) == self.y).double().mean())

    def compute(self, start: str, rate: float, temperature: float) -> Gap:
        model = self.models[start, rate]
        layers = range(len(model.lut_layers()))
        if (start, rate) not in self._sweeps:
            found = [self.accuracy(model, (), t) for t in TEMPERATURES]
            self._sweeps[start, rate] = np.array(found)
        first = [self.accuracy(model, range(k), temperature) for k in (*layers, len(layers))]
        # The first layer alone is the first one hard already.
        alone = [first[1], *(self.accuracy(model, (k,), temperature) for k in layers[1:])]
        return Gap(
            temperature,
            self._sweeps[start, rate],
            first[0],
            first[-1],
            np.array(first),
            np.array(alone),
            _entries(model, temperature),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        layers = len(next(iter(self.models.values())).lut_layers())
        left, middle, right = panels(figure, "ABC", (0.6, 0.15, 0.95, 0.3), wspace=0.3)
        for axes in (left, middle):
            axes.set(ylim=(0, 1.02), yticks=(0, 0.25, 0.5, 0.75, 1))
        shows = [_against_temperature(left), _by_layers(middle, layers), _histogram(right, layers)]
        handles = [*left.get_legend_handles_labels()[0], *middle.lines[-1:], *right.lines]
        figure.legend(handles=handles, loc="lower center", ncols=len(handles))
        return shows

    def describe(self, data: Gap, **values: Any) -> str:
        costs = -np.diff(data.first)
        worst = int(costs.argmax())
        unclear = float(data.entries[:, BINS // 2 - 2 : BINS // 2 + 2].sum(1).mean())
        return (
            f"Tables that began as {values['start']}, trained at {values['rate']:g}, read at "
            f"temperature {data.temperature:.3g}: soft {data.soft:.1%}, hard {data.hard:.1%}. "
            f"Made hard from the first layer on, layer {worst + 1} costs most, "
            f"{100 * costs[worst]:.1f} points; {unclear:.0%} of the entries lie between 0.4 and "
            f"0.6."
        )


def _checked(models: object) -> dict[tuple[str, float], BaseLUTModel]:
    """One network of equally many layers for every pair of initialisation and learning rate."""
    if not isinstance(models, Mapping) or not models:
        raise TypeError("models must map (initialisation, learning rate) to trained networks")
    for key, model in models.items():
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError(f"a key of models must be (initialisation, learning rate), got {key!r}")
        if not isinstance(model, BaseLUTModel):
            raise TypeError(f"models[{key!r}] must be a BaseLUTModel, got {type(model).__name__}")
    starts, rates = (set(parts) for parts in zip(*models, strict=True))
    missing = {(start, rate) for start in starts for rate in rates} - set(models)
    if missing:
        raise ValueError(f"models must have every pair; {sorted(missing)[0]!r} is missing")
    counts = sorted({len(model.lut_layers()) for model in models.values()})
    if len(counts) > 1 or not counts[0]:
        raise ValueError(f"models must have equally many layers of LUTs, got {counts}")
    return dict(models)


@torch.no_grad()
def _entries(model: BaseLUTModel, temperature: float) -> np.ndarray:
    """Share of the entries of each layer's tables in every bin from 0 to 1, (L, BINS)."""
    tables = [layer.nodes.table(temperature).flatten() for layer in model.lut_layers()]
    counts = [torch.histc(table.float(), BINS, 0.0, 1.0) / table.numel() for table in tables]
    return torch.stack(counts).cpu().numpy()


def _against_temperature(axes: Axes) -> Show:
    """Soft and hard accuracy over T, and where T is."""
    axes.set(xscale="log", xlim=(0.09, 11), xlabel="temperature T")
    decades(axes.xaxis, -1, 1)
    titled(axes, "Accuracy")
    soft = line(axes, "-", color=PALETTE[0], label="soft")
    hard = line(axes, "--", color=PALETTE[1], label="hard")
    guide = axes.axvline(1.0, **REFERENCE)
    point = line(axes, "o", color=PALETTE[0], markersize=8, clip_on=False)

    def show(data: Gap) -> None:
        soft.set_data(TEMPERATURES, data.sweep)
        hard.set_data([0.09, 11], [data.hard] * 2)
        guide.set_xdata([data.temperature] * 2)
        point.set_data([data.temperature], [data.soft])

    return show


def _by_layers(axes: Axes, layers: int) -> Show:
    """Accuracy with the first 0, 1, ... layers hard, and with one hard alone."""
    names = ["none", "1", *(f"1-{k}" for k in range(2, layers + 1))]
    axes.set_xticks(range(layers + 1), labels=names)
    axes.set(xlim=(-0.3, layers + 0.3), xlabel="layers that are hard")
    look: dict[str, Any] = {"markersize": 8, "linewidth": 1.6}
    first = line(axes, "-o", color=PALETTE[2], **look)
    alone = line(axes, "D", color=PALETTE[3], markersize=6, label="one layer alone")

    def show(data: Gap) -> None:
        titled(axes, f"Soft {data.soft:.1%}, hard {data.hard:.1%}")
        first.set_data(range(layers + 1), data.first)
        alone.set_data(range(1, layers + 1), data.alone)

    return show


def _histogram(axes: Axes, layers: int) -> Show:
    """How the entries of each layer's tables lie between 0 and 1."""
    axes.set(xlim=(0, 1), ylim=(0, 0.55), xticks=(0, 0.5, 1), yticks=(0, 0.25, 0.5))
    axes.set_xlabel("entry p of a table")
    titled(axes, "Share of the entries")
    middles = (np.arange(BINS) + 0.5) / BINS
    curves = [
        line(axes, "-", color=PALETTE[(4 + k) % 7], marker=MARKERS[k % 7], label=f"layer {k + 1}")
        for k in range(layers)
    ]

    def show(data: Gap) -> None:
        for curve, shares in zip(curves, data.entries, strict=True):
            curve.set_data(middles, np.minimum(shares, 0.55))

    return show

"""Explorer: pick a network for images, see its size, cost and stored accuracy, and train it.

Three kinds pass once, one settles; depth and width mean for each what `build` says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from eqprop_lab.datasets import DataSet, build_dataset
from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.instruments.summary import summary
from eqprop_lab.models.conv import ConvEqProp
from eqprop_lab.models.vision.densenet import DenseNet3
from eqprop_lab.models.vision.resnet import ResNetCifar
from eqprop_lab.models.vision.small_cnn import SmallCNN
from eqprop_lab.notebook.architecture import draw_architecture
from eqprop_lab.notebook.background import TrainingWorker
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE
from eqprop_lab.notebook.working import WorkingExplorer
from eqprop_lab.tables import with_spread
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.validation import shown

KINDS = ("ResNet", "DenseNet", "SmallCNN", "ConvEqProp")
Pick = tuple[str, int, int]


@dataclass(frozen=True)
class Card:
    """What is known of a network before it is trained; flop: of one image."""

    model: nn.Module
    name: str
    parameters: int
    flop: float
    steps: int | None


@dataclass(frozen=True)
class Seen:
    """The present network, its training, and what was looked at and trained before it.

    curve: validation accuracy by epoch; stored: test accuracies, one a seed; epochs: of a training.
    """

    card: Card
    curve: list[float]
    stored: Sequence[float]
    cards: Sequence[Card]
    curves: Sequence[list[float]]
    epochs: int


class Playground(WorkingExplorer):
    """Train trains the network that is picked, in a thread; a training is kept and shown again.

    Args:
        stored: {(kind, depth, width): test accuracies between 0 and 1}, what longer runs gave.
        data: images; None: the digits. **values: start values of network, depth, width, epochs.
    Raises: ValueError naming the pick that no control can reach.
    """

    title = "Playground: a network, what it costs, what it learns"
    size = (7.6, 4.6)
    begin = "Train", "Train this network from new weights"
    end = "End the training after this batch"
    done = "Trained"

    def __init__(
        self,
        stored: Mapping[Pick, Sequence[float]] | None = None,
        data: DataSet | None = None,
        **values: Any,
    ) -> None:
        self.data_set = build_dataset("digits") if data is None else data
        self.stored = dict(stored or {})
        for pick in self.stored:
            kind, depth, width = pick
            if kind not in KINDS or not (1 <= depth <= 3 and 4 <= width <= 32 and width % 4 == 0):
                raise ValueError(f"stored has {shown(pick)}, which no control can reach")
        self.curves: dict[Pick, list[float]] = {}
        self.looked_at: dict[Pick, Card] = {}
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        return (
            Choice("network", KINDS, "ResNet", "Network"),
            Slider("depth", 1, 3, 1, 1, "Depth"),
            Slider("width", 4, 32, 16, 4, "Width"),
            Slider("epochs", 1, 12, 4, 1, "Epochs of a training"),
        )

    def build_network(self, network: str, depth: int, width: int) -> nn.Module:
        """The network that is picked, for the images of the explorer."""
        channels, side = self.data_set.input_shape[0], self.data_set.input_shape[1]
        return build(network, depth, width, channels, len(self.data_set.classes), side)

    def card(self, network: str, depth: int, width: int) -> Card:
        """What is known of a network; it is looked at once."""
        pick = (network, depth, width)
        if pick not in self.looked_at:
            model = self.build_network(*pick)
            found = summary(model, self.data_set.train.x[:1])
            name = name_of(*pick)
            self.looked_at[pick] = Card(model, name, found.parameters, found.flop, found.steps)
        return self.looked_at[pick]

    def work(self, worker: TrainingWorker, **values: Any) -> None:
        pick = (values["network"], values["depth"], values["width"])
        curve = self.curves[pick] = []
        model, name = self.build_network(*pick), name_of(*pick)
        settles = pick[0] == "ConvEqProp"
        gradient, rate = ("centered", 0.005) if settles else ("autograd", 0.01)
        trainer = EqPropTrainer(model, gradient, "adam", lr=rate, schedule="one_cycle")
        trainer.progress = False
        batches = self.data_set.train.batches(
            32, shuffle=True, seed=0, augment=Augmentation(shift=1)
        )
        held_out = self.data_set.validation.batches(256)
        watch = _Watch(self, worker, curve, f"{name}: epoch {{}} of {values['epochs']}")
        trainer.fit(batches, values["epochs"], val_loader=held_out, callbacks=[watch])

    def whose(self, **values: Any) -> str:
        return f": {name_of(values['network'], values['depth'], values['width'])}."

    def compute(self, network: str, depth: int, width: int, epochs: int) -> Seen:
        pick = (network, depth, width)
        card = self.card(*pick)
        others = [other for key, other in self.looked_at.items() if key != pick]
        curves = [curve for key, curve in self.curves.items() if key != pick and curve]
        return Seen(
            card,
            self.curves.get(pick, []),
            self.stored.get(pick, ()),
            others[-12:],
            curves[-6:],
            epochs,
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        above, left, right = panels(
            figure, "AA;BC", (0.75, 0.2, 0.65, 0.25), hspace=0.3, wspace=0.32,
            height_ratios=(1.25, 1.4),
        )  # fmt: skip
        return [self._drawing_of(above), _costs(left), _curves(right)]

    def _drawing_of(self, axes: Axes) -> Show:
        present: list[Card] = []

        def show(data: Seen) -> None:
            if present != [data.card]:
                for artist in [*axes.patches, *axes.texts, *axes.lines]:
                    artist.remove()
                classes = len(self.data_set.classes)
                draw_architecture(axes, data.card.model, self.data_set.train.x[:1], classes)
                titled(axes, data.card.name)
                present[:] = [data.card]

        return show

    def describe(self, data: Seen, **values: Any) -> str:
        card = data.card
        steps = "" if card.steps is None else f" in {card.steps} sweeps"
        said = f"{card.name}: {card.parameters:,} parameters, {card.flop:,.0f} FLOP an image{steps}"
        known = f" Stored: {_percent(data.stored)} of the test images." if data.stored else ""
        if not data.curve:
            return f"{said}; not trained here yet, Train takes {data.epochs} epochs.{known}"
        last = f"{data.curve[-1]:.1%} of the validation images after {len(data.curve)} epochs"
        kept = f"Other trainings kept: {len(data.curves)}; the next takes {data.epochs} epochs."
        return f"{said}; {last}.{known} {kept}"


@dataclass
class _Watch:
    """The trainer's callback: looks for Stop after every batch, shows every epoch."""

    explorer: Playground
    worker: TrainingWorker
    curve: list[float]
    text: str = ""

    def on_batch_end(self, trainer: Any, batch: int, batches: int | None) -> None:
        self.worker.checkpoint()

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        self.curve.append(float(record["val_accuracy"]))
        self.worker.message = self.text.format(len(self.curve))
        self.explorer.redraw()


def build(
    network: str, depth: int, width: int, channels: int, classes: int, side: int
) -> nn.Module:
    """ResNet: depth blocks a stage, width maps in the first. DenseNet: depth layers a block, width
    maps each. SmallCNN: depth stages, ConvEqProp: depth + 1 layers, width maps in the first and
    twice as many in each that follows.
    """
    if network == "ResNet":
        return ResNetCifar(6 * depth + 2, classes, channels, width, seed=0)
    if network == "DenseNet":
        return DenseNet3(6 * depth + 4, classes, width, in_channels=channels, seed=0)
    doubled = [width * 2**level for level in range(depth + 1)]
    if network == "SmallCNN":
        return SmallCNN(classes, channels, doubled[:depth], seed=0)
    return ConvEqProp(channels, doubled, classes, image_size=side, seed=0)


def name_of(network: str, depth: int, width: int) -> str:
    """As papers write it."""
    doubled = "-".join(str(width * 2**level) for level in range(depth + 1))
    names = {
        "ResNet": f"ResNet-{6 * depth + 2}, width {width}",
        "DenseNet": f"DenseNet3({6 * depth + 4}, k {width})",
        "SmallCNN": f"SmallCNN {doubled.rpartition('-')[0]}",
    }
    return names.get(network, f"ConvEqProp {doubled}")


def _percent(values: Sequence[float]) -> str:
    return f"{with_spread([100 * value for value in values], 1)} % ({len(values)} seeds)"


def _costs(axes: Axes) -> Show:
    axes.set(xscale="log", yscale="log", xlim=(5e1, 2e6), ylim=(2e3, 3e8))
    axes.set(xlabel="parameters", ylabel="FLOP of an image")
    decades(axes.xaxis, 2, 6)
    decades(axes.yaxis, 4, 8)
    others = line(axes, "o", color=NEUTRAL, markersize=4, alpha=0.6)
    this = line(axes, "o", color=PALETTE[1], markersize=9)

    def show(data: Seen) -> None:
        titled(axes, "What it costs")
        others.set_data([c.parameters for c in data.cards], [c.flop for c in data.cards])
        this.set_data([data.card.parameters], [data.card.flop])

    return show


def _curves(axes: Axes) -> Show:
    axes.set(xlim=(0.5, 12.5), ylim=(0, 1.03), xlabel="epoch", ylabel="validation accuracy")
    others = [line(axes, "-", color=NEUTRAL, linewidth=0.8) for _ in range(6)]
    this = line(axes, "o-", color=PALETTE[1], linewidth=2.0, markersize=4)
    end = axes.axvline(math.nan, color=NEUTRAL, linewidth=0.8, linestyle=":")  # of the next one
    known = axes.axhline(math.nan, **REFERENCE | {"color": PALETTE[2], "linewidth": 1.6})

    def show(data: Seen) -> None:
        titled(axes, "Trained here" + (", dotted: stored" if data.stored else ""))
        end.set_xdata([data.epochs] * 2)
        this.set_data(range(1, len(data.curve) + 1), data.curve)
        known.set_ydata([statistics.fmean(data.stored) if data.stored else math.nan] * 2)
        for number, grey in enumerate(others):
            curve = data.curves[number] if number < len(data.curves) else []
            grey.set_data(range(1, len(curve) + 1), curve)

    return show

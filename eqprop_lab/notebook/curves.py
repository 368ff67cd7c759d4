"""The cockpit's picture: accuracy, loss, residual, norm over the epochs, and its sentence."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eqprop_lab.notebook.style import DASHES, MARKERS, PALETTE, style_context

_MARKED_EPOCHS = 30
CURVES_SIZE = (7.0, 3.4)

Panels = list[list[Any]]
CURVES: Panels = [["accuracy", "residual"], ["accuracy", "norm"]]
CURVES_WITH_LOSS: Panels = [["accuracy", "loss"], ["residual", "norm"]]
_LONG_NAMES = {
    "train_accuracy": "training accuracy",
    "val_accuracy": "validation accuracy",
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "residual": "residual",
    "norm": "operator norm",
}


def draw_curves(
    figure: Figure,
    history: Mapping[str, Sequence[Any]],
    epochs: int,
    note: str,
    places: Panels = CURVES,
) -> None:
    """Draw the finished epochs, `note` below them; what is not reported stays an empty axis.

    places: of the panels "accuracy", "residual", "norm" and, if it is wanted, "loss".
    """
    figure.clear()
    # A long run starts on a short axis, else its first epochs are a single dot.
    done = len(history.get("epoch", ()))
    last = min(epochs, max(10, 2 ** math.ceil(math.log2(done + 1))))
    with style_context():
        panels = figure.subplot_mosaic(places, width_ratios=[1.25, 1.0])
        accuracy = panels["accuracy"]
        for name in ("accuracy", "loss"):
            if name in panels:
                _curve(panels[name], history, f"train_{name}", 0, "training")
                _curve(panels[name], history, f"val_{name}", 1, "validation")
        for axes in panels.values():
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        accuracy.set(title="Accuracy", xlabel="epoch", ylim=(0, 1.02), xlim=(0.5, last + 0.5))
        if accuracy.lines:
            accuracy.legend(loc="lower right")
        _curve(panels["residual"], history, "residual", 2, "residual")
        positive = [value for value in _numbers(history, "residual") if 0 < value < math.inf]
        if positive:
            panels["residual"].set_yscale("log")
            panels["residual"].minorticks_off()
            # Whole decades: between two powers of ten the axis would have no label at all.
            low = math.floor(math.log10(min(positive)))
            high = math.ceil(math.log10(max(positive)))
            panels["residual"].set_ylim(10.0**low, 10.0 ** max(high, low + 1))
        _curve(panels["norm"], history, "norm", 3, "operator norm")
        panels["residual"].set(title="Residual of the free phase", xlim=(0.5, last + 0.5))
        if "loss" in panels:
            panels["loss"].set(title="Loss", xlim=(0.5, last + 0.5))
            panels["residual"].set_xlabel("epoch")
        else:
            panels["residual"].tick_params(labelbottom=False)
        panels["norm"].set(title="Operator norm", xlabel="epoch", xlim=(0.5, last + 0.5))
        figure.supxlabel(textwrap.fill(note, 90), x=0.01, ha="left", size=10)


def curves_sentence(
    history: Mapping[str, Sequence[Any]], epochs: int, places: Panels = CURVES
) -> str:
    """What the picture shows, in one sentence."""
    done = len(history.get("epoch", ()))
    with_loss = any("loss" in row for row in places)
    if not done:
        names = "accuracy, loss, residual" if with_loss else "accuracy, residual"
        panels = f"{'Four' if with_loss else 'Three'} empty panels for {names} and operator norm"
        return f"{panels} over {epochs} epochs; no epoch is done yet."
    parts = [
        f"{name} {_numbers(history, key)[-1]:.3g}"
        for key, name in _LONG_NAMES.items()
        if key in history and math.isfinite(_numbers(history, key)[-1])
        if with_loss or not key.endswith("loss")
    ]
    return f"Curves after {done} of {epochs} epochs: {', '.join(parts) or 'nothing reported'}."


def _curve(
    axes: Any, history: Mapping[str, Sequence[Any]], key: str, colour: int, label: str
) -> None:
    """Epochs count from 1 on the page, whatever the trainer's first number is."""
    values = _numbers(history, key)
    if values:
        axes.plot(
            range(1, len(values) + 1),
            values,
            color=PALETTE[colour],
            marker=MARKERS[colour] if len(values) <= _MARKED_EPOCHS else None,
            linestyle=DASHES[colour],
            label=label,
        )


def _numbers(history: Mapping[str, Sequence[Any]], key: str) -> list[float]:
    """An epoch without this quantity is a gap in its curve."""
    return [math.nan if value is None else float(value) for value in history.get(key, ())]

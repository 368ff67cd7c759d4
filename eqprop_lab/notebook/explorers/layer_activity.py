"""Explorer: a browser of feature maps: image, layer, channel and sweep of a convolutional network.

Both phases are kept once per image and beta (`activity_film`), so that moving through layers,
channels and sweeps only draws. Input, feature map and strip share one axes without ticks: every
axes with ticks costs a tenth of the redraw.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from eqprop_lab.models.layered import LayeredModel
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.activity_film import (
    FREE_SWEEPS,
    STATE,
    SWEEPS,
    TINY,
    VIEWS,
    Activity,
    Film,
    by_strength,
    relax_phases,
    rms,
)
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import PALETTE, SIGNED, outlined

STRIP, BARS = 8, 10
"""Channels in the strip, classes in the bar chart."""

_KEPT, _BETA = 16, 0.3
_WIDTH = 5.1  # of the strip, in the units of the board, about inches
_HEAD: dict[str, Any] = {"va": "bottom", "fontsize": 11.5}


class LayerActivity(Explorer):
    """Look into a convolutional equilibrium network: one image, all layers, channels and sweeps.

    Args:
        model: a LayeredModel whose states are images (ConvEqProp). It is copied: training it
            further changes nothing here, a new explorer shows the new weights.
        images: (N, channels, height, width) as the model takes them. labels: (N,) class indices.
        classes: names of the classes, default their numbers.
        **values: start values of the controls image, layer, channel, sweep, beta, view.
    Raises: TypeError for a model without image states; TypeError or ValueError naming the argument.
    """

    title = "Layer activity: what the states look like"
    size = (7.6, 4.4)

    def __init__(
        self,
        model: LayeredModel,
        images: Tensor,
        labels: Tensor,
        classes: Sequence[str] | None = None,
        **values: Any,
    ) -> None:
        if not isinstance(model, LayeredModel) or not _has_image_states(model):
            raise TypeError(
                "model must be a layered one with image states (ConvEqProp), got "
                f"{type(model).__name__}"
            )
        model.check_batch(images)
        _check_labels(labels, len(images), model.output_dim)
        self.classes = [
            str(name) for name in (range(model.output_dim) if classes is None else classes)
        ]
        if len(self.classes) != model.output_dim:
            raise ValueError(
                f"classes holds {len(self.classes)} names; the model has {model.output_dim} classes"
            )
        self.model = deepcopy(model)
        self.images, self.labels = images.detach(), labels
        self.film = lru_cache(maxsize=_KEPT)(self._film)
        super().__init__(**values)

    def _film(self, image: int, beta: float) -> Film:
        one = slice(image, image + 1)
        return relax_phases(self.model, self.images[one], self.labels[one], beta)

    def make_controls(self) -> Sequence[Control]:
        first = self.film(0, _BETA).states
        widest = max(layer.shape[1] for layer in first)
        # The strongest channel says more than number 0, which may be silent.
        strongest = int(by_strength(first[0][FREE_SWEEPS])[0])
        return (
            *_indices("image", len(self.images), 0, "Number of the image"),
            Slider("layer", 1, len(first), 1, 1, "Layer, from the input up"),
            *_indices("channel", widest, strongest, "Channel"),
            Slider("sweep", 0, SWEEPS, FREE_SWEEPS, 1, f"Sweep (nudged after {FREE_SWEEPS})"),
            Slider("beta", 0.01, 3.0, _BETA, 0.1, "Nudging strength beta", log=True),
            Choice("view", VIEWS, STATE, "Colour shows"),
        )

    def compute(self, **values: Any) -> Activity:
        index, sweep = values.get("image", 0), values["sweep"]
        kept = self.film(index, values["beta"])
        states = kept.states[values["layer"] - 1]
        moved = states - states[FREE_SWEEPS]
        if values["view"] == STATE:
            shown, ranked, whole = states, states[FREE_SWEEPS], states
        else:
            # Each phase has a scale of its own: settling moves far more than a small nudge.
            shown, ranked = moved, moved[-1]
            whole = moved[:FREE_SWEEPS] if sweep <= FREE_SWEEPS else moved[FREE_SWEEPS:]
        return Activity(
            image=self.images[index].cpu().double().numpy(),
            label=int(self.labels[index]),
            film=kept,
            layer=values["layer"],
            sweep=sweep,
            # Layers differ in their number of channels, the slider does not.
            channel=min(values.get("channel", 0), states.shape[1] - 1),
            maps=shown[sweep],
            scale=max(TINY, float(np.abs(whole).max())),
            strongest=by_strength(ranked)[:STRIP],
            rms=rms(states[sweep]),
            moved=rms(moved[sweep]),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.1, 0.15, 0.55, 0.35)
        ratios = {"width_ratios": (2.1, 1.0), "height_ratios": (1.5, 1.0)}
        board, top, bottom = panels(figure, "AB;AC", inches, wspace=0.32, hspace=0.6, **ratios)
        # Before any picture: each one would move the limits of axes that have none of their own.
        board.set(xlim=(-0.03, 5.4), ylim=(4.52, 0.08), aspect="equal", anchor="NW")
        board.set_axis_off()
        maps = [_input(board, len(self.images[0])), _chosen(board), _strip(board)]
        return [*maps, _classes(top, self.classes), _residual(bottom)]

    def describe(self, data: Activity, **values: Any) -> str:
        channels, height, width = data.maps.shape
        asked = values.get("channel", 0)
        clamped = f" (the layer's last; {asked} was asked for)" if asked != data.channel else ""
        best = int(data.likely.argmax())
        return (
            f"Feature maps of image {values.get('image', 0)}, class {self.classes[data.label]}: "
            f"layer {data.layer} of {len(data.film.states)} with {channels} channels of "
            f"{height}x{width}, {values['view']} of channel {data.channel}{clamped} in colours up "
            f"to {data.scale:.2g}, at {_phase(data.sweep, values['beta'])}. Rms of the layer's "
            f"state {data.rms:.3f}, {data.moved:.2g} away from the free state; the readout says "
            f"{self.classes[best]} with probability {data.likely[best]:.3f}, the right class has "
            f"{data.likely[data.label]:.3f}."
        )


def _check_labels(labels: Tensor, images: int, classes: int) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        kind = f"dtype {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a torch.Tensor of class indices, got {kind}")
    if tuple(labels.shape) != (images,):
        raise ValueError(
            f"labels must hold one class for each of the {images} images, got shape "
            f"{tuple(labels.shape)}"
        )
    low, high = (int(end) for end in labels.aminmax())
    if not 0 <= low <= high < classes:
        found = f"{low} to {high}"
        raise ValueError(f"labels must be class indices 0..{classes - 1}, got values from {found}")


def _phase(sweep: int, beta: float) -> str:
    if sweep <= FREE_SWEEPS:
        return f"sweep {sweep} of the free phase" if sweep else "the feed-forward start (sweep 0)"
    return f"sweep {sweep - FREE_SWEEPS} of the nudged phase with beta {beta:.3g}"


def _has_image_states(model: LayeredModel) -> bool:
    layers: Any = model.layers
    return all(len(layer.linear.out_shape) == 3 for layer in layers)


def _indices(name: str, count: int, start: int, label: str) -> list[Control]:
    """A slider over 0, ..., count - 1; none where there is nothing to choose."""
    return [Slider(name, 0, count - 1, start, 1, label)] if count > 1 else []


class _Square:
    """A picture in the square box (left, top, side) of the board, its proportions kept."""

    def __init__(self, axes: Axes, box: tuple[float, float, float], **look: Any) -> None:
        self.box = box
        empty = np.zeros((1, 1))
        self.image = axes.imshow(empty, extent=(0, 1, 1, 0), interpolation="nearest", **look)

    def show(self, picture: np.ndarray, scale: float | None = None) -> tuple[float, ...]:
        """Show another picture, in colours up to +-scale; returns left, right, bottom, top."""
        left, top, side = self.box
        height, width = picture.shape[:2]
        unit = side / max(height, width)
        left += (side - unit * width) / 2
        top += (side - unit * height) / 2
        extent = (left, left + unit * width, top + unit * height, top)
        self.image.set_data(picture)
        self.image.set_extent(extent)
        if scale is not None:
            self.image.set_clim(-scale, scale)
        return extent


def _input(axes: Axes, channels: int) -> Show:
    """The image, and what the sweep and the layer's state are, in words."""
    axes.text(0, 0.3, "Input", **_HEAD)
    look = {} if channels == 3 else {"cmap": "gray", "vmin": 0, "vmax": 1}
    square = _Square(axes, (0, 0.37, 1.35), **look)
    note = axes.text(0, 1.95, "", va="top", linespacing=1.3)

    def show(data: Activity) -> None:
        low = float(data.image.min())
        scaled = (data.image - low) / max(TINY, float(data.image.max()) - low)
        # Three channels are a colour picture, any other number is shown by its mean.
        square.show(scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0))
        phase = "free phase" if data.sweep <= FREE_SWEEPS else "nudged phase"
        where = f"sweep {data.sweep}:\n{phase if data.sweep else 'start'}"
        note.set_text(f"{where}\n\nlayer: rms {data.rms:.2f},\nmoved {data.moved:.2g}")

    return show


def _chosen(axes: Axes) -> Show:
    """The chosen channel with its colour scale."""
    head = axes.text(1.6, 0.3, "", **_HEAD)
    square = _Square(axes, (1.6, 0.37, 2.75), cmap=SIGNED)
    left, right, bottom, top = 4.45, 4.57, 3.02, 0.47
    ramp = np.linspace(1.0, -1.0, 101)[:, None]
    axes.imshow(ramp, extent=(left, right, bottom, top), cmap=SIGNED, vmin=-1, vmax=1)
    heights = (top, (top + bottom) / 2, bottom)
    scale = [axes.text(right + 0.06, height, "", va="center") for height in heights]

    def show(data: Activity) -> None:
        head.set_text(f"Layer {data.layer}, channel {data.channel}")
        square.show(data.maps[data.channel], data.scale)
        for text, value in zip(scale, (data.scale, 0.0, -data.scale), strict=True):
            text.set_text(f"{value:.2g}")

    return show


def _strip(axes: Axes) -> Show:
    """As many channels as the layer has, at most STRIP; a frame around the chosen one."""
    axes.text(0, 3.6, "Strongest channels", **_HEAD)
    step = _WIDTH / STRIP
    side = 0.9 * step
    places = []
    for place in range(STRIP):
        square = _Square(axes, (place * step, 3.67, side), cmap=SIGNED)
        middle = place * step + side / 2
        name = axes.text(middle, 3.67 + side + 0.05, "", ha="center", va="top")
        places.append((square, name))
    frame = Rectangle((0, 0), 1, 1, fill=False, linewidth=2.5, clip_on=False)
    axes.add_patch(frame)

    def show(data: Activity) -> None:
        frame.set_visible(data.channel in data.strongest)
        for (square, name), channel in zip_longest(places, data.strongest):
            square.image.set_visible(channel is not None)
            name.set_visible(channel is not None)
            if channel is None:
                continue
            left, right, bottom, top = square.show(data.maps[channel], data.scale)
            name.set_text(str(channel))
            if channel == data.channel:
                frame.set_bounds(left, top, right - left, bottom - top)

    return show


def _classes(axes: Axes, classes: Sequence[str]) -> Show:
    """Bars at this sweep, a line where the free state ended; the right class in orange and bold."""
    rows = np.arange(min(BARS, len(classes)))
    axes.set(xlabel="| free state", xlim=(0, 1.03), xticks=(0, 0.5, 1))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    titled(axes, "Class probabilities")
    axes.grid(False, axis="y")
    bars = axes.barh(rows, 0.0, height=0.7)
    free = line(axes, "|", markersize=9, markeredgewidth=1.8, **outlined(1.8))
    named: tuple[int, ...] = ()

    def show(data: Activity) -> None:
        nonlocal named
        settled = data.film.probabilities[FREE_SWEEPS]
        order = np.sort(np.argsort(-settled)[:BARS])
        if data.label not in order:
            order = np.append(order[:-1], data.label)
        for bar, index in zip(bars, order, strict=True):
            bar.set_width(data.likely[index])
            bar.set_color(PALETTE[1] if index == data.label else PALETTE[0])
        free.set_data(settled[order], rows)
        if named != (data.label, *order):
            named = (data.label, *order)
            axes.set_yticks(rows, [classes[index][:10] for index in order])
            for text, index in zip(axes.get_yticklabels(), order, strict=True):
                text.set_fontweight("bold" if index == data.label else "normal")

    return show


def _residual(axes: Axes) -> Show:
    """Residual of every sweep on a log axis; a line where the film stands."""
    axes.set(xlabel="sweep: free | nudged", xlim=(-0.7, SWEEPS + 0.7), yscale="log", ylim=(1e-8, 2))
    axes.set_xticks(range(0, SWEEPS + 1, 5))
    decades(axes.yaxis, -8, 0, 4)
    titled(axes, "Residual")
    curve = line(axes, "-", color=PALETTE[2])
    axes.axvline(FREE_SWEEPS, **REFERENCE | {"linewidth": 0.9})
    here = axes.axvline(0.0, color=PALETTE[1], linewidth=1.4)
    now = line(axes, "o", color=PALETTE[1], markersize=7)

    def show(data: Activity) -> None:
        sweeps = np.arange(1, SWEEPS + 1)
        residuals = np.maximum(data.film.residuals, TINY)
        curve.set_data(sweeps, residuals)
        here.set_xdata([data.sweep, data.sweep])
        done = slice(max(0, data.sweep - 1), data.sweep)
        now.set_data(sweeps[done], residuals[done])

    return show

"""Explorer: a browser of feature maps. Image, layer, channel and sweep of a convolutional
equilibrium network.

Both phases are kept once per image and beta (`activity_film`), so that moving through layers,
channels and sweeps only draws. Input, feature map and strip share one axes without ticks: every
axes with ticks costs a tenth of the redraw.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any, ClassVar

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
from eqprop_lab.notebook.moving_axes import decades, line, margins, titled
from eqprop_lab.notebook.style import NEUTRAL, PALETTE, SIGNED, outlined

STRIP, BARS = 8, 10
"""Channels in the strip, classes in the bar chart."""

_KEPT, _BETA = 16, 0.3
_WIDTH = 5.1  # of the strip, in the units of the board, about inches


class LayerActivity(Explorer):
    """Look into a convolutional equilibrium network: one image, every layer, every channel, every
    sweep.

    Args:
        model: a LayeredModel whose states are images (ConvEqProp). It is copied: training it
            further changes nothing here, a new explorer shows the new weights.
        images: (N, channels, height, width) as the model takes them. labels: (N,) class indices.
        classes: names of the classes, default their numbers.
        **values: start values of the controls image, layer, channel, sweep, beta, view.
    Raises: TypeError for a model without image states; TypeError or ValueError naming the argument.
    """

    title = "Layer activity: what the states look like"
    size: ClassVar[tuple[float, float]] = (7.6, 4.4)

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
                f"model must be a layered one with image states (ConvEqProp), got {type(model).__name__}"
            )
        model.check_batch(images)
        _check_labels(labels, len(images), model.output_dim)
        names = (
            [str(i) for i in range(model.output_dim)]
            if classes is None
            else [str(name) for name in classes]
        )
        if len(names) != model.output_dim:
            raise ValueError(
                f"classes holds {len(names)} names; the model has {model.output_dim} classes"
            )
        self.model, self.images, self.labels, self.classes = (
            deepcopy(model),
            images.detach(),
            labels,
            names,
        )
        self.film = lru_cache(maxsize=_KEPT)(self._film)
        super().__init__(**values)

    def _film(self, image: int, beta: float) -> Film:
        one = slice(image, image + 1)
        return relax_phases(self.model, self.images[one], self.labels[one], beta)

    def make_controls(self) -> Sequence[Control]:
        """Ranges that depend on the model and on the number of images."""
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
        """Pick what is shown from the kept phases; the channel is clamped to those the layer has."""
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
            channel=min(values.get("channel", 0), states.shape[1] - 1),
            maps=shown[sweep],
            scale=max(TINY, float(np.abs(whole).max())),
            strongest=by_strength(ranked)[:STRIP],
            rms=rms(states[sweep]),
            moved=rms(moved[sweep]),
        )

    def build(self, figure: Figure) -> tuple[_Board, _Classes, _Residual]:
        """Input, chosen channel and class probabilities; below the strongest channels and the
        residual.
        """
        places = margins(figure, 0.1, 0.15, 0.55, 0.35, wspace=0.32, hspace=0.6)
        grid = figure.add_gridspec(
            2, 2, width_ratios=(2.1, 1.0), height_ratios=(1.5, 1.0), **places
        )
        board, top, bottom = (
            figure.add_subplot(grid[place]) for place in (np.s_[:, 0], np.s_[0, 1], np.s_[1, 1])
        )
        return _Board(board, len(self.images[0])), _Classes(top, self.classes), _Residual(bottom)

    def move(self, parts: tuple[_Board, _Classes, _Residual], data: Activity) -> None:
        """Every panel shows its own part of the activity."""
        for panel in parts:
            panel.show(data)

    def describe(self, data: Activity, **values: Any) -> str:
        """Where we are, how large the state is and how far from the free one, what the readout
        says.
        """
        channels, height, width = data.maps.shape
        asked = values.get("channel", 0)
        clamped = f" (the layer's last; {asked} was asked for)" if asked != data.channel else ""
        best = int(data.likely.argmax())
        return (
            f"Feature maps of image {values.get('image', 0)}, class {self.classes[data.label]}: layer {data.layer} of "
            f"{len(data.film.states)} with {channels} channels of {height}x{width}, {values['view']} of channel "
            f"{data.channel}{clamped} in colours up to {data.scale:.2g}, at {_phase(data.sweep, values['beta'])}. Rms "
            f"of the layer's state {data.rms:.3f}, {data.moved:.2g} away from the free state; the readout says "
            f"{self.classes[best]} with probability {data.likely[best]:.3f}, the right class has "
            f"{data.likely[data.label]:.3f}."
        )


def _check_labels(labels: Tensor, images: int, classes: int) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        kind = f"dtype {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a torch.Tensor of class indices, got {kind}")
    if tuple(labels.shape) != (images,):
        raise ValueError(
            f"labels must hold one class for each of the {images} images, got shape {tuple(labels.shape)}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"labels must be class indices 0..{classes - 1}, got values from {found}")


def _phase(sweep: int, beta: float) -> str:
    if sweep <= FREE_SWEEPS:
        return f"sweep {sweep} of the free phase" if sweep else "the feed-forward start (sweep 0)"
    return f"sweep {sweep - FREE_SWEEPS} of the nudged phase with beta {beta:.3g}"


def _has_image_states(model: LayeredModel) -> bool:
    return all(len(layer.linear.out_shape) == 3 for layer in model.layers)  # type: ignore[union-attr, arg-type]


def _indices(name: str, count: int, start: int, label: str) -> list[Control]:
    """A slider over 0, ..., count - 1; none where there is nothing to choose."""
    return [Slider(name, 0, count - 1, start, 1, label)] if count > 1 else []


class _Square:
    """A picture in the square box (left, top, side) of the board, its proportions kept."""

    def __init__(self, axes: Axes, box: tuple[float, float, float], **look: Any) -> None:
        self.box, self.extent = box, (0.0, 1.0, 1.0, 0.0)
        self.image = axes.imshow(
            np.zeros((1, 1)), extent=self.extent, interpolation="nearest", **look
        )

    def show(self, picture: np.ndarray) -> None:
        left, top, side = self.box
        height, width = picture.shape[:2]
        unit = side / max(height, width)
        left, top = left + (side - unit * width) / 2, top + (side - unit * height) / 2
        self.extent = (left, left + unit * width, top + unit * height, top)
        self.image.set_data(picture)
        self.image.set_extent(self.extent)


class _Board:
    """Input, chosen channel with its colour scale and the strongest channels, all on one axes
    without ticks.
    """

    def __init__(self, axes: Axes, channels: int) -> None:
        # Before any picture: each one would move the limits of axes that have none of their own.
        axes.set(xlim=(-0.03, 5.4), ylim=(4.52, 0.08), aspect="equal", anchor="NW")
        axes.set_axis_off()
        head: dict[str, Any] = {"va": "bottom", "fontsize": 11.5}
        axes.text(0, 0.3, "Input", **head)
        axes.text(0, 3.6, "Strongest channels", **head)
        self.input = _Square(
            axes,
            (0, 0.37, 1.35),
            **({} if channels == 3 else {"cmap": "gray", "vmin": 0, "vmax": 1}),
        )
        self.note = axes.text(0, 1.95, "", va="top", linespacing=1.3)
        self.head = axes.text(1.6, 0.3, "", **head)
        self.chosen = _Square(axes, (1.6, 0.37, 2.75), cmap=SIGNED)
        left, right, bottom, top = 4.45, 4.57, 3.02, 0.47
        ramp = np.linspace(1.0, -1.0, 101)[:, None]
        axes.imshow(ramp, extent=(left, right, bottom, top), cmap=SIGNED, vmin=-1, vmax=1)
        heights = (top, (top + bottom) / 2, bottom)
        self.scale = [axes.text(right + 0.06, height, "", va="center") for height in heights]
        step, side = _WIDTH / STRIP, 0.9 * _WIDTH / STRIP
        boxes = [(place * step, 3.67, side) for place in range(STRIP)]
        self.strip = [_Square(axes, box, cmap=SIGNED) for box in boxes]
        self.names = [
            axes.text(left + side / 2, top + side + 0.05, "", ha="center", va="top")
            for left, top, _ in boxes
        ]
        self.frame = Rectangle((0, 0), 1, 1, fill=False, linewidth=2.5, clip_on=False)
        axes.add_patch(self.frame)

    def show(self, data: Activity) -> None:
        low, high = float(data.image.min()), float(data.image.max())
        scaled = (data.image - low) / max(TINY, high - low)
        # Three channels are a colour picture, any other number is shown by its mean.
        self.input.show(scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0))
        phase = (
            "start"
            if data.sweep == 0
            else "free phase"
            if data.sweep <= FREE_SWEEPS
            else "nudged phase"
        )
        self.note.set_text(
            f"sweep {data.sweep}:\n{phase}\n\nlayer: rms {data.rms:.2f},\nmoved {data.moved:.2g}"
        )
        self.head.set_text(f"Layer {data.layer}, channel {data.channel}")
        for text, value in zip(self.scale, (data.scale, 0.0, -data.scale), strict=True):
            text.set_text(f"{value:.2g}")
        for square in (self.chosen, *self.strip):
            square.image.set_clim(-data.scale, data.scale)
        self.chosen.show(data.maps[data.channel])
        self._show_strip(data)

    def _show_strip(self, data: Activity) -> None:
        """As many channels as the layer has, at most the strip's; a frame around the chosen one."""
        self.frame.set_visible(data.channel in data.strongest)
        for place, (square, name) in enumerate(zip(self.strip, self.names, strict=True)):
            there = place < len(data.strongest)
            square.image.set_visible(there)
            name.set_visible(there)
            if not there:
                continue
            channel = data.strongest[place]
            square.show(data.maps[channel])
            name.set_text(str(channel))
            if channel == data.channel:
                left, right, bottom, top = square.extent
                self.frame.set_bounds(left, top, right - left, bottom - top)


class _Classes:
    """Bars at this sweep, a line where the free state ended; the right class in orange and bold."""

    def __init__(self, axes: Axes, classes: Sequence[str]) -> None:
        self.axes, self.classes = axes, classes
        self.rows = np.arange(min(BARS, len(classes)))
        axes.set(
            xlabel="| free state",
            xlim=(0, 1.03),
            ylim=(len(self.rows) - 0.5, -0.5),
            xticks=(0, 0.5, 1),
        )
        titled(axes, "Class probabilities")
        axes.grid(False, axis="y")
        self.bars = axes.barh(self.rows, 0.0, height=0.7)
        self.free = line(axes, "|", markersize=9, markeredgewidth=1.8, **outlined(1.8))
        self.named: tuple[int, ...] = ()

    def show(self, data: Activity) -> None:
        free = data.film.probabilities[FREE_SWEEPS]
        order = self.rows if len(free) <= BARS else np.sort(np.argsort(-free)[:BARS])
        if data.label not in order:
            order = np.append(order[:-1], data.label)
        for bar, index in zip(self.bars, order, strict=True):
            bar.set_width(data.likely[index])
            bar.set_color(PALETTE[1] if index == data.label else PALETTE[0])
        self.free.set_data(free[order], self.rows)
        if self.named != (data.label, *order):
            self.named = (data.label, *order)
            self.axes.set_yticks(self.rows, [self.classes[index][:10] for index in order])
            for text, index in zip(self.axes.get_yticklabels(), order, strict=True):
                text.set_fontweight("bold" if index == data.label else "normal")


class _Residual:
    """Residual of every sweep on a log axis; a line where the film stands."""

    def __init__(self, axes: Axes) -> None:
        axes.set(
            xlabel="sweep: free | nudged", yscale="log", xlim=(-0.7, SWEEPS + 0.7), ylim=(1e-8, 2)
        )
        axes.set_xticks(range(0, SWEEPS + 1, 5))
        decades(axes.yaxis, -8, 0, 4)
        titled(axes, "Residual")
        self.curve = line(axes, "-", color=PALETTE[2])
        axes.axvline(FREE_SWEEPS, color=NEUTRAL, linewidth=0.9, linestyle=":")
        self.here = axes.axvline(0.0, color=PALETTE[1], linewidth=1.4)
        self.now = line(axes, "o", color=PALETTE[1], markersize=7)

    def show(self, data: Activity) -> None:
        residuals = np.maximum(data.film.residuals, TINY)
        self.curve.set_data(np.arange(1, SWEEPS + 1), residuals)
        self.here.set_xdata([data.sweep, data.sweep])
        done = slice(max(0, data.sweep - 1), data.sweep)
        self.now.set_data(np.arange(1, SWEEPS + 1)[done], residuals[done])

"""Explorer: a browser of feature maps. Image, layer, channel and sweep of a convolutional equilibrium network.

Both phases are kept once per image and beta (`activity_film`), so that moving through layers, channels and sweeps only
draws. Input, feature map and strip share one axes without ticks: every axes with ticks costs a tenth of the redraw.
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
from eqprop_lab.notebook.style import NEUTRAL, PALETTE, SIGNED, outlined

STRIP, BARS = 8, 10
"""Channels in the strip, classes in the bar chart."""

_KEPT, _BETA = 16, 0.3
_WIDTH = 5.1  # of the strip, in the units of the board, about inches


class LayerActivity(Explorer):
    """Look into a convolutional equilibrium network: one image, every layer, every channel, every sweep.

    Args:
        model: a LayeredModel whose states are images (ConvEqProp). It is copied: training it further changes nothing
            here, a new explorer shows the new weights.
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
            raise TypeError(f"model must be a layered one with image states (ConvEqProp), got {type(model).__name__}")
        model.check_batch(images)
        _check_labels(labels, len(images), model.output_dim)
        names = [str(i) for i in range(model.output_dim)] if classes is None else [str(name) for name in classes]
        if len(names) != model.output_dim:
            raise ValueError(f"classes holds {len(names)} names; the model has {model.output_dim} classes")
        self.model, self.images, self.labels, self.classes = deepcopy(model), images.detach(), labels, names
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

    def draw(self, figure: Figure, data: Activity) -> None:
        """Input, chosen channel and class probabilities; below the strongest channels and the residual."""
        grid = figure.add_gridspec(2, 2, width_ratios=(2.1, 1.0), height_ratios=(1.5, 1.0))
        draw_board(figure.add_subplot(grid[:, 0]), data)
        self._draw_classes(figure.add_subplot(grid[0, 1]), data)
        _draw_residual(figure.add_subplot(grid[1, 1]), data)

    def _draw_classes(self, axes: Axes, data: Activity) -> None:
        """Bars at this sweep, a line where the free state ended; the right class in orange and bold."""
        free = data.film.probabilities[FREE_SWEEPS]
        order = np.sort(np.argsort(-free)[:BARS]) if len(free) > BARS else np.arange(len(free))
        if data.label not in order:
            order = np.append(order[:-1], data.label)
        rows = np.arange(len(order))
        colours = [PALETTE[1] if index == data.label else PALETTE[0] for index in order]
        axes.barh(rows, data.likely[order], color=colours, height=0.7)
        axes.plot(free[order], rows, "|", markersize=9, markeredgewidth=1.8, **outlined(1.8))
        axes.set_yticks(rows, [self.classes[index][:10] for index in order])
        axes.get_yticklabels()[list(order).index(data.label)].set_fontweight("bold")
        axes.set(title="Class probabilities", xlabel="| free state", xlim=(0, 1.03), xticks=(0, 0.5, 1))
        axes.invert_yaxis()
        axes.grid(False, axis="y")

    def describe(self, data: Activity, **values: Any) -> str:
        """Where we are, how large the state is and how far from the free one, what the readout says."""
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
        raise ValueError(f"labels must hold one class for each of the {images} images, got shape {tuple(labels.shape)}")
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


def _placed(axes: Axes, picture: np.ndarray, box: tuple[float, float, float], **look: Any) -> tuple[float, ...]:
    """Draw in the square box (left, top, side), proportions kept; returns left, right, bottom, top as drawn."""
    left, top, side = box
    height, width = picture.shape[:2]
    unit = side / max(height, width)
    left, top = left + (side - unit * width) / 2, top + (side - unit * height) / 2
    extent = (left, left + unit * width, top + unit * height, top)
    axes.imshow(picture, extent=extent, interpolation="nearest", **look)
    return extent


def draw_board(axes: Axes, data: Activity) -> None:
    """Input, chosen channel with its colour scale and the strongest channels, all on one axes without ticks."""
    colours: dict[str, Any] = {"cmap": SIGNED, "vmin": -data.scale, "vmax": data.scale}
    head: dict[str, Any] = {"va": "bottom", "fontsize": 11.5}
    axes.text(0, 0.3, "Input", **head)
    low, high = float(data.image.min()), float(data.image.max())
    scaled = (data.image - low) / max(TINY, high - low)
    # Three channels are a colour picture, any other number is shown by its mean.
    seen = scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0)
    _placed(axes, seen, (0, 0.37, 1.35), cmap="gray", vmin=0, vmax=1)
    phase = "start" if data.sweep == 0 else "free phase" if data.sweep <= FREE_SWEEPS else "nudged phase"
    note = f"sweep {data.sweep}:\n{phase}\n\nlayer: rms {data.rms:.2f},\nmoved {data.moved:.2g}"
    axes.text(0, 1.95, note, va="top", linespacing=1.3)
    axes.text(1.6, 0.3, f"Layer {data.layer}, channel {data.channel}", **head)
    _placed(axes, data.maps[data.channel], (1.6, 0.37, 2.75), **colours)
    _placed_scale(axes, data.scale, colours)
    axes.text(0, 3.6, "Strongest channels", **head)
    step, side = _WIDTH / STRIP, 0.9 * _WIDTH / STRIP
    for place, channel in enumerate(data.strongest):
        left, right, bottom, top = _placed(axes, data.maps[channel], (place * step, 3.67, side), **colours)
        axes.text((left + right) / 2, 3.67 + side + 0.05, str(channel), ha="center", va="top")
        if channel == data.channel:
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=2.5, clip_on=False)
            axes.add_patch(frame)
    axes.set(xlim=(-0.03, 5.4), ylim=(4.52, 0.08), aspect="equal", anchor="NW")
    axes.set_axis_off()


def _placed_scale(axes: Axes, scale: float, colours: dict[str, Any]) -> None:
    left, right, bottom, top = 4.45, 4.57, 3.02, 0.47
    ramp = np.linspace(scale, -scale, 101)[:, None]
    axes.imshow(ramp, extent=(left, right, bottom, top), **colours)
    for value, height in ((scale, top), (0.0, (top + bottom) / 2), (-scale, bottom)):
        axes.text(right + 0.06, height, f"{value:.2g}", va="center")


def _draw_residual(axes: Axes, data: Activity) -> None:
    residuals = np.maximum(data.film.residuals, TINY)
    sweeps = np.arange(1, SWEEPS + 1)
    axes.plot(sweeps, residuals, "-", color=PALETTE[2])
    axes.axvline(FREE_SWEEPS, color=NEUTRAL, linewidth=0.9, linestyle=":")
    axes.axvline(data.sweep, color=PALETTE[1], linewidth=1.4)
    if data.sweep:
        axes.plot(data.sweep, residuals[data.sweep - 1], "o", color=PALETTE[1], markersize=7)
    axes.set(title="Residual", xlabel="sweep: free | nudged", yscale="log", xlim=(-0.7, SWEEPS + 0.7))
    axes.set(ylim=(1e-8, 2), xticks=range(0, SWEEPS + 1, 5))
    axes.set_yticks([1e-8, 1e-4, 1], ["1e-8", "1e-4", "1"])
    axes.minorticks_off()

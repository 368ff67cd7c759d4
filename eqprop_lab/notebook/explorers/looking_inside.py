"""Explorer: what a network looks at: image, layer and method, an ordinary CNN or one that settles.

Layers are those with maps of more than one pixel. Everything of one image, network and layer is
kept, so that going back only draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from eqprop_lab.instruments.looking import feature_maps, grad_cam, saliency, wide_layers
from eqprop_lab.modules import evaluated
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import Show, line, panels, titled
from eqprop_lab.notebook.style import AMOUNT, PALETTE
from eqprop_lab.validation import shown

STRONGEST, CAM, SALIENCY = "strongest map", "Grad-CAM", "saliency"
METHODS = (CAM, SALIENCY, STRONGEST)


@dataclass(frozen=True)
class Look:
    """image (h, w); found (h', w'), scaled to a largest value of 1 where that is above 0; likely
    (classes,); peak: of what was found; layer: its name, "" for the pixels.
    """

    image: np.ndarray
    found: np.ndarray
    likely: np.ndarray
    label: int
    layer: str
    peak: float


class LookingInside(Explorer):
    """Choose an image, a network, a layer and a method, and see where the answer comes from.

    Args:
        networks: {name: a module that takes the images}; each is copied.
        images: (N, channels, height, width). labels: (N,) class indices, shown only.
        **values: start values of the controls image, network, layer, method.
    Raises: TypeError, ValueError naming the argument.
    """

    title = "Looking inside"
    size = (7.4, 2.9)

    def __init__(
        self, networks: Mapping[str, nn.Module], images: Tensor, labels: Tensor, **values: Any
    ) -> None:
        if not networks:
            raise ValueError("networks must hold at least one network, got none")
        if images.ndim != 4 or len(images) != len(labels) or not len(images):
            raise ValueError(
                f"images must be (N, channels, height, width) with a label each, got "
                f"{tuple(images.shape)} and {len(labels)} labels"
            )
        self.networks = {name: deepcopy(network) for name, network in networks.items()}
        self.images, self.labels = images.detach(), labels
        self.layers = {name: wide_layers(n, self.images[:1]) for name, n in self.networks.items()}
        empty = [name for name, layers in self.layers.items() if not layers]
        if empty:
            raise ValueError(f"networks must have layers with maps, {shown(empty[0])} has none")
        self.look = lru_cache(maxsize=64)(self._look)
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        deepest = max(map(len, self.layers.values()))
        names = tuple(self.networks)
        return (
            Slider("image", 0, max(1, len(self.images) - 1), 0, 1, "Number of the image"),
            Choice("network", names, names[0], "Network"),
            Slider("layer", 1, max(2, deepest), (deepest + 1) // 2, 1, "Layer, from the input up"),
            Choice("method", METHODS, CAM, "Method"),
        )

    def _look(self, image: int, network: str, layer: int, method: str) -> Look:
        model, x = self.networks[network], self.images[image : image + 1]
        name = self.layers[network][layer]
        if method == SALIENCY:
            found, name = saliency(model, x)[0].amax(0), ""
        elif method == CAM:
            found = grad_cam(model, x, layer=name)[0]
        else:
            maps = feature_maps(model, x, [name])[name][0].abs()
            found = maps[maps.flatten(1).norm(dim=1).argmax()]
        peak = float(found.max())
        with torch.no_grad(), evaluated(model):
            likely = model(x).softmax(1)[0]
        scaled = found / peak if peak > 0 else found
        return Look(
            image=x[0].mean(0).double().numpy(),
            found=scaled.detach().double().numpy(),
            likely=likely.double().numpy(),
            label=int(self.labels[image]),
            layer=name,
            peak=peak,
        )

    def compute(self, **values: Any) -> Look:
        image = min(values["image"], len(self.images) - 1)
        layer = min(values["layer"], len(self.layers[values["network"]])) - 1
        # the pixels are one place, whichever layer is chosen
        layer = 0 if values["method"] == SALIENCY else layer
        return self.look(image, values["network"], layer, values["method"])

    def build(self, figure: Figure) -> Sequence[Show]:
        left, middle, right = panels(
            figure, "ABC", (0.15, 0.25, 0.5, 0.4), width_ratios=(0.55, 1.1, 1.1), wspace=0.25
        )
        classes = len(self.look(0, next(iter(self.networks)), 0, SALIENCY).likely)
        return [_picture(left), _found(middle), _likely(right, classes)]

    def describe(self, data: Look, **values: Any) -> str:
        best = int(data.likely.argmax())
        where = f"in {data.layer}" if data.layer else "of the pixels"
        row, column = np.unravel_index(int(data.found.argmax()), data.found.shape)
        height, width = data.found.shape
        spot = f"row {row + 1} of {height}, column {column + 1} of {width}"
        seen = f"largest at {spot} ({data.peak:.2g})" if data.peak > 0 else "nothing above zero"
        return (
            f"{values['network']} looks at image {values['image']}, class {data.label}: "
            f"{values['method']} {where}, {seen}. It says {best} with probability "
            f"{data.likely[best]:.2f}."
        )


def _picture(axes: Axes) -> Show:
    axes.set_axis_off()
    titled(axes, "Image")
    held = axes.imshow(np.zeros((1, 1)), cmap="gray", extent=(0, 1, 1, 0))

    def show(data: Look) -> None:
        held.set_data(data.image)
        held.set_clim(float(data.image.min()), float(data.image.max()) or 1.0)

    return show


def _found(axes: Axes) -> Show:
    axes.set_axis_off()
    titled(axes, "What was found")
    look: dict[str, Any] = {"extent": (0, 1, 1, 0), "interpolation": "nearest"}
    held = axes.imshow(np.zeros((1, 1)), cmap=AMOUNT, vmin=0, vmax=1, **look)

    def show(data: Look) -> None:
        held.set_data(data.found)

    return show


def _likely(axes: Axes, classes: int) -> Show:
    axes.set(xlim=(-0.6, classes - 0.4), ylim=(0, 1.03), yticks=(0, 0.5, 1), xlabel="class")
    axes.set_xticks(range(classes))
    titled(axes, "Probabilities")
    bars = axes.bar(range(classes), np.zeros(classes), color=PALETTE[0])
    right = line(axes, "v", markersize=6, color=PALETTE[1])

    def show(data: Look) -> None:
        for bar, height in zip(bars, data.likely, strict=True):
            bar.set_height(height)
        right.set_data([data.label], [min(1.0, float(data.likely[data.label]) + 0.05)])

    return show

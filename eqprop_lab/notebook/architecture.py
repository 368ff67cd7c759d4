"""A network for images as a drawing: a column a stage, as high as its maps, as wide as they are
many.

Columns of a CNN are read from left to right, arcs are sums around a residual block, slices within a
column are the maps that each dense layer adds. Columns of a network that settles stand in a frame:
arrows run up and down at once, until nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.instruments.looking import feature_maps
from eqprop_lab.models.layered import LayeredModel
from eqprop_lab.models.vision.base import VisionModel
from eqprop_lab.models.vision.densenet import DenseLayer
from eqprop_lab.models.vision.resnet import Residual
from eqprop_lab.notebook.style import NEUTRAL, PALETTE

_GAP, _BROAD, _HIGH = 0.75, 0.13, 1.6
_POOLS = (nn.AvgPool2d, nn.MaxPool2d)
_UP, _DOWN, _AROUND = NEUTRAL, PALETTE[1], PALETTE[2]


@dataclass(frozen=True)
class Stage:
    """One column. maps: numbers of maps side by side, those of a dense block apart; size: (height,
    width) of each in pixels; around: how many sums lead around its blocks.
    """

    maps: tuple[int, ...]
    size: tuple[int, int]
    around: int = 0

    @property
    def label(self) -> str:
        """ "16+8+8 x 4x4"; without the size where a map is one unit."""
        height, width = self.size
        count = "+".join(map(str, self.maps))
        return count if self.size == (1, 1) else f"{count}\n{height}x{width}"


def stages(model: nn.Module, x: Tensor) -> list[Stage]:
    """The columns of a VisionModel or an EquilibriumModel for images x (B, C, H, W), of which the
    first is looked at.

    Raises TypeError for another module, TypeError, ValueError for x that are no images, and what
    the model raises for x.
    """
    _check_images(x)
    if not isinstance(model, EquilibriumModel | VisionModel):
        raise TypeError(
            "model must be an EquilibriumModel or a VisionModel (ResNetCifar, DenseNet3, "
            f"SmallCNN), got {type(model).__name__}"
        )
    if isinstance(model, EquilibriumModel):
        return [_stage(block) for block in feature_maps(model, x[:1]).values()]
    parts = dict(model.features.named_children())
    found = feature_maps(model, x[:1], [f"features.{name}" for name in parts])
    columns: list[Stage] = []
    for part, maps in zip(parts.values(), found.values(), strict=True):
        _join(columns, part, _stage(maps))
    return columns


def _check_images(x: object) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a tensor of images (B, C, H, W) of floats, got {kind}")
    if x.ndim != 4 or not x.numel():
        raise ValueError(
            f"x must have the shape (B, C, H, W), one image or more, got {(*x.shape,)}"
        )


def _stage(maps: Tensor) -> Stage:
    """A column of one slice; maps (1, C, h, w), or units (1, C)."""
    height, width = (*maps.shape[2:], 1, 1)[:2]
    return Stage((maps.shape[1],), (height, width))


def _join(columns: list[Stage], part: nn.Module, made: Stage) -> None:
    """Add what a part of a CNN makes: to the last column what it widens or shrinks."""
    if isinstance(part, _POOLS):
        columns[-1] = replace(columns[-1], size=made.size)
    elif isinstance(part, DenseLayer):
        last = columns[-1]
        columns[-1] = replace(last, maps=(*last.maps, made.maps[0] - sum(last.maps)))
    elif isinstance(part, Residual):
        last = columns[-1]
        if last.around and (last.maps, last.size) == (made.maps, made.size):
            columns[-1] = replace(last, around=last.around + 1)
        else:
            columns.append(replace(made, around=1))
    elif isinstance(part, nn.Conv2d):
        columns.append(made)


def draw_architecture(axes: Axes, model: nn.Module, x: Tensor, classes: int = 10) -> None:
    """Draw `model` as it reads the first of the images x on empty axes; see the file.

    classes: of the readout, which is written, not drawn. Limits are set and the frame is switched
    off. Raises what `stages` raises.
    """
    columns = stages(model, x)
    settles = isinstance(model, EquilibriumModel)
    image = Stage((x.shape[1],), (x.shape[2], x.shape[3]))
    every = [image, *columns]
    tallest = max(stage.size[0] for stage in every)
    heights = [_HIGH * sqrt(stage.size[0] / tallest) for stage in every]
    places = _places(every)
    for number, (stage, left, height) in enumerate(zip(every, places, heights, strict=True)):
        _column(axes, stage, left, height, NEUTRAL if number == 0 else PALETTE[0])
    for number in range(1, len(every)):
        ends = places[number - 1] + _breadth(every[number - 1]), places[number]
        back = settles and number > 1 and isinstance(model, LayeredModel)
        _tip(axes, (ends[0], 0.12 * back), (ends[1], 0.12 * back), _UP)
        if back:
            _tip(axes, (ends[1], -0.12), (ends[0], -0.12), _DOWN, "--")
        if every[number].around:
            _arc(axes, ends, heights[number - 1 : number + 1], every[number].around)
    right = places[-1] + _breadth(every[-1])
    _tip(axes, (right, 0.0), (right + _GAP, 0.0), _UP)
    axes.text(right + _GAP + 0.08, 0.0, f"{classes} logits", va="center", size="small")
    if settles:
        _frame(axes, places[1] - 0.2, right + 0.2)
    axes.set(xlim=(-0.35, right + _GAP + 1.3), ylim=(-1.55, 1.5))
    axes.set_axis_off()


def _breadth(stage: Stage) -> float:
    return _BROAD * sqrt(sum(stage.maps))


def _places(columns: Sequence[Stage]) -> list[float]:
    """Left edges."""
    lefts = [0.0]
    for stage in columns[:-1]:
        lefts.append(lefts[-1] + _breadth(stage) + _GAP)
    return lefts


def _column(axes: Axes, stage: Stage, left: float, height: float, colour: str) -> None:
    """Slices side by side, paler and darker in turn, with what they are below."""
    so_far = 0
    for number, maps in enumerate(stage.maps):
        start, so_far = left + _BROAD * sqrt(so_far), so_far + maps
        width = left + _BROAD * sqrt(so_far) - start
        face = (colour, 0.55 if number % 2 else 0.25)
        look: dict[str, Any] = {"edgecolor": colour, "facecolor": face, "linewidth": 1.2}
        axes.add_patch(Rectangle((start, -height / 2), width, height, **look))
    middle = left + _breadth(stage) / 2
    axes.text(middle, -height / 2 - 0.08, stage.label, ha="center", va="top", size="x-small")


def _arc(axes: Axes, ends: tuple[float, float], heights: Sequence[float], count: int) -> None:
    """From above one column to above the next: the way around."""
    look: dict[str, Any] = {"arrowstyle": "-|>", "color": _AROUND, "linewidth": 1.3}
    look |= {"connectionstyle": "arc3,rad=-0.45", "shrinkA": 0, "shrinkB": 0}
    start, end = (ends[0] - 0.1, heights[0] / 2), (ends[1] + 0.15, heights[1] / 2)
    axes.annotate("", end, start, arrowprops=look)
    times = "" if count == 1 else f" {count}x"
    top = max(heights) / 2 + 0.36
    look = {"ha": "center", "va": "bottom", "color": _AROUND, "size": "small"}
    axes.text(sum(ends) / 2, top, f"+{times}", **look)


def _frame(axes: Axes, left: float, right: float) -> None:
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": _DOWN, "linestyle": "--"}
    axes.add_patch(Rectangle((left, -1.42), right - left, 2.5, linewidth=1.1, **look))
    axes.text(
        (left + right) / 2, 1.13, "again, until nothing moves",
        ha="center", va="bottom", color=_DOWN, size="small",
    )  # fmt: skip


def _tip(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, line: str = "-"
) -> None:
    look: dict[str, Any] = {"arrowstyle": "-|>", "color": colour, "linestyle": line}
    axes.annotate("", end, start, arrowprops=look | {"shrinkA": 1, "shrinkB": 1})

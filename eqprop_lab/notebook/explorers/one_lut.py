"""Explorer: one look-up table of six inputs, as bits and as what it is between them.

f(x) = sum_a p[a] P(a | x),   p = sigmoid(z / T),   P(a | x) = prod_j x_j^(a_j) (1 - x_j)^(1 - a_j)
df/dx_j = f(x_j = 1) - f(x_j = 0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from eqprop_lab.lut.factory import build_model
from eqprop_lab.lut.multilinear import multilinear, products
from eqprop_lab.lut.nodes.base import look_up
from eqprop_lab.lut.nodes.linear import corners
from eqprop_lab.notebook.controls import Choice, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import Show, panels, ticks_below, titled
from eqprop_lab.notebook.style import PALETTE, SIGNED, outlined

PINS = 6
GRID = 41  # points of the surface along a pin
PAIRS = {"x0 and x1": (0, 1), "x2 and x3": (2, 3), "x4 and x5": (4, 5)}
CLEAR = 2.0  # |logit| of the functions that are written down


def _signed(ones: Tensor) -> Tensor:
    return CLEAR * (2 * ones.double() - 1)


def _multiplexer() -> Tensor:
    """x0 and x1 say which of x2 ... x5 is given."""
    bits = corners(PINS).long()
    return _signed(bits.gather(1, (2 + bits[:, :1] + 2 * bits[:, 1:2])).squeeze(1))


@lru_cache(maxsize=1)
def _trained() -> Tensor:
    """The first node of the last layer of `digits_small`."""
    return build_model("digits_small").lut_layers()[-1].nodes.logits()[0].detach().double()


FUNCTIONS: dict[str, Callable[[], Tensor]] = {
    "multiplexer": _multiplexer,
    "parity": lambda: _signed(corners(PINS).sum(1) % 2),
    "majority": lambda: _signed(corners(PINS).sum(1) > PINS // 2),
    "wire from x0": lambda: _signed(corners(PINS)[:, 0]),
    "random": lambda: torch.randn(64, generator=torch.Generator("cpu").manual_seed(0)).double(),
    "trained on digits": _trained,
}


@dataclass(frozen=True)
class Looked:
    """table, weights (64,): p and P(a | x) by address; surface (GRID, GRID): f over the pair, the
    second pin upwards; slopes (6,); value: f; bit: what the hard table gives; pins; pair.
    """

    table: np.ndarray
    weights: np.ndarray
    surface: np.ndarray
    slopes: np.ndarray
    value: float
    bit: int
    pins: np.ndarray
    pair: tuple[int, int]


def soft(pins: Tensor, table: Tensor) -> Tensor:
    """f at pins (6, B) of one table (64,), (B,)."""
    return multilinear(pins.unsqueeze(1), table.unsqueeze(0)).squeeze(0)


def _over_the_pair(pins: Tensor, pair: tuple[int, int]) -> Tensor:
    """(6, GRID^2): all pins as they are, but for the two."""
    steps = torch.linspace(0, 1, GRID, dtype=pins.dtype)
    up, along = torch.meshgrid(steps, steps, indexing="ij")
    found = pins[:, None].repeat(1, GRID * GRID)
    found[pair[0]], found[pair[1]] = along.flatten(), up.flatten()
    return found


def _slopes(pins: Tensor, table: Tensor) -> Tensor:
    """f with each pin at 1, less f with it at 0."""
    high, low = pins[:, None].repeat(2, 1, PINS)
    high.fill_diagonal_(1.0)
    low.fill_diagonal_(0.0)
    return soft(high, table) - soft(low, table)


class OneLUT(Explorer):
    """Six inputs, a table of 64 entries, and the surface that training walks on."""

    title = "One LUT: a table, and what it is between its bits"
    size = (7.6, 3.1)
    controls = (
        Choice("function", tuple(FUNCTIONS), "multiplexer", "Table"),
        Slider("temperature", 0.1, 10.0, 1.0, 0.1, "Temperature T", log=True),
        Choice("pair", tuple(PAIRS), "x0 and x1", "Surface over"),
        Slider("x0", 0.0, 1.0, 0.5, 0.05, "Input x0"),
        Slider("x1", 0.0, 1.0, 0.5, 0.05, "Input x1"),
        Slider("x2", 0.0, 1.0, 1.0, 0.05, "Input x2"),
        Slider("x3", 0.0, 1.0, 0.0, 0.05, "Input x3"),
        Slider("x4", 0.0, 1.0, 0.0, 0.05, "Input x4"),
        Slider("x5", 0.0, 1.0, 1.0, 0.05, "Input x5"),
    )

    def compute(self, function: str, temperature: float, pair: str, **inputs: float) -> Looked:
        logits = FUNCTIONS[function]()
        table = torch.sigmoid(logits / temperature)
        pins = torch.tensor([inputs[f"x{pin}"] for pin in range(PINS)], dtype=torch.float64)
        over = PAIRS[pair]
        hard = look_up(pins[:, None, None], (logits >= 0).unsqueeze(0))
        return Looked(
            table=table.numpy(),
            weights=products(pins[:, None, None], pins.new_ones(1, 1)).flatten().numpy(),
            surface=soft(_over_the_pair(pins, over), table).view(GRID, GRID).numpy(),
            slopes=_slopes(pins, table).numpy(),
            value=float(soft(pins[:, None], table)),
            bit=int(hard),
            pins=pins.numpy(),
            pair=over,
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.75, 0.15, 0.7, 0.3)
        parts = panels(figure, "ABC", inches, width_ratios=(1.0, 1.0, 0.75), wspace=0.36)
        return [_table(parts[0]), _surface(parts[1]), _bars(parts[2])]

    def describe(self, data: Looked, **values: Any) -> str:
        strongest = int(np.abs(data.slopes).argmax())
        read = int((data.weights > 0).sum())
        return (
            f"The table of a LUT ({values['function']}, temperature "
            f"{values['temperature']:.3g}) as 8 x 8 colours, with dots on the {read} entries that "
            f"these inputs mix; beside it its output over {values['pair']}: {data.value:.2f} where "
            f"the inputs are, the hard table gives {data.bit}. The largest slope is that of "
            f"x{strongest}, {data.slopes[strongest]:+.2f}."
        )


_LOOK: dict[str, Any] = {"origin": "lower", "aspect": "auto", "cmap": SIGNED}
_LOOK |= {"vmin": -0.5, "vmax": 0.5}


def _table(axes: Axes) -> Show:
    """Columns count through x0 x1 x2, rows through x3 x4 x5; dots as large as P(a | x)."""
    image = axes.imshow(np.zeros((8, 8)), interpolation="nearest", **_LOOK)
    names = [f"{k:03b}" for k in range(8)]
    axes.set_xticks(range(8), labels=names, rotation=90)
    axes.set_yticks(range(8), labels=names)
    axes.set(xlabel="x2 x1 x0", ylabel="x5 x4 x3")
    axes.grid(False)
    ticks_below(axes)
    titled(axes, "Table p: red 0, blue 1")
    column, row = np.meshgrid(np.arange(8), np.arange(8))
    look: dict[str, Any] = {"facecolor": "black", "edgecolor": "white", "linewidth": 0.8}
    dots = axes.scatter(column, row, s=np.zeros(64), zorder=3, **look)

    def show(data: Looked) -> None:
        image.set_data(data.table.reshape(8, 8) - 0.5)
        dots.set_sizes(130 * data.weights)

    return show


def _surface(axes: Axes) -> Show:
    """f over two pins; nothing where it is 1/2."""
    image = axes.imshow(
        np.zeros((GRID, GRID)), extent=(0, 1, 0, 1), interpolation="bilinear", **_LOOK
    )
    axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.grid(False)
    ticks_below(axes)
    (point,) = axes.plot([], [], "o", markersize=8, clip_on=False, **outlined(1.0))

    def show(data: Looked) -> None:
        first, second = data.pair
        titled(axes, f"Soft {data.value:.2f}, hard {data.bit}")
        for which, pin in (("x", first), ("y", second)):
            if getattr(axes, f"get_{which}label")() != f"x{pin}":
                axes.set(**{f"{which}label": f"x{pin}"})
        image.set_data(data.surface - 0.5)
        point.set_data([data.pins[first]], [data.pins[second]])

    return show


def _bars(axes: Axes) -> Show:
    """df/dx_j of every pin."""
    bars = axes.barh(range(PINS), np.zeros(PINS), color=PALETTE[2])
    axes.set_yticks(range(PINS), labels=[f"x{pin}" for pin in range(PINS)])
    axes.set(xlim=(-1.05, 1.05), xticks=(-1, 0, 1), xlabel="slope of f")
    ticks_below(axes)
    titled(axes, "What a pin changes")

    def show(data: Looked) -> None:
        for bar, slope in zip(bars, data.slopes, strict=True):
            bar.set_width(slope)

    return show

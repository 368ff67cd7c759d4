"""The project's figure style: one palette, private figures without pyplot, and small PNG files.

A figure has no ground of its own: the page shows through, so that a dark page has no white blocks
on it. Colours are therefore ones that both pages show, and a map of values fades into the page
where a printed one fades into white.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

STYLE_PATH = Path(__file__).with_name("eqprop.mplstyle")
"""The style file; it travels inside the package."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D3B", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours in the order of the style's cycle, with a brown for black, which a dark
page hides.
"""

NEUTRAL = "#767676"
"""Text, axes and lines for reference: a grey that a white page and a dark one both show."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One marker per colour, for curves with few points."""

DASHES = ("-", "--", "-.", ":")
"""Kinds of line, for curves that colour alone must not tell apart."""

MAX_PNG_BYTES = 80 * 1024
"""Largest picture a notebook stores."""

_TRUE_COLOUR_BYTES = 8 * 1024

_WITH_ALPHA = Image.Quantize.FASTOCTREE
"""Pillow's one method that gives a palette transparent colours; a round of k-means spreads them."""


def fading(*colours: str, strength: float = 1.0, name: str = "fading") -> LinearSegmentedColormap:
    """Values as colours that fade into the page: one from nothing, or two with nothing between.

    `fading(a)` runs from transparent to a; `fading(a, b)` from a through transparent to b; the ends
    have the opacity `strength`. On a white page they look as maps through white do. Raises:
    ValueError for any other number of colours.
    """
    if len(colours) not in (1, 2):
        raise ValueError(f"colours = {colours!r}: one colour, or two with nothing between them")
    ends = [(*to_rgb(colour), strength) for colour in colours]
    nothing = [(*to_rgb(colour), 0.0) for colour in colours]
    if len(colours) == 1:
        return LinearSegmentedColormap.from_list(name, [nothing[0], ends[0]])
    # Two stops in the middle, each of its own colour: mixed ones would be muddy.
    return LinearSegmentedColormap.from_list(
        name, [(0.0, ends[0]), (0.5, nothing[0]), (0.5, nothing[1]), (1.0, ends[1])]
    )


SIGNED = fading("#C8321E", PALETTE[0], name="signed")
"""Signed values: red below zero, blue above, nothing at zero."""

SIGNED_CHANGE = fading("#B56A00", "#7558B5", name="signed_change")
"""Signed changes: orange below zero, violet above, nothing at zero."""

AMOUNT = fading(PALETTE[0], name="amount")
"""Amounts: from nothing to blue."""

INK = fading(NEUTRAL, name="ink")
"""Pictures of ink on paper, 0 to 1: the page is the paper."""


def outlined(width: float) -> dict[str, Any]:
    """Keywords of a dark line `width` points wide with a light rim, seen on any map and page."""
    rim = withStroke(linewidth=width + 1.4, foreground="white")
    return {"color": "black", "path_effects": [rim]}


_rc_lock = threading.RLock()
_style = matplotlib.rc_params_from_file(str(STYLE_PATH), use_default_template=False)


def apply_style() -> None:
    """Make the style the default of this process, pyplot included."""
    with _rc_lock:
        matplotlib.rcParams.update(_style)


@contextmanager
def style_context() -> Iterator[None]:
    """Draw under the project's style and leave `matplotlib.rcParams` as it was.

    rcParams are global to the process. Where the style already rules (after `setup`) nothing is
    touched, so that an explorer drawing in another thread cannot undo a change the running cell
    makes.
    """
    with _rc_lock:
        if all(matplotlib.rcParams[key] == value for key, value in _style.items()):
            yield
            return
        with matplotlib.rc_context(dict(_style)):
            yield


def new_figure(width: float = 7.0, height: float = 3.2) -> Figure:
    """A figure of `width` x `height` inches in the project's style that pyplot does not know."""
    for name, value in (("width", width), ("height", height)):
        if not 0.5 <= value <= 30:
            raise ValueError(f"{name} = {value!r}: a figure side is between 0.5 and 30 inches")
    with style_context():
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
    return figure


def encode_png(figure: Figure, dpi: float) -> bytes:
    """PNG of a figure at `dpi`, transparent where nothing is drawn; raises what drawing raises."""
    with style_context():
        before = figure.dpi
        figure.dpi = dpi
        try:
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            pixels = np.asarray(canvas.buffer_rgba()).copy()
        finally:
            figure.dpi = before
    return _encode(Image.fromarray(pixels))


def fit_png(png: bytes, limit: int = MAX_PNG_BYTES) -> bytes:
    """The same picture in at most `limit` bytes: fewer colours first, then fewer pixels.

    Above 8 KiB it has 256 colours in any case: a drawing looks the same in a third of the bytes.
    """
    if len(png) <= min(limit, _TRUE_COLOUR_BYTES):
        return png
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    for scale in (1.0, 0.75, 0.5, 0.35, 0.25):
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        resized = image if scale == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
        for colours in (256, 128, 64):
            smaller = _quantised(resized, colours)
            if len(smaller) <= limit:
                return smaller
    raise ValueError(
        f"the picture does not fit into {limit} bytes even at a quarter of its size; draw less in "
        "it"
    )


def stand_in(png: bytes, width: float) -> bytes:
    """The same picture `width` pixels wide in 64 colours, where the large one cannot be shown."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    size = (round(width), max(1, round(image.height * width / image.width)))
    return _quantised(image.resize(size, Image.Resampling.LANCZOS), 64)


def _quantised(image: Image.Image, colours: int) -> bytes:
    return _encode(image.quantize(colours, _WITH_ALPHA, 1, dither=Image.Dither.NONE), level=9)


def _encode(image: Image.Image, level: int = 3) -> bytes:
    """Level 3 is three times quicker than Pillow's default and 5 % larger; a redraw has 0.1 s."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()

from __future__ import annotations

import io
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from eqprop_lab.notebook.style import (
    MARKERS,
    MAX_PNG_BYTES,
    PALETTE,
    apply_style,
    encode_png,
    fit_png,
    new_figure,
    style_context,
)

# Simulation of the two common colour deficiencies (Machado, Oliveira, Fernandes 2009, doi
# 10.1109/TVCG.2009.113), severity 1, applied to linear RGB.
_PROTAN = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
_DEUTAN = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


def _linear(colour: str) -> np.ndarray:
    srgb = np.array(to_rgb(colour))
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ linear
    )
    ratio = np.clip(xyz / np.array([0.9505, 1.0, 1.089]), 0, None)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", [np.eye(3), _PROTAN, _DEUTAN], ids=["typical", "protan", "deutan"])
def test_every_two_colours_stay_apart(eye: np.ndarray) -> None:
    seen = [_lab(np.clip(eye @ _linear(colour), 0, 1)) for colour in PALETTE]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 10, "a difference of 10 in CIELAB is seen at a glance"


def test_the_cycle_changes_colour_and_dash_together() -> None:
    apply_style()
    cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()
    assert set(cycle) == {"color", "linestyle"}
    assert len({str(dash) for dash in cycle["linestyle"]}) == len(PALETTE) == len(MARKERS)
    assert matplotlib.rcParams["font.size"] >= 10
    assert min(float(matplotlib.rcParams[f"{axis}tick.labelsize"]) for axis in "xy") >= 10


def test_the_ground_is_the_pages_own() -> None:
    figure = new_figure(2, 1)
    figure.subplots().plot([0, 1], [0, 1])
    image = Image.open(io.BytesIO(encode_png(figure, 100)))
    assert image.mode == "RGBA" and image.size == (200, 100)
    assert image.getpixel((0, 0))[3] == 0 and image.getextrema()[3] == (0, 255)


def test_a_private_figure_is_unknown_to_pyplot() -> None:
    new_figure()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_the_context_leaves_other_settings_alone() -> None:
    matplotlib.rcParams["font.size"] = 33
    with style_context():
        assert matplotlib.rcParams["font.size"] != 33
    assert matplotlib.rcParams["font.size"] == 33


def test_where_the_style_rules_the_context_undoes_nothing() -> None:
    apply_style()
    with style_context():
        matplotlib.rcParams["lines.dashed_pattern"] = [9, 9]
    assert matplotlib.rcParams["lines.dashed_pattern"] == [9, 9]


def test_drawing_leaves_the_resolution_as_it_was() -> None:
    figure = new_figure(2, 1)
    before = figure.dpi
    encode_png(figure, 200)
    assert figure.dpi == before


@pytest.mark.parametrize("sides", [(0, 3), (3, 31), (float("nan"), 3)])
def test_impossible_sides_are_refused(sides: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="between 0.5 and 30 inches"):
        new_figure(*sides)


def _noise(side: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_small_picture_is_not_touched_and_a_large_one_shrinks() -> None:
    small, large = _noise(30), _noise(300)
    assert fit_png(small) is small
    assert len(large) > MAX_PNG_BYTES >= len(fit_png(large))


def test_a_plot_that_is_too_large_loses_colours_before_pixels() -> None:
    figure = new_figure()
    figure.subplots().imshow(np.outer(np.sin(np.linspace(0, 9, 300)), np.linspace(0, 1, 300)))
    png = encode_png(figure, 200)
    fitted = fit_png(png, len(png) // 2)
    assert len(fitted) <= len(png) // 2
    assert Image.open(io.BytesIO(fitted)).size == Image.open(io.BytesIO(png)).size


def test_a_drawing_of_middle_size_is_stored_with_a_palette() -> None:
    figure = new_figure()
    axes = figure.subplots()
    for i in range(10):
        axes.plot(np.linspace(0, 1, 50), np.sin(np.linspace(0, 9, 50) + i / 7), marker="o")
    axes.set(title="Ten curves", xlabel="time", ylabel="height")
    png = encode_png(figure, 60)
    assert 40 * 1024 < len(png) <= MAX_PNG_BYTES
    stored = fit_png(png)
    assert Image.open(io.BytesIO(stored)).mode == "P" and len(stored) < len(png) / 2


def test_an_impossible_limit_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit into 100 bytes"):
        fit_png(_noise(100), 100)

"""What is drawn over a kept background is, pixel by pixel, what a fresh drawing shows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from eqprop_lab.notebook import Choice, Explorer, Slider
from eqprop_lab.notebook.blitting import MovingPicture
from eqprop_lab.notebook.controls import Control
from eqprop_lab.notebook.png import quick_png
from eqprop_lab.notebook.style import encode_png, new_figure, style_context
from tests.benchmarks.subjects import explorer_cells, made_by

DPI = 140


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def fresh(draw: Callable[[Figure], Any], size: tuple[float, float]) -> np.ndarray:
    """Drawn on a new figure, all of it."""
    figure = new_figure(*size)
    with style_context():
        draw(figure)
    return pixels(encode_png(figure, DPI))


def some_of(control: Control, random: np.random.Generator) -> list[Any]:
    """Values of a control: an end and one between, or every option."""
    if isinstance(control, Choice):
        return list(control.options)
    if not isinstance(control, Slider):
        return [True, False]
    share, end = random.uniform(), control.high if random.uniform() < 0.5 else control.low
    between = control.low + share * (control.high - control.low)
    between = control.low * (control.high / control.low) ** share if control.log else between
    return [end, int(between) if control.integer else between]


def walk(explorer: Explorer) -> Iterator[dict[str, Any]]:
    """Every control to and fro, alone, and then all of them at once, there and back."""
    random = np.random.default_rng(0)
    start = explorer.values
    for control in explorer.make_controls():
        for value in some_of(control, random):
            yield {control.name: value}
    yield start
    for _ in range(3):
        yield {
            control.name: random.choice(some_of(control, random)).item()
            for control in explorer.make_controls()
        }
    yield start


@pytest.mark.parametrize("name", explorer_cells())
def test_every_explorer_shows_what_a_fresh_drawing_shows(name: str) -> None:
    explorer = made_by(explorer_cells()[name])
    assert type(explorer).draw is Explorer.draw, f"{name} draws everything anew at each key press"
    seen = set()
    for values in walk(explorer):
        explorer.set(**values)
        expected = fresh(lambda figure: explorer.draw(figure, explorer.data), explorer.size)
        assert np.array_equal(pixels(explorer.png), expected), (
            f"after {values}, at {explorer.values}"
        )
        seen.add(explorer.png)
    assert len(seen) > len(explorer.values)


class Panels:
    """Two axes with one of each: line, text, picture, bar, and limits that may change."""

    def __init__(self, figure: Figure) -> None:
        figure.set_layout_engine("none")
        self.figure = figure
        self.left, self.right = figure.subplots(1, 2)
        self.line = self.left.plot([0, 1], [0, 1], color="C1", linewidth=6)[0]
        self.left.plot([0, 1], [1, 0], color="C2", linewidth=6)
        self.text = self.left.text(0.5, 0.5, "here", ha="center")
        self.image = self.right.imshow(np.eye(4), vmin=0, vmax=1)
        self.bar = self.right.bar([1], [1], color="C3")[0]
        self.left.set(xlim=(0, 1), ylim=(0, 1))
        self.right.set(xlim=(0, 4), ylim=(0, 4))
        self.new: list[Any] = []

    def add(self, axes: Axes, zorder: float) -> None:
        self.new.append(axes.plot([0, 1], [0.3, 0.3], linewidth=8, zorder=zorder, color="C4")[0])

    def take_away(self) -> None:
        self.new.pop().remove()


STEPS: dict[str, Callable[[Panels], Any]] = {
    "nothing": lambda p: None,
    "line": lambda p: p.line.set_ydata([0.2, 0.9]),
    "line under another": lambda p: p.line.set_ydata([0.8, 0.1]),
    "picture": lambda p: p.image.set_data(np.eye(4)[::-1]),
    "bar": lambda p: p.bar.set_height(3),
    "text": lambda p: p.text.set_text("there"),
    "limits": lambda p: p.left.set_ylim(-1, 2),
    "limits with a picture": lambda p: p.right.set_xlim(-1, 5),
    "back": lambda p: p.left.set_ylim(0, 1),
    "title": lambda p: p.right.set_title("a title"),
    "tick labels": lambda p: p.left.set_xticks([0, 1], ["no", "yes"]),
    "label": lambda p: p.left.xaxis.label.set_text("a label"),
    "a heavy tick label": lambda p: p.left.get_yticklabels()[0].set_fontweight("bold"),
    "legend": lambda p: p.left.legend([p.line], ["a line"], loc="upper left"),
    "a word of the legend": lambda p: (
        p.left.get_legend() and p.left.get_legend().get_texts()[0].set_text("other")
    ),
    "hidden": lambda p: p.line.set_visible(False),
    "seen": lambda p: p.line.set_visible(True),
    "added below": lambda p: p.add(p.left, 0.1),
    "added above": lambda p: p.add(p.right, 9),
    "taken away": lambda p: p.take_away(),
    "taken away as well": lambda p: p.take_away(),
    "a word on the figure": lambda p: p.figure.suptitle("both"),
    "no axes": lambda p: p.right.set_axis_off(),
    "no frame": lambda p: p.left.set_frame_on(False),
    "colour": lambda p: p.bar.set_color("C0"),
    "axes hidden": lambda p: p.right.set_visible(False),
    "axes seen": lambda p: p.right.set_visible(True),
}


@pytest.mark.parametrize("seed", range(3))
def test_any_change_is_seen_and_nothing_is_drawn_twice(seed: int) -> None:
    """`seed` 0 in the order above, the others shuffled and more often."""
    names = list(STEPS)
    if seed:
        names = [str(name) for name in np.random.default_rng(seed).choice(names, 25)]
    with style_context():
        moved = Panels(new_figure(5, 3))
        picture = MovingPicture(moved.figure, DPI)
        picture.pixels()
    done: list[str] = []

    def again(figure: Figure) -> None:
        panels = Panels(figure)
        for name in done:
            STEPS[name](panels)

    for name in names:
        if name.startswith("taken") and not moved.new:
            continue
        with style_context():
            STEPS[name](moved)
        done.append(name)
        assert np.array_equal(picture.pixels(), fresh(again, (5, 3))), f"after {done}"


def test_only_what_changed_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with style_context():
        panels = Panels(new_figure(5, 3))
    picture, drawn = MovingPicture(panels.figure, DPI), []
    for height in (1.5, 2.0):
        panels.bar.set_height(height)
        picture.pixels()
    for axis in (panels.left.xaxis, panels.right.xaxis, panels.left.yaxis):
        monkeypatch.setattr(axis, "draw", lambda renderer, axis=axis: drawn.append(axis))
    panels.line.set_ydata([0.5, 0.5])
    picture.pixels()
    assert len(drawn) == 3, "the line has not moved before: the ground is made anew"
    drawn.clear()
    panels.line.set_ydata([0.4, 0.5])
    panels.bar.set_height(1.0)
    picture.pixels()
    assert drawn == []
    panels.right.set_xlim(0, 5)
    picture.pixels()
    drawn.clear()
    panels.right.set_xlim(0, 4)
    picture.pixels()
    assert drawn == [panels.right.xaxis], "the other axes are kept"


def test_axes_that_overlap_are_refused() -> None:
    figure = new_figure(4, 3)
    figure.set_layout_engine("none")
    figure.add_axes((0.1, 0.1, 0.6, 0.6))
    figure.add_axes((0.5, 0.5, 0.4, 0.4))
    with pytest.raises(ValueError, match="axes 1 overlaps another one"):
        MovingPicture(figure, DPI).pixels()


def test_an_error_while_drawing_is_followed_by_a_good_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with style_context():
        panels = Panels(new_figure(5, 3))
    picture = MovingPicture(panels.figure, DPI)
    picture.pixels()
    with monkeypatch.context() as patch:
        patch.setattr(panels.line, "draw", lambda renderer: 1 / 0)
        panels.line.set_ydata([0.2, 0.2])
        with pytest.raises(ZeroDivisionError):
            picture.pixels()

    def again(figure: Figure) -> None:
        Panels(figure).line.set_ydata([0.2, 0.2])

    assert np.array_equal(picture.pixels(), fresh(again, (5, 3)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (40, 70)])
def test_a_quick_png_has_the_same_pixels(shape: tuple[int, int]) -> None:
    wanted = np.random.default_rng(0).integers(0, 256, (*shape, 4), dtype=np.uint8)
    assert np.array_equal(pixels(quick_png(wanted)), wanted)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 4)), np.zeros((0, 2, 4), np.uint8)]
)
def test_other_pixels_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(height, width, 4\) is needed"):
        quick_png(bad)

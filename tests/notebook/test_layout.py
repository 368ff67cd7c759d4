from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from eqprop_lab.notebook.layout import SteadyLayout
from eqprop_lab.notebook.style import new_figure


def _draw(figure: Figure, top: float, label: str = "", colourbar: bool = False) -> None:
    figure.clear()
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, top])
    left.set_ylabel(label)
    image = right.imshow([[0, top], [top, 0]])
    if colourbar:
        figure.colorbar(image, ax=right)


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every time the room for labels is measured."""
    calls: list[int] = []
    execute = ConstrainedLayoutEngine.execute

    def counted(self: Any, figure: Figure) -> Any:
        calls.append(1)
        return execute(self, figure)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", counted)
    return calls


@pytest.mark.parametrize("colourbar", [False, True])
def test_an_alike_drawing_is_laid_out_once_and_looks_the_same(
    layouts: list[int], colourbar: bool
) -> None:
    figure, steady = new_figure(4, 2), SteadyLayout()
    pictures = []
    for top in (1.0, 2.0, 1.0):
        _draw(figure, top, "value", colourbar)
        pictures.append(steady.png(figure, 100))
    assert len(layouts) == 1
    assert pictures[0] == pictures[2] != pictures[1]


def test_longer_tick_labels_and_new_texts_get_new_room(layouts: list[int]) -> None:
    figure, steady = new_figure(4, 2), SteadyLayout()
    places = []
    for top, label in ((1.0, ""), (123456.0, ""), (123456.0, "value")):
        _draw(figure, top, label)
        steady.png(figure, 100)
        places.append(figure.axes[0].get_position().x0)
    assert len(layouts) == 3 and places[0] < places[1] < places[2]


def test_other_layouts_are_left_alone(layouts: list[int]) -> None:
    figure, steady = new_figure(4, 2), SteadyLayout()
    figure.set_layout_engine("none")
    _draw(figure, 1.0)
    assert steady.png(figure, 100) == steady.png(figure, 100)
    assert layouts == []

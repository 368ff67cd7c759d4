"""The drawing of the network: the pull is there in the nudged phase only."""

from __future__ import annotations

from eqprop_lab.notebook.schematic import draw_network
from eqprop_lab.notebook.style import encode_png, new_figure


def test_only_the_nudged_network_has_a_target_and_beta() -> None:
    words = {}
    for nudged in (False, True):
        figure = new_figure(4, 2)
        axes = figure.subplots()
        draw_network(axes, nudged)
        words[nudged] = {text.get_text() for text in axes.texts if text.get_text()}
        assert encode_png(figure, 50).startswith(b"\x89PNG")
        assert not axes.axison
    assert words[True] - words[False] == {"target", r"$\beta$"}
    assert {"$x$", "$h$", "$z$"} <= words[False]

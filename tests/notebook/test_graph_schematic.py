"""The drawing of an exported graph shows its nodes, and those of the Loop's body."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from eqprop_lab.notebook.graph_schematic import body_of, draw_loop, shown
from eqprop_lab.notebook.style import new_figure


def graph(*kinds: str, body: tuple[str, ...] = ("Gemm", "Tanh", "Identity")) -> Any:
    """As much of an onnx.GraphProto as is drawn."""

    def node(kind: str) -> SimpleNamespace:
        inner = SimpleNamespace(node=[node(each) for each in body if kind == "Loop"])
        parts = [SimpleNamespace(name="body", g=inner)]
        return SimpleNamespace(op_type=kind, attribute=parts if kind == "Loop" else [])

    named = {end: [SimpleNamespace(name=name)] for end, name in (("input", "x"), ("output", "z"))}
    return SimpleNamespace(node=[node(kind) for kind in kinds], **named)


def texts(figure: Any) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_every_node_that_computes_has_a_box() -> None:
    figure = new_figure(6, 2)
    draw_loop(figure.subplots(), graph("Gemm", "Constant", "Loop", "Relu"), "twice")
    assert texts(figure) == ["Gemm", "Loop", "Relu", "Gemm", "Tanh", "twice", "x", "z"]
    (axes,) = figure.axes
    assert len(axes.patches) == 5 + 1  # and the frame of the body
    low, high = axes.get_xlim()
    for box in axes.patches:
        places = box.get_path().vertices[:, 0]
        assert low <= places.min() and places.max() <= high


def test_a_wide_body_fits_too() -> None:
    figure = new_figure(6, 2)
    draw_loop(figure.subplots(), graph("Loop", body=("Gemm",) * 6))
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    places = [box.get_path().vertices[:, 0] for box in axes.patches]
    assert low <= min(p.min() for p in places) and max(p.max() for p in places) <= high


def test_what_is_silent_is_not_shown() -> None:
    drawn = graph("Constant", "Loop", "Identity")
    assert [node.op_type for node in shown(drawn)] == ["Loop"]
    assert [node.op_type for node in shown(body_of(shown(drawn)[0]))] == ["Gemm", "Tanh"]


@pytest.mark.parametrize("kinds", [("Gemm",), ("Loop", "Loop")])
def test_a_graph_needs_one_loop(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="exactly one Loop"):
        draw_loop(new_figure().subplots(), graph(*kinds))

"""An ONNX graph with one Loop as a drawing: a row of boxes, and the body of the Loop in a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from eqprop_lab.notebook.style import NEUTRAL, PALETTE

_STRIDE, _HEIGHT, _ABOVE, _BELOW = 1.5, 0.5, 1.9, 0.3
_SHORT = 7  # letters that fit into a box
SILENT = ("Constant", "Identity")  # they hold or hand on


def shown(graph: Any) -> list[Any]:
    """The nodes of a graph that compute something."""
    return [node for node in graph.node if node.op_type not in SILENT]


def body_of(loop: Any) -> Any:
    """The graph of one trip."""
    (body,) = (part.g for part in loop.attribute if part.name == "body")
    return body


def draw_loop(axes: Axes, graph: Any, note: str = "") -> None:
    """Draw `graph` (an onnx.GraphProto of a chain of nodes, one of them a Loop) on empty axes.

    note: stands beside the body. Raises ValueError unless there is exactly one Loop.
    """
    nodes = shown(graph)
    places = [place for place, node in enumerate(nodes) if node.op_type == "Loop"]
    if len(places) != 1:
        raise ValueError(f"graph must have exactly one Loop, got {len(places)}")
    inner, middle = shown(body_of(nodes[places[0]])), _STRIDE * places[0] + 0.5
    _row(axes, nodes, 0.0, _ABOVE, PALETTE[0])
    half = (_STRIDE * len(inner) - 0.5) / 2
    _row(axes, inner, middle - half, _BELOW, PALETTE[1])
    _box(axes, middle - half - 0.4, -0.1, 2 * half + 0.8, 1.2, NEUTRAL, "--")
    ends = (middle - half + 0.5, _BELOW - 0.1), (middle + half - 0.5, _BELOW - 0.1)
    back = {"arrowstyle": "-|>", "color": NEUTRAL, "connectionstyle": "arc3,rad=-0.15"}
    axes.annotate("", *ends, arrowprops=back)
    axes.plot([middle, middle], [1.2, _ABOVE - 0.1], ":", color=NEUTRAL)
    axes.text(middle + half + 0.7, 0.55, note, va="center")
    last = _STRIDE * len(nodes)
    axes.text(-0.25, _ABOVE + 0.25, graph.input[0].name, ha="right", va="center")
    axes.text(last - 0.3, _ABOVE + 0.25, graph.output[0].name, va="center")
    right = max(last + 0.6, middle + half + (2.2 if note else 0.6))
    axes.set(xlim=(min(-0.6, middle - half - 0.6), right), ylim=(-0.2, 2.6))
    axes.set_axis_off()


def _row(axes: Axes, nodes: Sequence[Any], left: float, bottom: float, colour: str) -> None:
    """The nodes as boxes with arrows between them."""
    for place, node in enumerate(nodes):
        x, y = left + _STRIDE * place, bottom + _HEIGHT / 2
        _box(axes, x, bottom, 1.0, _HEIGHT, colour, "-")
        size = "medium" if len(node.op_type) <= _SHORT else "small"
        axes.text(x + 0.5, y, node.op_type, ha="center", va="center", size=size)
        if place:
            look = {"arrowstyle": "-|>", "color": NEUTRAL}
            axes.annotate("", (x - 0.1, y), (x - 0.4, y), arrowprops=look)


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, colour: str, line: str
) -> None:
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linestyle": line}
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.08", linewidth=1.8, **look)
    )

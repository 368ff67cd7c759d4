"""A relaxation in a traced graph: one step between two marks, folded into an ONNX Loop afterwards.

    s_0 -> Enter -> step -> Leave -> z    becomes    s_0 -> Loop(T trips, body: step) -> z

What the step reads of the drive and of the weights is computed before the loop and seen from inside
it; a file is as large as one step, however many there are. (torch's own while_loop refuses models
whose steps read a weight and its transpose, or write into what they have just made.)
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.state import State

DOMAIN = "eqprop_lab"
ENTER, LEAVE = "Enter", "Leave"


def relaxed(model: EquilibriumModel, x: Tensor, steps: int, unroll: bool) -> State:
    """The state after `steps` plain steps, as a traced graph has it: marked, or step after step;
    none where a model begins at rest.
    """
    with model.frozen_weights():
        drive = model.drive(x)
        state = model.initial_state(drive)
        if model.starts_at_rest:
            return state
        if not unroll:
            return _mark(LEAVE, model.step(_mark(ENTER, state, steps), drive), steps)
        for _ in range(steps):
            state = model.step(state, drive)
    return state


def _mark(kind: str, state: State, steps: int) -> State:
    """The same state behind a node of its own, which no other tool knows."""
    marked = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{kind}",
        state,
        {"steps": steps},
        dtypes=[block.dtype for block in state],
        shapes=[block.shape for block in state],
        version=1,
    )
    return tuple(marked)


def fold(model: ir.Model) -> int:
    """Put a Loop in the place of each pair of marks, in place; returns how many there are."""
    graph = model.graph
    pairs = list(zip(_marks(graph, ENTER), _marks(graph, LEAVE), strict=True))
    for number, (enter, leave) in enumerate(pairs):
        _fold(graph, enter, leave, f"relaxation{number}")
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    return len(pairs)


def _marks(graph: ir.Graph, kind: str) -> list[ir.Node]:
    return [node for node in graph if (node.domain, node.op_type) == (DOMAIN, kind)]


def _fold(graph: ir.Graph, enter: ir.Node, leave: ir.Node, name: str) -> None:
    trips = ir.Node(
        "", "Constant", [], [ir.AttrInt64("value_int", enter.attributes["steps"].as_int())]
    )
    _named(trips.outputs[0], f"{name}_steps", ir.Shape(()), ir.TensorType(ir.DataType.INT64))
    body = _body(graph, enter, leave, name)
    loop = ir.Node(
        "",
        "Loop",
        [trips.outputs[0], None, *enter.inputs],
        [ir.AttrGraph("body", body)],
        num_outputs=len(leave.outputs),
        name=name,
    )
    for number, (old, new) in enumerate(zip(leave.outputs, loop.outputs, strict=True)):
        _named(new, f"{name}_end{number}", old.shape, old.type)
    graph.insert_before(leave, [trips, loop])
    ir.convenience.replace_all_uses_with(leave.outputs, loop.outputs)
    graph.remove([leave, enter], safe=True)


def _body(graph: ir.Graph, enter: ir.Node, leave: ir.Node, name: str) -> ir.Graph:
    """(trip, go on, s) -> (go on, step(s)), with the nodes taken out of `graph`."""
    nodes = list(_between(graph, enter, leave))
    graph.remove(nodes)
    trip, on = ir.Value(), ir.Value()
    _named(trip, f"{name}_trip", ir.Shape(()), ir.TensorType(ir.DataType.INT64))
    _named(on, f"{name}_on", ir.Shape(()), ir.TensorType(ir.DataType.BOOL))
    carried = [ir.Value() for _ in enter.outputs]
    for number, (old, new) in enumerate(zip(enter.outputs, carried, strict=True)):
        _named(new, f"{name}_state{number}", old.shape, old.type)
    ir.convenience.replace_all_uses_with(enter.outputs, carried)
    # what a Loop gives back must have been made in its body: a clamped block has not
    made = {value for node in nodes for value in node.outputs}
    ends = [ir.Node("", "Identity", [v]) for v in (on, *leave.inputs) if v not in made]
    copies = iter(ends)
    outputs = [v if v in made else next(copies).outputs[0] for v in (on, *leave.inputs)]
    for number, (end, like) in enumerate(zip(outputs, (on, *leave.outputs), strict=True)):
        _named(end, f"{name}_next{number}", like.shape, like.type)
    return ir.Graph([trip, on, *carried], outputs, nodes=[*nodes, *ends], name=f"{name}_step")


def _between(graph: ir.Graph, enter: ir.Node, leave: ir.Node) -> Iterator[ir.Node]:
    """The nodes that depend on the state behind `enter`, up to `leave`."""
    known = set(enter.outputs)
    for node in graph:
        if node is leave:
            return
        if not known.isdisjoint(node.inputs):
            known.update(node.outputs)
            yield node


def _named(
    value: ir.Value, name: str, shape: ir.Shape | None, kind: ir.TypeProtocol | None
) -> None:
    """Names are the graph's and its loops' together: a body sees what stands around it."""
    value.name, value.shape, value.type = name, shape, kind

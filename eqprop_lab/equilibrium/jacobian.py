"""The linearised step at a fixed point: products with the Jacobian of the force and of the
activation.

    s = activate(a),  a = force(s):      N = d activate/da,   J = d force/ds

Both at the fixed point, never formed. What the response, the adjoint and the asymmetric estimator
need, for any model that keeps the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.state import State

Product = Callable[[State], State]


class PartProduct(Protocol):
    """A product that may be asked for some of its blocks."""

    def __call__(self, v: State, blocks: Sequence[int] | None = None) -> State: ...


def filled(values: Sequence[Tensor | None], like: State) -> State:
    """The values, zero where autograd has none."""
    return tuple(torch.zeros_like(s) if v is None else v for v, s in zip(values, like, strict=True))


def leaves_of(state: State) -> State:
    """The blocks of a state where a graph begins."""
    return tuple(block.detach().requires_grad_() for block in state)


def force_vjp(model: EquilibriumModel, state: State, drive: State) -> PartProduct:
    """v -> J^T v at `state`, in some blocks (None: all), from one graph that is built once."""
    with torch.enable_grad():
        leaves = leaves_of(state)
        forces = model.force(leaves, drive)
    return pulled_back(forces, leaves)


def pulled_back(forces: State, leaves: State) -> PartProduct:
    """v -> J^T v of forces that have a graph to the blocks of a state."""

    def product(v: State, blocks: Sequence[int] | None = None) -> State:
        wanted = leaves if blocks is None else tuple(leaves[block] for block in blocks)
        grads = torch.autograd.grad(forces, wanted, v, retain_graph=True, allow_unused=True)
        return filled(grads, wanted)

    return product


def force_jvp(model: EquilibriumModel, state: State, drive: State) -> Product:
    """v -> J v at `state`. Where the force is affine in the state, J v is the force of v under a
    drive of zero.
    """
    if model.affine_force:
        silent = tuple(torch.zeros_like(block) for block in drive)
        return lambda v: model.force(v, silent)
    with torch.enable_grad():
        leaves = leaves_of(state)
        forces = model.force(leaves, drive)
        # J v is the derivative of w -> J^T w along v: one graph of the transposed product serves
        # every v.
        probes = tuple(torch.zeros_like(f).requires_grad_() for f in forces)
        pulled = torch.autograd.grad(forces, leaves, probes, create_graph=True, allow_unused=True)
    used = [i for i, p in enumerate(pulled) if p is not None]

    def product(v: State) -> State:
        rows = [pulled[i] for i in used]
        given = [v[i] for i in used]
        return filled(
            torch.autograd.grad(rows, probes, given, retain_graph=True, allow_unused=True), state
        )

    return product


def activation_product(
    model: EquilibriumModel, state: State, drive: State, blocks: Sequence[int] | None = None
) -> Product:
    """v -> N v of these blocks (None: all) at the fixed point `state`. N is symmetric: a monotone
    activation is the gradient of a potential.
    """
    chosen = range(len(state)) if blocks is None else blocks
    slopes = model.activation_slope(state)
    if slopes is not None:
        return lambda v: tuple(slopes[block] * u for block, u in zip(chosen, v, strict=True))
    known = model.activation_product(tuple(state[block] for block in chosen))
    if known is not None:
        return known
    with torch.enable_grad():
        forces = model.force(state, drive)
        leaves = leaves_of(tuple(forces[block] for block in chosen))
        outputs = tuple(model.activate(a) for a in leaves)
    return lambda v: tuple(torch.autograd.grad(outputs, leaves, v, retain_graph=True))

"""The linearised step at a fixed point: products with the Jacobian of the force and of the
activation.

    s = activate(a),  a = force(s):      N = d activate/da,   J = d force/ds

Both at the fixed point, never formed. What the response, the adjoint and the asymmetric estimator
need, for any model that keeps the contract.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.state import State

Product = Callable[[State], State]


def _filled(values: tuple[Tensor | None, ...], like: State) -> State:
    return tuple(torch.zeros_like(s) if v is None else v for v, s in zip(values, like, strict=True))


def _leaves(state: State) -> State:
    return tuple(block.detach().requires_grad_() for block in state)


def force_vjp(model: EquilibriumModel, state: State, drive: State) -> Product:
    """v -> J^T v at `state`, from one graph that is built once."""
    with torch.enable_grad():
        leaves = _leaves(state)
        forces = model.force(leaves, drive)

    def product(v: State) -> State:
        return _filled(
            torch.autograd.grad(forces, leaves, v, retain_graph=True, allow_unused=True), state
        )

    return product


def force_jvp(model: EquilibriumModel, state: State, drive: State) -> Product:
    """v -> J v at `state`. Where the force is affine in the state, J v is the force of v under a
    drive of zero.
    """
    if model.affine_force:
        silent = tuple(torch.zeros_like(block) for block in drive)
        return lambda v: model.force(v, silent)
    with torch.enable_grad():
        leaves = _leaves(state)
        forces = model.force(leaves, drive)
        # J v is the derivative of w -> J^T w along v: one graph of the transposed product serves
        # every v.
        probes = tuple(torch.zeros_like(f).requires_grad_() for f in forces)
        pulled = torch.autograd.grad(forces, leaves, probes, create_graph=True, allow_unused=True)
    used = [i for i, p in enumerate(pulled) if p is not None]

    def product(v: State) -> State:
        rows = [pulled[i] for i in used]
        given = [v[i] for i in used]
        return _filled(
            torch.autograd.grad(rows, probes, given, retain_graph=True, allow_unused=True), state
        )

    return product


def activation_product(model: EquilibriumModel, state: State, drive: State) -> Product:
    """v -> N v at the fixed point `state`. N is symmetric: a monotone activation is the gradient of
    a potential.
    """
    slopes = model.activation_slope(state)
    if slopes is not None:
        return lambda v: tuple(slope * block for slope, block in zip(slopes, v, strict=True))
    known = model.activation_product(state)
    if known is not None:
        return known
    with torch.enable_grad():
        leaves = _leaves(model.force(state, drive))
        outputs = tuple(model.activate(a) for a in leaves)
    return lambda v: tuple(torch.autograd.grad(outputs, leaves, v, retain_graph=True))

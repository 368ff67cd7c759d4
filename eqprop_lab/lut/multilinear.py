"""The multilinear extension of n-input tables, all nodes of a layer at once, with its gradient in
closed form.

    f(x) = sum_a W[a] prod_j x_j^(a_j) (1 - x_j)^(1 - a_j),      a_j = (a >> j) & 1

On bits it is the look-up W[address(x)]; between them it is the mean of the look-ups of independent
bits that are 1 with probability x_j. The pins are cut in two halves, W into a matrix:

    f = hi^T W lo,   dW = hi lo^T,   dlo = W^T hi,   dhi = W lo

so that no product of all n pins is ever stored; the way back goes through BLOCK nodes at a time,
whose products stay in the cache, and makes them anew. As a node: the stochastic LUT of BinaryBrain
(Fuchikami, 2018); two inputs are the light form of arXiv:2510.03250.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 256


def _block(table: Tensor) -> int:
    """Nodes at a time. A GPU takes all of them: what it waits for is the number of its launches."""
    return BLOCK if table.device.type == "cpu" else len(table)


def multilinear(pins: Tensor, table: Tensor) -> Tensor:
    """f of every node: pins (n, O, B) in [0, 1], table (O, 2^n), lowest bit first -> (O, B)."""
    if torch.is_grad_enabled() and (pins.requires_grad or table.requires_grad):
        value: Tensor = _Multilinear.apply(pins, table)
        return value
    return _value(pins, table)


def products(pins: Tensor, start: Tensor) -> Tensor:
    """start (O, B) times prod_j x_j^(a_j) (1 - x_j)^(1 - a_j): pins (m, O, B) -> (O, 2^m, B)."""
    return _doubled(pins, start)[-1]


def _doubled(pins: Tensor, start: Tensor) -> list[Tensor]:
    """`products` of the first 0, 1, ..., m pins."""
    found = [start.unsqueeze(1)]
    for pin in pins:
        ones = found[-1] * pin.unsqueeze(1)
        found.append(torch.cat([found[-1] - ones, ones], 1))
    return found


def _value(pins: Tensor, table: Tensor) -> Tensor:
    """hi^T W lo; one high pin after the other mixes the upper half of W lo into the lower."""
    low = len(pins) // 2
    lo = products(pins[:low], torch.ones_like(pins[0]))
    value = torch.bmm(table.reshape(len(table), -1, 2**low), lo)
    for pin in pins[low:].flip(0):
        half = value.shape[1] // 2
        value = torch.lerp(value[:, :half], value[:, half:], pin.unsqueeze(1))
    return value.squeeze(1)


def _by_pins(gradient: Tensor, pins: Tensor, found: list[Tensor], out: Tensor) -> None:
    """Gradients of the pins (m, O, B) into `out`, from that of their products (O, 2^m, B).

    found: `_doubled` of the pins.
    """
    for number in range(len(pins) - 1, -1, -1):
        half = gradient.shape[1] // 2
        lower = gradient[:, :half]
        difference = gradient[:, half:] - lower
        torch.sum(difference * found[number], 1, out=out[number])
        if number:
            gradient = torch.addcmul(lower, difference, pins[number].unsqueeze(1))


def _gradients(pins: Tensor, table: Tensor, gradient: Tensor, out: Tensor | None) -> Tensor:
    """Gradient of the table (O, 2^n); that of the pins goes into `out` where there is one."""
    low = len(pins) // 2
    matrix = table.reshape(len(table), -1, 2**low)
    lo = _doubled(pins[:low], torch.ones_like(gradient))
    hi = _doubled(pins[low:], gradient)  # every use of hi has the gradient for a factor
    if out is not None:
        _by_pins(torch.bmm(matrix.transpose(1, 2), hi[-1]), pins[:low], lo, out[:low])
        _by_pins(torch.bmm(matrix, lo[-1]), pins[low:], hi, out[low:])
    return torch.bmm(hi[-1], lo[-1].transpose(1, 2)).view_as(table)


class _Multilinear(torch.autograd.Function):
    """`multilinear`; keeps no more than its arguments."""

    @staticmethod
    def forward(ctx: Any, pins: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(pins, table)
        block = _block(table)
        parts = zip(pins.split(block, 1), table.split(block), strict=True)
        return torch.cat([_value(*part) for part in parts])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        pins, table = ctx.saved_tensors
        by_pins = torch.empty_like(pins) if ctx.needs_input_grad[0] else None
        by_table = torch.empty_like(table)
        block = _block(table)
        for start in range(0, len(table), block):
            nodes = slice(start, start + block)
            out = None if by_pins is None else by_pins[:, nodes]
            by_table[nodes] = _gradients(pins[:, nodes], table[nodes], gradients[0][nodes], out)
        return by_pins, by_table

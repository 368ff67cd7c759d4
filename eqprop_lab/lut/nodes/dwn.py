"""Nodes that read their pins as bits, also in training, and what they tell the layer below.

    dwn     y = L[address(x)],   dy/dx_j = alpha sum_k (2 k_j - 1) beta^H(address, k) L_k
    hybrid  y = sigmoid(z)[address(x)],   dy/dx = that of the multilinear extension at x

H counts the bits other than j in which two addresses differ. This extended finite difference (DWN,
arXiv:2410.11112) is alpha (1 + beta)^(n - 1) times the gradient of the multilinear extension where
every bit is moved inwards, to 1 / (1 + beta) and beta / (1 + beta): far entries count less. For a
table it is a table again, one look-up a sample.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.lut.multilinear import multilinear
from eqprop_lab.lut.nodes.base import EntryNodes, address, look_up
from eqprop_lab.lut.nodes.linear import corners
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import real, switch

BETA = 1 / 3  # with alpha = 1/2 (3/4)^(n - 1), the factor before the multilinear gradient is 1/2


def efd(pins: Tensor, table: Tensor, beta: float = BETA) -> Tensor:
    """Entries (O, B) at the addresses of pins (n, O, B), with the gradient of the text above.

    table (O, 2^n); beta: 0 is the difference between the two entries that the pin chooses between,
    1 counts all entries alike.
    """
    found: Tensor = _EFD.apply(pins, table, beta)
    return found


@lru_cache(maxsize=32)
def _weights(inputs: int, beta: float) -> Tensor:
    """M (2^n, n 2^n): L M are the gradients of all pins at all addresses."""
    bits = corners(inputs)
    differ = bits[:, None] != bits[None]  # entry k, address, pin
    parts = []
    for pin in range(inputs):
        others = differ.sum(2) - differ[:, :, pin].long()
        # 0^0 is 1: with beta = 0 only entries that differ in no other bit count
        parts.append((2 * bits[:, pin : pin + 1] - 1) * torch.pow(beta, others.float()))
    alpha = 0.5 / (1 + beta) ** (inputs - 1)
    return alpha * torch.cat(parts, 1)


class _EFD(torch.autograd.Function):
    """`efd`; keeps addresses and the table."""

    @staticmethod
    def forward(ctx: Any, pins: Tensor, table: Tensor, beta: float) -> Tensor:
        where = address(pins)
        ctx.save_for_backward(where, table)
        ctx.inputs, ctx.beta = len(pins), beta
        return table.gather(1, where)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        where, table = ctx.saved_tensors
        (gradient,) = gradients
        by_table = torch.zeros_like(table).scatter_add_(1, where, gradient)
        if not ctx.needs_input_grad[0]:
            return None, by_table, None
        matrix = _weights(ctx.inputs, ctx.beta).to(table)
        slopes = (table @ matrix).view(len(table), ctx.inputs, -1)
        by_pins = [slopes[:, pin].gather(1, where) * gradient for pin in range(ctx.inputs)]
        return torch.stack(by_pins), by_table, None


@REGISTRY.register_node("dwn")
class DWNNodes(EntryNodes):
    """Entries in [0, 1], held there; a bit is a 1 from 0.5 on.

    Args: beta in [0, 1], see `efd`. sign: the output of training is a bit too, with the gradient of
    the entry, so that soft and hard network are one.
    """

    default_init = ("uniform", {"low": 0.0, "high": 1.0})
    has_temperature = False
    has_pins_between = False
    turn = 0.5

    def __init__(self, count: int, inputs: int, beta: float = BETA, sign: bool = False) -> None:
        super().__init__(count, inputs)
        self.beta = real("beta", beta, at_least=0.0, at_most=1.0)
        self.sign = switch("sign", sign)

    def logits(self) -> Tensor:
        return self.theta - self.turn

    def set_logits(self, logits: Tensor) -> None:
        with torch.no_grad():
            self.theta.copy_(torch.sigmoid(logits))

    def table(self, temperature: float) -> Tensor:
        return self.theta.clamp(0, 1)

    def soft(self, pins: Tensor, temperature: float) -> Tensor:
        if self.training:
            with torch.no_grad():  # an entry outside would take as long to come back
                self.theta.clamp_(0, 1)
        found = efd(pins, self.theta, self.beta)
        return (
            found + ((found >= self.turn).to(found.dtype) - found).detach() if self.sign else found
        )


@REGISTRY.register_node("hybrid")
class HybridNodes(EntryNodes):
    """Looked up forward, multilinear backward, at the pins as they are."""

    default_init = ("normal", {"std": 0.1})
    has_pins_between = False

    def soft(self, pins: Tensor, temperature: float) -> Tensor:
        table = self.table(temperature)
        if not torch.is_grad_enabled():
            return look_up(pins, table)
        between = multilinear(pins, table)
        return between + (look_up(pins, table) - between).detach()

"""What every kind of node is: a table of 2^n entries that can be learned.

    address(x) = sum_j x_j 2^j        the lowest bit first, everywhere
    bits       = logits >= 0          what the hard network looks up
    table      = sigmoid(logits / T)  probability of a 1

A kind says what its logits are made of, and what its nodes give for pins between 0 and 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.lut.multilinear import multilinear
from eqprop_lab.validation import integer, positive_int

MOST_INPUTS = 8


def address(pins: Tensor) -> Tensor:
    """(O, B) int64 from pins (n, O, B); a pin is a 1 from 0.5 on."""
    bits = (pins >= 0.5).long()
    found = bits[0]
    for number, bit in enumerate(bits[1:], start=1):
        found = found + bit * 2**number
    return found


def look_up(pins: Tensor, table: Tensor) -> Tensor:
    """Entry (O, B) of each node's table (O, 2^n) at the address of its pins (n, O, B)."""
    return table.gather(1, address(pins))


class LUTNodes(nn.Module, ABC):
    """The nodes of one layer.

    Args: count: nodes O. inputs: n of each, 1 to 8.
    Raises: TypeError, ValueError naming the argument.
    """

    default_init: tuple[str, dict[str, float]] = ("normal", {"std": 1.0})
    has_temperature = True
    has_pins_between = True  # False: reads every pin as a bit
    turn: float | None = None  # where a parameter is an entry: a bit is a 1 from this value on
    fan_out = 1.0  # pins an output feeds on average; some initialisers ask

    def __init__(self, count: int, inputs: int) -> None:
        super().__init__()
        self.count = positive_int("count", count)
        self.inputs = integer(
            "inputs", inputs, at_most=MOST_INPUTS, accepted="an integer from 1 to 8 (2^n entries)"
        )

    @property
    def entries(self) -> int:
        """2^n."""
        return int(2**self.inputs)

    @abstractmethod
    def logits(self) -> Tensor:
        """(O, 2^n), differentiable; an entry is a 1 where its logit is at least 0."""

    @abstractmethod
    def set_logits(self, logits: Tensor) -> None:
        """Take the parameters whose logits are nearest to these (O, 2^n)."""

    def soft(self, pins: Tensor, temperature: float) -> Tensor:
        """(O, B) in [0, 1] for pins (n, O, B) in [0, 1]; on bits, the entry of `table`."""
        return multilinear(pins, self.table(temperature))

    def table(self, temperature: float) -> Tensor:
        """Probability of a 1 for every entry, (O, 2^n)."""
        return torch.sigmoid(self.logits() / temperature)

    def bits(self) -> Tensor:
        """The truth tables, (O, 2^n) of bool."""
        return self.logits() >= 0

    def hard(self, pins: Tensor) -> Tensor:
        """(O, B) of 0 and 1: the truth tables looked up."""
        return look_up(pins, self.bits()).to(pins.dtype)

    def noisy_table(self, temperature: float, noise: bool, hard: bool) -> Tensor:
        """`table`, with logistic noise on the logits, with bits forward and its gradient backward.

        A noisy hard entry is a 1 with the probability of the table: the Gumbel trick for two
        outcomes (arXiv:2506.07500).
        """
        logits = self.logits()
        if noise:
            uniform = torch.rand_like(logits).clamp_(1e-6, 1 - 1e-6)
            logits = logits + temperature * torch.logit(uniform)
        soft = torch.sigmoid(logits / temperature)
        return soft + ((logits >= 0).to(soft.dtype) - soft).detach() if hard else soft

    def check(self, settings: Any) -> None:
        """Raise ValueError for a runtime parameter that would change nothing, or break these."""
        kind = type(self).__name__
        if settings.temperature != 1 and not self.has_temperature:
            raise ValueError(f"temperature must be 1 for {kind}, whose entries have none")
        if self.has_pins_between:
            return
        if settings.dropout > 0:
            raise ValueError(f"dropout must be 0 for {kind}, which reads bits: 1/2 is none")
        if settings.forward_mode != "soft":
            raise ValueError(
                f"forward_mode must be 'soft' for {kind}, which reads and looks up bits already"
            )

    def extra_repr(self) -> str:
        return f"{self.count} nodes of {self.inputs} inputs"


class EntryNodes(LUTNodes):
    """Nodes with one parameter an entry, theta (O, 2^n): its logit."""

    turn: float = 0.0

    def __init__(self, count: int, inputs: int) -> None:
        super().__init__(count, inputs)
        self.theta = nn.Parameter(torch.zeros(self.count, self.entries))

    def logits(self) -> Tensor:
        return self.theta

    def set_logits(self, logits: Tensor) -> None:
        with torch.no_grad():
            self.theta.copy_(logits)

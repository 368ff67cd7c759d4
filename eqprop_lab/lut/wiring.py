"""Which input every pin reads, drawn so that no input is left out.

    pins[j, i] = x[index[j, i]]         pin j of node i

Every input is read floor or ceil of O n / inputs times, and no node reads one twice while it has
fewer pins than there are inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def balanced(inputs: int, nodes: int, pins: int, generator: torch.Generator) -> Tensor:
    """(n, O) int32 of input numbers, drawn: `dealt` from random permutations."""
    return dealt(
        inputs,
        nodes,
        pins,
        lambda turn: torch.randperm(inputs, generator=generator, device="cpu"),
    )


def butterfly(inputs: int, nodes: int, pins: int, number: int) -> Tensor:
    """(n, O) int32: `dealt` in turns whose inputs stand n^(number + turn) apart.

    Neighbours in the first layer, outputs of different nodes in the next: L layers of as many nodes
    mix n^L inputs before any is read twice.
    """
    levels = max(1, math.ceil(math.log(inputs) / math.log(pins))) if min(inputs, pins) > 1 else 1

    def order(turn: int) -> Tensor:
        apart = pins ** ((number + turn) % levels)
        return torch.cat([torch.arange(r, inputs, apart, device="cpu") for r in range(apart)])

    return dealt(inputs, nodes, pins, order)


def dealt(inputs: int, nodes: int, pins: int, order: Callable[[int], Tensor]) -> Tensor:
    """(n, O) int32 of input numbers, every input read floor or ceil of O n / inputs times.

    Node after node is filled from one permutation of the inputs after the other, order(0),
    order(1), ...; where one ends inside a node, the next begins with inputs that the node does not
    have yet.
    """
    needed = nodes * pins
    parts: list[Tensor] = []
    count = 0
    while count < needed:
        fresh = order(len(parts))
        begun = count % pins
        if begun and pins <= inputs:
            had = torch.cat(parts[-1:])[-begun:]
            new = fresh[~torch.isin(fresh, had)][: pins - begun]
            fresh = torch.cat([new, fresh[~torch.isin(fresh, new)]])
        parts.append(fresh)
        count += inputs
    found = torch.cat(parts)[:needed].view(nodes, pins)
    return found.t().contiguous().to(torch.int32)


class FixedWiring(nn.Module):
    """Pins that read what they were given: x (inputs, B) -> (n, O, B).

    index (n, O) is a buffer: it travels with the weights.
    """

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def indices(self) -> Tensor:
        """The input of every pin, (n, O)."""
        return self.index

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.index.flatten()).view(*self.index.shape, -1)

    def extra_repr(self) -> str:
        return "{1} nodes of {0} pins".format(*self.index.shape)

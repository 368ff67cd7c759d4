"""Which input every pin reads, drawn so that no input is left out.

    pins[j, i] = x[index[j, i]]         pin j of node i

Every input is read floor or ceil of O n / inputs times, and no node reads one twice while it has
fewer pins than there are inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def balanced(inputs: int, nodes: int, pins: int, generator: torch.Generator) -> Tensor:
    """(n, O) int32 of input numbers.

    Node after node is filled from one permutation of the inputs after the other; where one ends
    inside a node, the next begins with inputs that the node does not have yet.
    """
    needed = nodes * pins
    parts: list[Tensor] = []
    count = 0
    while count < needed:
        fresh = torch.randperm(inputs, generator=generator, device="cpu")
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

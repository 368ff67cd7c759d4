"""Two-input nodes that choose among all 16 gates.

    table = softmax(w / T) G,   G (16, 4) the truth tables;   hard: the gate of the largest w

Gate i has the output bits i >> 3, i >> 2, i >> 1, i for (a, b) = 00, 01, 10, 11; a is the first
pin. Source: DiffLogic, arXiv:2210.08277.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from eqprop_lab.lut.nodes.base import LUTNodes
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import shown

GATES = 16


def gate_tables() -> Tensor:
    """G (16, 4), the first pin the lowest bit of an address."""
    number = torch.arange(GATES)
    outputs = [number >> shift & 1 for shift in (3, 1, 2, 0)]  # addresses a + 2 b
    return torch.stack(outputs, 1).float()


@REGISTRY.register_node("difflogic")
class GateNodes(LUTNodes):
    """A mixture of the 16 gates of two inputs."""

    gates: Tensor

    def __init__(self, count: int, inputs: int) -> None:
        super().__init__(count, inputs)
        if self.inputs != 2:
            raise ValueError(f"inputs must be 2 for gates of two inputs, got {shown(inputs)}")
        self.register_buffer("gates", gate_tables(), persistent=False)
        self.theta = nn.Parameter(torch.zeros(self.count, GATES))

    def logits(self) -> Tensor:
        return self.theta @ (2 * self.gates - 1)

    def set_logits(self, logits: Tensor) -> None:
        with torch.no_grad():
            self.theta.copy_(logits @ (2 * self.gates - 1).T / 2)

    def table(self, temperature: float) -> Tensor:
        return torch.softmax(self.theta / temperature, 1) @ self.gates

    def bits(self) -> Tensor:
        return self.gates[self.theta.argmax(1)] > 0.5

    def noisy_table(self, temperature: float, noise: bool, hard: bool) -> Tensor:
        score: Tensor = self.theta
        if noise:
            uniform = torch.rand_like(score).clamp_(1e-6, 1 - 1e-6)
            score = score - temperature * (-uniform.log()).log()
        soft = torch.softmax(score / temperature, 1)
        if hard:
            soft = soft + (one_hot(score.argmax(1), GATES).to(soft.dtype) - soft).detach()
        return soft @ self.gates

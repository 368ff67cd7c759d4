"""From bits to logits: each class counts its outputs.

    z_k = sum of the outputs of class k / tau

Outputs are cut into one run a class. Where they do not divide evenly the first runs are one longer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.validation import positive_int, real


class GroupSum(nn.Module):
    """x (B, O) -> z (B, K). classes: K; tau > 0."""

    def __init__(self, classes: int, tau: float = 1.0) -> None:
        super().__init__()
        self.classes = positive_int("classes", classes)
        self.tau = real("tau", tau, above=0.0)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.t()
        if len(rows) % self.classes == 0:
            sums = rows.reshape(self.classes, -1, x.shape[0]).sum(1)
        else:
            sums = torch.stack([part.sum(0) for part in rows.tensor_split(self.classes)])
        return sums.t() / self.tau

    def extra_repr(self) -> str:
        return f"{self.classes} classes, tau {self.tau:g}"

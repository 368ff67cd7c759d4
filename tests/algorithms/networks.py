"""Small networks under every rule, and a reference that shares nothing with them but their
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eqprop_lab.algorithms import BioplausibleModel, list_algorithms

RULES = list_algorithms()
SIZES = (12, [9, 7], 4)
generator = torch.Generator().manual_seed(3)
X = torch.randn(8, 12, generator=generator)
Y = torch.randint(4, (8,), generator=generator)
RHO: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}
BOUNDS = [False, True]


def hidden(name: str) -> list[int]:
    """Two hidden layers, one for the rule that has one."""
    return [9] if name == "eq_align" else SIZES[1]


def made(name: str, seed: int = 0, **options: Any) -> BioplausibleModel:
    """The rule on a network 12-9-7-4, with biases that are not zero."""
    model = BioplausibleModel(name, 12, hidden(name), 4, seed=seed, **options)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=noise))
    return model


def gradients(model: BioplausibleModel, x: Tensor = X, y: Tensor = Y) -> dict[str, Tensor]:
    """Its local gradients, in its own dtype; the same random masks each time."""
    torch.manual_seed(0)
    return model.local_gradients(x.to(next(model.parameters()).dtype), y)


def leaves(model: BioplausibleModel) -> dict[str, Tensor]:
    """Its parameters as fresh leaves."""
    return {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}


def bounded(original: Tensor, cap: float) -> Tensor:
    """A / sqrt(1 + (1.02 ||A|| / cap)^2), the norm by LAPACK and differentiable."""
    sigma = torch.linalg.svdvals(original)[0]
    return original / torch.sqrt(1 + (1.02 * sigma / cap) ** 2)


def layers_of(tensors: Mapping[str, Tensor], cap: float) -> list[tuple[Tensor, Tensor]]:
    """(W_l, b_l) from named parameters, bounded where they are originals."""
    found = []
    for number in range(len(SIZES[1]) + 1):
        stem = f"rule.layers.{number}."
        original = tensors.get(f"{stem}parametrizations.weight.original")
        weight = tensors[f"{stem}weight"] if original is None else bounded(original, cap)
        found.append((weight, tensors[f"{stem}bias"]))
    return found


def by_autograd(loss: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of all tensors that the loss depends on."""
    found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    return {n: g for n, g in zip(tensors, found, strict=True) if g is not None}


def apart(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The largest relative error of a tensor."""
    errors = [(found[n] - g).norm() / g.norm() for n, g in wanted.items()]
    return float(max(errors))

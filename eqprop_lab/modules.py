"""What is asked of any torch module: that it is one, and to answer in eval mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def a_module(name: str, value: object) -> nn.Module:
    """`value` itself. Raises TypeError naming the argument for what is no module."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(value).__name__}")
    return value


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Inside, every module of the model is in eval mode; afterwards in the mode it had.

    Raises TypeError for what is no module.
    """
    before = [(module, module.training) for module in a_module("model", model).modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode

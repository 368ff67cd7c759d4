"""Models by name: registered, created, and refused with the nearest known name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from eqprop_lab import BackpropMLP, LoopedMLP, ModelRegistry, model_registry


def test_the_package_s_models_are_registered() -> None:
    assert {"BackpropMLP", "LoopedMLP"} <= set(model_registry.list_models())
    model = model_registry.create("LoopedMLP", input_dim=4, hidden_dim=5, output_dim=2, rho=0.7)
    assert isinstance(model, LoopedMLP) and model.rho == 0.7
    assert isinstance(
        model_registry.create("BackpropMLP", input_dim=4, hidden_dim=5, output_dim=2), BackpropMLP
    )


def test_own_models_are_registered_by_decorator_or_call() -> None:
    registry = ModelRegistry()

    @registry.register("tiny")
    class Tiny(nn.Linear):
        def __init__(self, width: int = 3) -> None:
            super().__init__(width, 2)

    assert Tiny(4).in_features == 4  # the decorator hands the class back
    registry.register("free", lambda **sizes: nn.Linear(sizes["a"], 1))
    assert (
        registry.list_models() == ["free", "tiny"]
        and "tiny" in registry
        and "other" not in registry
    )
    assert registry.create("tiny", width=7).in_features == 7
    assert (
        registry.parameters("free") is None and registry.create("free", a=2, b=1).in_features == 2
    )
    registry.register("tiny", Tiny)  # the same once more, as when a notebook cell runs twice
    registry.unregister("tiny")
    assert registry.list_models() == ["free"]


def test_what_does_not_fit_is_named() -> None:
    registry = ModelRegistry()
    registry.register("LoopedMLP", LoopedMLP)
    with pytest.raises(ValueError, match="did you mean 'LoopedMLP'"):
        registry.create("LopedMLP")
    with pytest.raises(ValueError, match="did you mean 'hidden_dim'"):
        registry.create("LoopedMLP", hidden=3)
    with pytest.raises(ValueError, match="needs hidden_dim, output_dim; got input_dim"):
        registry.create("LoopedMLP", input_dim=3)
    with pytest.raises(ValueError, match="already"):
        registry.register("LoopedMLP", BackpropMLP)
    bad: list[tuple[Any, Any]] = [("", LoopedMLP), (3, LoopedMLP), ("x", "no class")]
    for name, factory in bad:
        with pytest.raises(TypeError, match="name must be|factory must be"):
            registry.register(name, factory)
    no_module: Any = lambda: torch.zeros(2)  # noqa: E731
    registry.register("tensor", no_module)
    with pytest.raises(TypeError, match="must return a torch.nn.Module, got Tensor"):
        registry.create("tensor")

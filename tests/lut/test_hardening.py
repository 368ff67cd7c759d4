"""Layers are hardened one by one, and the model is as it was afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eqprop_lab.lut import BaseLUTModel, ModelConfig, build_model
from eqprop_lab.lut.hardening import hardened


@pytest.fixture(scope="module")
def model() -> BaseLUTModel:
    config = ModelConfig(
        "feedforward", "random", "probabilistic", {"name": "thermometer"}, 3, [12, 9, 6], 2, seed=1
    )
    built = build_model(config)
    built.fit_encoder(torch.rand(30, 5))  # type: ignore[operator]
    return built.eval()


X = torch.rand(40, 5, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def found(model: BaseLUTModel, *how: Any) -> Tensor:
    with hardened(model, *how):
        logits: Tensor = model(X)
    return logits


@torch.no_grad()
def by_mode(model: BaseLUTModel, mode: str) -> Tensor:
    again = build_model(model.get_config(), overrides={"eval_mode": mode}).eval()
    again.load_state_dict(model.state_dict())
    logits: Tensor = again(X)
    return logits


def test_none_is_the_expectation_and_all_are_the_truth_tables(model: BaseLUTModel) -> None:
    torch.testing.assert_close(found(model, ()), by_mode(model, "expectation"))
    torch.testing.assert_close(found(model, (0, 1, 2)), by_mode(model, "threshold"))
    before = model(X)
    assert not torch.equal(found(model, ()), found(model, (0,)))
    assert torch.equal(model(X), before)


def test_a_hard_layer_hands_on_bits_and_the_soft_ones_after_it_do_not(model: BaseLUTModel) -> None:
    handed: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda *found: handed.append(found[2]))
        for layer in model.lut_layers()
    ]
    found(model, (1,))
    for hook in hooks:
        hook.remove()
    bits = [bool(((values == 0) | (values == 1)).all()) for values in handed]
    assert bits == [False, True, False]


def test_cold_tables_are_the_hard_ones(model: BaseLUTModel) -> None:
    torch.testing.assert_close(found(model, (), 1e-4), found(model, (0, 1, 2)))
    assert not torch.allclose(found(model, (), 5.0), found(model, ()))


def test_an_error_inside_leaves_the_model_as_it_was(model: BaseLUTModel) -> None:
    before = model(X)
    with pytest.raises(ZeroDivisionError), hardened(model, (), 3.0):
        1 / 0  # noqa: B018
    assert torch.equal(model(X), before)


@pytest.mark.parametrize("layers", [(3,), (-1,), ("0",), (True,)])
def test_a_layer_that_is_not_there_is_named(model: BaseLUTModel, layers: Any) -> None:
    with (
        pytest.raises(ValueError, match="layers must be numbers from 0 to 2"),
        hardened(model, layers),
    ):
        pass


def test_what_is_no_network_and_no_temperature_is_refused(model: BaseLUTModel) -> None:
    with (
        pytest.raises(TypeError, match="model must be a BaseLUTModel"),
        hardened(
            torch.nn.Linear(1, 1),
            (),  # type: ignore[arg-type]
        ),
    ):
        pass
    with pytest.raises(ValueError, match="temperature"), hardened(model, (), 0.0):
        pass

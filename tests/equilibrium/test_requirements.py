"""What estimators refuse of a model and around it: coarse numbers, autocast, inference_mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from eqprop_lab import (
    BackpropMLP,
    ConvEqProp,
    DeepEqProp,
    EqPropTrainer,
    EquilibriumBlock,
    EquilibriumModel,
    LoopedMLP,
    check_gradient,
    estimate_gradients,
)
from eqprop_lab.equilibrium.gradients import ESTIMATORS
from eqprop_lab.models.single_state import SingleStateConv
from eqprop_lab.training import BatchError

X, Y = (
    torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 2, 1, 0, 2]),
)
MODELS: dict[str, Callable[[], EquilibriumModel]] = {
    "LoopedMLP": lambda: LoopedMLP(64, 6, 3, seed=0),
    "DeepEqProp": lambda: DeepEqProp(64, [6, 5], 3, seed=0),
    "ConvEqProp": lambda: ConvEqProp(1, [3, 4], 3, image_size=8, seed=0),
    "SingleStateConv": lambda: SingleStateConv(1, 3, 3, image_size=8, seed=0),
}
ALL_MODELS = pytest.mark.parametrize("name", MODELS)
COARSE = [e for e in ESTIMATORS if e not in ("response", "implicit")]


def every_door(model: EquilibriumModel, x: torch.Tensor, estimator: str) -> list[Callable[[], Any]]:
    trainer = EqPropTrainer(model, estimator)
    return [
        lambda: estimate_gradients(model, x, Y, estimator),
        lambda: check_gradient(model, x, Y, estimator),
        lambda: trainer.fit([(x, Y)], 1),
        lambda: EquilibriumBlock(model, estimator)(x),
    ]


@ALL_MODELS
@pytest.mark.parametrize(
    ("dtype", "estimator"),
    [(torch.bfloat16, e) for e in COARSE] + [(torch.float16, e) for e in ESTIMATORS],
)
def test_coarse_numbers_are_refused_at_every_door(
    name: str, dtype: torch.dtype, estimator: str
) -> None:
    model = MODELS[name]().to(dtype)
    kind = str(dtype).removeprefix("torch.")
    for door in every_door(model, X.to(dtype), estimator):
        with pytest.raises(
            (ValueError, BatchError),
            match=f"estimator='{estimator}' is refused in {kind}: .* float32",
        ):
            door()


@ALL_MODELS
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_refused_at_every_door(name: str, estimator: str, dtype: torch.dtype) -> None:
    doors = every_door(MODELS[name](), X, estimator)
    with torch.autocast("cpu", dtype):
        for door in doors:
            with pytest.raises(
                (ValueError, BatchError), match=f"'{estimator}' is refused inside torch.autocast"
            ):
                door()


@pytest.mark.parametrize("estimator", ["response", "implicit"])
def test_bfloat16_is_enough_without_a_difference(estimator: str) -> None:
    model = MODELS["ConvEqProp"]()
    exact = estimate_gradients(model, X, Y, estimator)
    rounded = estimate_gradients(MODELS["ConvEqProp"]().bfloat16(), X.bfloat16(), Y, estimator)
    for key, value in exact.items():
        error = float((rounded[key].float() - value).norm() / value.norm())
        assert error < 0.05, f"{key}: {error:.1e}"


def test_autograd_may_be_cast() -> None:
    trainer = EqPropTrainer(BackpropMLP(64, 6, 3, seed=0), "autograd")
    with torch.autocast("cpu", torch.bfloat16):
        assert trainer.fit([(X, Y)], 1).epochs == 1


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
}


@ALL_MODELS
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("mode", MODES)
def test_estimators_work_where_no_graph_is_recorded(name: str, estimator: str, mode: str) -> None:
    model = MODELS[name]()
    expected = estimate_gradients(model, X, Y, estimator)
    with MODES[mode]():
        got = estimate_gradients(model, X.clone(), Y.clone(), estimator)
    assert not any(g.is_inference() for g in got.values())
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value)


@ALL_MODELS
def test_a_model_built_in_inference_mode_trains(name: str) -> None:
    with torch.inference_mode():
        model = MODELS[name]()
    twin = MODELS[name]()
    assert EqPropTrainer(model, "centered").fit([(X, Y)], 2) | {"seconds": 0} == EqPropTrainer(
        twin, "centered"
    ).fit([(X, Y)], 2) | {"seconds": 0}


def test_parameters_that_can_never_be_trained_are_named() -> None:
    with torch.inference_mode():
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    with pytest.raises(ValueError, match="model must not be built under torch.inference_mode"):
        EqPropTrainer(module, "autograd")


@pytest.mark.parametrize("gradient", ["centered", "autograd"])
def test_fit_in_inference_mode_is_refused(gradient: str) -> None:
    trainer = EqPropTrainer(MODELS["LoopedMLP"](), gradient)
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match="fit must be called outside torch.inference_mode"),
    ):
        trainer.fit([(X, Y)], 1)


@pytest.mark.parametrize("gradient", ["centered", "bptt", "autograd"])
@pytest.mark.parametrize("mode", [torch.no_grad, nullcontext])
def test_fit_works_under_no_grad(
    gradient: str, mode: Callable[[], AbstractContextManager[Any]]
) -> None:
    model = MODELS["LoopedMLP"]()
    before = model.W_out.weight.clone()
    with mode():
        EqPropTrainer(model, gradient).fit([(X, Y)], 1)
    assert not torch.equal(before, model.W_out.weight)


@ALL_MODELS
def test_a_look_in_inference_mode_between_two_updates_leaves_a_model_that_trains(name: str) -> None:
    model = MODELS[name]()
    trainer = EqPropTrainer(model, "bptt", "sgd", lr=0.1)
    trainer.fit([(X, Y)], 1)
    with torch.inference_mode():
        model(X)
    assert trainer.fit([(X, Y)], 1).epochs == 2


@pytest.mark.parametrize("module", [torch.nn.Flatten(), torch.nn.Identity(), torch.nn.Sequential()])
def test_a_module_without_parameters_is_refused(module: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="model must have parameters to train, .* has none"):
        EqPropTrainer(module, "autograd")

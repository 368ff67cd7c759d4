"""bfloat16 where it is safe, refused where it is not; the gradient clipped on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from eqprop_lab import (
    BackpropMLP,
    ConvEqProp,
    EqPropTrainer,
    EquilibriumModel,
    LoopedMLP,
    build_dataset,
    estimate_gradients,
)
from eqprop_lab.equilibrium.gradients import ESTIMATORS, estimate, make_settings
from eqprop_lab.equilibrium.spectral import bounded_weights
from eqprop_lab.models.single_state import SingleStateConv
from eqprop_lab.training.precision import LowPrecision
from tests.models.test_doors import matrix

DATA = build_dataset("digits")
X, Y = DATA.train.x[:64], DATA.train.y[:64]


def error(estimator: str, beta: float = 0.01) -> float:
    """Relative error of the gradient with rounded products, all parameters together."""
    model = LoopedMLP(64, 64, 10, seed=0)
    exact = estimate_gradients(model, X, Y, "response", free_steps=100, nudged_steps=100)
    rounded = estimate(LowPrecision(model), X, Y, estimator, make_settings(model, beta, 60, 30))[
        0
    ].gradients
    assert (
        all(g.dtype == torch.float32 for g in rounded.values()) and rounded.keys() == exact.keys()
    )
    square = sum((rounded[name] - exact[name]).square().sum() for name in exact)
    return float((square / sum(g.square().sum() for g in exact.values())).sqrt())


@pytest.mark.parametrize("estimator", ["response", "implicit"])
def test_rounded_products_are_safe_without_differences(estimator: str) -> None:
    assert 1e-4 < error(estimator) < 5e-3


def test_rounded_products_spoil_differences() -> None:
    assert error("centered") > 0.1 and error("one_sided") > 0.1


@pytest.mark.parametrize(
    "gradient", [name for name in ESTIMATORS if name not in ("response", "implicit")]
)
def test_amp_is_refused_where_it_is_not_safe(gradient: str) -> None:
    why = (
        "full precision"
        if gradient.endswith("bptt")
        else "divides the difference of two nearly equal states"
    )
    with pytest.raises(
        ValueError, match=rf"gradient='{gradient}': .*{why}.*response, implicit, autograd"
    ):
        EqPropTrainer(LoopedMLP(64, 8, 10), gradient=gradient, amp=True)


def test_amp_is_a_switch() -> None:
    with pytest.raises(TypeError, match="amp must be True or False, got 'bf16'"):
        EqPropTrainer(LoopedMLP(64, 8, 10), gradient="response", amp="bf16")


@pytest.mark.parametrize(
    ("model", "gradient"),
    [(LoopedMLP, "response"), (LoopedMLP, "implicit"), (BackpropMLP, "autograd")],
)
def test_training_with_amp_learns(model: Any, gradient: str) -> None:
    trainer = EqPropTrainer(model(64, 64, 10, seed=0), gradient=gradient, lr=3e-3, amp=True)
    history = trainer.fit(DATA.train.batches(32, shuffle=True), 5, DATA.validation.batches(90))
    assert history["val_accuracy"][-1] >= 0.9
    assert all(
        p.dtype == torch.float32 and p.grad.dtype == torch.float32
        for p in trainer.model.parameters()
    )
    plain = EqPropTrainer(model(64, 64, 10, seed=0), gradient=gradient, lr=3e-3)
    plain.fit(DATA.train.batches(32, shuffle=True), 1)
    assert plain.history["train_loss"][0] == pytest.approx(history["train_loss"][0], rel=0.02)
    assert plain.history["train_loss"][0] != history["train_loss"][0]


@pytest.mark.parametrize(
    ("model", "gradient"), [(LoopedMLP, "centered"), (BackpropMLP, "autograd")]
)
def test_clip_norm_scales_the_whole_gradient(model: Any, gradient: str) -> None:
    def step(**options: Any) -> torch.Tensor:
        net = model(64, 16, 10, seed=0)
        before = torch.cat([p.detach().flatten().clone() for p in net.parameters()])
        sgd = lambda parameters: torch.optim.SGD(parameters, lr=1.0)  # noqa: E731
        EqPropTrainer(net, gradient=gradient, optimizer=sgd, **options).train_batch(X, Y)
        return before - torch.cat([p.detach().flatten() for p in net.parameters()])

    free, clipped, loose = step(), step(clip_norm=0.05), step(clip_norm=1e3)
    assert free.norm() > 0.1 and clipped.norm() == pytest.approx(0.05, rel=1e-3)
    assert torch.nn.functional.cosine_similarity(free, clipped, dim=0) > 0.9999
    torch.testing.assert_close(free, loose)
    with pytest.raises(ValueError, match="clip_norm must be a finite number > 0"):
        EqPropTrainer(LoopedMLP(64, 8, 10), clip_norm=0.0)


MODELS: dict[str, Callable[[], EquilibriumModel]] = {
    "symmetric": lambda: LoopedMLP(64, 24, 10, seed=0),
    "directed": lambda: LoopedMLP(64, 24, 10, seed=0, symmetric=False),
    "conv": lambda: ConvEqProp(1, [4, 6], 10, image_size=8, seed=0),
    "single": lambda: SingleStateConv(1, 4, 10, image_size=8, seed=0),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("gradient", ["response", "implicit", "autograd"])
def test_a_bfloat16_network_trains(name: str, gradient: str) -> None:
    model = MODELS[name]().bfloat16()
    trainer = EqPropTrainer(model, gradient, optimizer="sgd", lr=0.5, progress=False)
    history = trainer.fit([(X.bfloat16(), Y)], 12)
    assert history["train_loss"][-1] < history["train_loss"][0]
    for _, bound, held in bounded_weights(model):
        assert bound.basis.dtype == torch.bfloat16 and bound.cap is not None
        effective = matrix(bound, bound(held.original))
        assert float(torch.linalg.matrix_norm(effective, ord=2)) < 1.01 * bound.cap


@pytest.mark.parametrize("name", MODELS)
def test_the_norm_of_a_weight_is_found_in_its_own_precision_under_autocast(name: str) -> None:
    plain = MODELS[name]()
    with torch.autocast("cpu", torch.bfloat16):
        model = MODELS[name]()
        assert model.contraction_bound() == plain.contraction_bound()
        assert model(X).isfinite().all()
        # A change that bfloat16 cannot see is still another weight.
        for parameters in zip(model.parameters(), plain.parameters(), strict=True):
            for parameter in parameters:
                parameter.data.mul_(1.001)
        for (_, one, held), (_, two, other) in zip(
            bounded_weights(model), bounded_weights(plain), strict=True
        ):
            with torch.autocast("cpu", enabled=False):
                expected = two(other.original)
            assert torch.equal(one(held.original), expected)


@pytest.mark.parametrize("name", MODELS)
def test_equilibrium_models_train_by_autograd_with_amp(name: str) -> None:
    trainer = EqPropTrainer(
        MODELS[name](), "autograd", optimizer="sgd", lr=0.1, amp=True, progress=False
    )
    history = trainer.fit([(X, Y)], 6, val_loader=[(X, Y)])
    assert history["val_loss"][-1] < history["val_loss"][0]

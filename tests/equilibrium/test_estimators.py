"""Every estimator against the adjoint reference: size of the error, its order in beta, and what
directed weights do.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    ConvergenceWarning,
    DivergenceError,
    LoopedMLP,
    build_dataset,
    estimate_gradients,
)
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.gradients import ESTIMATORS, Settings, estimate
from eqprop_lab.equilibrium.jacobian import activation_product, force_jvp, force_vjp
from eqprop_lab.equilibrium.state import State
from tests.reference import adjoint_gradients, relative_errors

TRAIN = build_dataset("digits").train
X, Y = TRAIN.x[:24].double(), TRAIN.y[:24]


def error(model: LoopedMLP, estimator: str, beta: float = 0.1, points: int = 4) -> float:
    """Worst relative error over the parameters, phases settled to rounding."""
    steps = {"free_steps": 4000, "nudged_steps": 4000}
    settings = Settings(beta=beta, **steps, tol=1e-14, points=points or 4)
    got = estimate(model, X, Y, estimator, settings)[0].gradients
    return max(relative_errors(got, adjoint_gradients(model, X, Y)).values())


def slope(model: LoopedMLP, estimator: str, betas: tuple[float, ...], points: int = 4) -> float:
    errors = [error(model, estimator, beta, points) for beta in betas]
    return float(np.polyfit(np.log(betas), np.log(errors), 1)[0])


def skewed(skew: float) -> LoopedMLP:
    """A directed model whose weights are symmetric up to `skew` times an antisymmetric matrix."""
    model = LoopedMLP(64, 48, 10, seed=0, symmetric=False).double()
    weight = model.W_rec.parametrizations.weight.original
    with torch.no_grad():
        weight.copy_((weight + weight.T) / 2 + skew * (weight - weight.T) / 2)
    # updates that change nothing let the tracked block settle on the new weights
    for _ in range(60):
        with torch.no_grad():
            weight.mul_(1.0)
        model.contraction_bound()
    return model


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("estimator", "points", "floor"),
    [
        ("one_sided", 0, 4e-2),
        ("centered", 0, 1e-3),
        ("holomorphic", 4, 1e-5),
        ("holomorphic", 8, 1e-9),
        ("response", 0, 1e-9),
        ("implicit", 0, 1e-9),
        ("asymmetric", 0, 1e-2),
    ],
)
def test_error_at_initialisation(estimator: str, points: int, floor: float, seed: int) -> None:
    assert error(LoopedMLP(64, 64, 10, seed=seed).double(), estimator, points=points) <= floor


@pytest.mark.parametrize(
    ("estimator", "points", "order", "betas"),
    [
        ("one_sided", 0, 1, (0.02, 0.01, 0.005)),
        ("centered", 0, 2, (0.1, 0.05, 0.025)),
        ("holomorphic", 4, 4, (0.2, 0.15, 0.1)),
        ("holomorphic", 8, 8, (0.5, 0.4, 0.3)),
        ("asymmetric", 0, 2, (0.1, 0.05, 0.025)),
    ],
)
def test_order_in_beta(estimator: str, points: int, order: int, betas: tuple[float, ...]) -> None:
    model = LoopedMLP(64, 64, 10, seed=0).double()
    assert slope(model, estimator, betas, points) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("skew", [0.5, 1.0])
def test_directed_weights_need_the_asymmetric_estimator(skew: float) -> None:
    model = skewed(skew)
    assert error(model, "asymmetric") <= 1e-2
    assert slope(model, "asymmetric", (0.1, 0.05, 0.025)) == pytest.approx(2, abs=0.15)
    assert error(model, "implicit") <= 1e-9
    for plain in ("one_sided", "centered", "holomorphic", "response"):
        assert error(model, plain) > 0.2
    with pytest.raises(TypeError, match="no energy"):
        model.energy((torch.zeros(1, 48),), (torch.zeros(1, 48),))


def test_float32_floor_of_the_centered_estimator() -> None:
    for seed in range(3):
        model = LoopedMLP(64, 128, 10, seed=seed)
        expected = adjoint_gradients(LoopedMLP(64, 128, 10, seed=seed).double(), X, Y)
        best = min(
            max(relative_errors(_single(model, beta), expected).values())
            for beta in (0.01, 0.02, 0.03, 0.05)
        )
        assert best <= 2e-4


def _single(model: LoopedMLP, beta: float) -> dict[str, Tensor]:
    got = estimate_gradients(
        model, X.float(), Y, "centered", beta, free_steps=200, nudged_steps=200
    )
    return {name: value.double() for name, value in got.items()}


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_eqprop_with_t_steps_is_truncated_bptt_with_t_steps(steps: int) -> None:
    model = LoopedMLP(64, 64, 10, seed=0).double()
    settings = Settings(beta=1e-3, free_steps=500, nudged_steps=steps)
    eqprop, autograd = (
        estimate(model, X, Y, e, settings)[0].gradients for e in ("centered", "truncated_bptt")
    )
    for name, value in autograd.items():
        assert torch.linalg.vector_norm(eqprop[name] - value) <= 1e-4 * torch.linalg.vector_norm(
            value
        ), name


class Gated(LoopedMLP):
    """A force that is not affine and an activation without a slope of its own: the general path of
    everything.
    """

    affine_force = False

    def force(self, state: State, drive: State) -> State:
        (h,) = state
        return (super().force(state, drive)[0] - 0.05 * h**3,)

    def activation_slope(self, state: State) -> State | None:  # type: ignore[override]
        return EquilibriumModel.activation_slope(self, state)


@pytest.mark.parametrize("estimator", ["centered", "asymmetric", "response", "implicit"])
def test_a_model_that_is_not_affine_takes_the_general_path(estimator: str) -> None:
    model = Gated(64, 32, 10, seed=0).double()
    exact = estimate_gradients(model, X, Y, "bptt", free_steps=600)
    settings = {"beta": 0.005, "free_steps": 2000, "nudged_steps": 2000, "tol": 1e-14}
    got = estimate_gradients(model, X, Y, estimator, **settings)
    for name, value in exact.items():
        assert torch.linalg.vector_norm(got[name] - value) <= 1e-4 * torch.linalg.vector_norm(
            value
        ), name


def test_holomorphic_refuses_a_force_that_is_not_affine() -> None:
    with pytest.raises(TypeError, match="affine"):
        estimate_gradients(Gated(64, 8, 10).double(), X, Y, "holomorphic")


def test_jacobian_products_are_the_jacobian() -> None:
    for model in (
        Gated(64, 12, 10, seed=0).double(),
        LoopedMLP(64, 12, 10, seed=0, symmetric=False).double(),
    ):
        drive = model.drive(X[:2])
        state = (torch.tanh(torch.randn(2, 12, dtype=torch.float64)),)
        v = (torch.randn(2, 12, dtype=torch.float64),)
        jacobian = torch.stack(
            [
                torch.autograd.functional.jacobian(
                    lambda h, u=u, model=model: model.force((h[None],), (u[None],))[0][0], h
                )
                for h, u in zip(state[0], drive[0], strict=True)
            ]
        )
        torch.testing.assert_close(
            force_jvp(model, state, drive)(v)[0], torch.einsum("bij,bj->bi", jacobian, v[0])
        )
        torch.testing.assert_close(
            force_vjp(model, state, drive)(v)[0], torch.einsum("bij,bi->bj", jacobian, v[0])
        )
        settled = model.step(state, drive)
        slope = 1 - torch.tanh(model.force(settled, drive)[0]) ** 2
        if model.activation_slope(settled) is None:
            torch.testing.assert_close(
                activation_product(model, settled, drive)(v)[0], slope * v[0]
            )


@pytest.mark.parametrize("estimator", ["response", "implicit"])
def test_linear_relaxations_report_failure(estimator: str) -> None:
    model = LoopedMLP(64, 32, 10, seed=0).double()
    with pytest.warns(ConvergenceWarning, match="linear relaxation not converged"):
        estimate_gradients(model, X, Y, estimator, free_steps=500, nudged_steps=2, tol=1e-12)
    wild = LoopedMLP(64, 32, 10, use_spectral_norm=False, seed=0).double()
    with torch.no_grad():
        wild.W_rec.parametrizations.weight.original.copy_(1e6 * torch.eye(32))
        wild.W_in.weight.zero_()
        wild.W_in.bias.zero_()
        wild.W_rec.bias.zero_()  # the fixed point h = 0 exists, but the step expands around it
    with pytest.raises(DivergenceError, match="linear relaxation diverged"):
        estimate_gradients(wild, X, Y, estimator, free_steps=3, nudged_steps=100)


def test_every_estimator_is_named_by_the_table_of_the_module() -> None:
    from eqprop_lab.equilibrium import gradients

    assert gradients.__doc__ is not None
    assert all(name in gradients.__doc__ for name in ESTIMATORS)

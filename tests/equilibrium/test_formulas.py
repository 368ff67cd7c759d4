"""The estimators against their formulas at a finite beta, number by number: what tests of the limit
cannot see.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset, estimate_gradients, relax
from eqprop_lab.equilibrium.contrast import stacked
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import NUDGED, Settings, estimate, make_settings
from eqprop_lab.equilibrium.nudges import CostNudge

TRAIN = build_dataset("digits").train
X, Y = TRAIN.x[:12].flatten(1).double(), TRAIN.y[:12]
HOT = torch.nn.functional.one_hot(Y, 10).double()
BETA, STEPS = 0.5, 300
RAW = "W_rec.parametrizations.weight.original"


def network() -> LoopedMLP:
    return LoopedMLP(64, 20, 10, seed=0).double()


@torch.no_grad()
def nudged(model: LoopedMLP, h: Tensor, beta: float) -> Tensor:
    """The nudged phase, written out."""
    weight, u = model.W_rec.weight, model.drive(X)[0]
    for _ in range(STEPS):
        h = torch.tanh(
            h @ weight + u - beta * (model.W_out(h).softmax(1) - HOT) @ model.W_out.weight
        )
    return h


def by_hand(model: LoopedMLP, D: Tensor, M: Tensor, free: Tensor) -> dict[str, Tensor]:
    """-(1/(beta B)) sum of (D x^T, D, (D M^T + M D^T)/2); the read-out at the free state."""
    scale = 1 / (BETA * len(X))
    error = (model.W_out(free).softmax(1) - HOT).detach() / len(X)
    (raw,) = torch.autograd.grad(
        model.W_rec.weight,
        model.get_parameter(RAW),
        -scale * (D.T @ M + M.T @ D) / 2,
        retain_graph=True,
    )
    return {
        "W_in.weight": -scale * D.T @ X,
        "W_in.bias": -scale * D.sum(0),
        RAW: raw,
        "W_out.weight": error.T @ free,
        "W_out.bias": error.sum(0),
    }


@pytest.mark.parametrize("mean_difference", [False, True])
@pytest.mark.parametrize("estimator", ["one_sided", "centered"])
def test_difference_midpoint_and_read_out_are_those_of_the_formula(
    estimator: str, mean_difference: bool
) -> None:
    model = network()
    model.mean_difference = mean_difference
    free = relax(model, X, STEPS).state[0]
    plus, minus = nudged(model, free, BETA), nudged(model, free, -BETA)
    D, M = (
        ((plus - minus) / 2, (plus + minus) / 2)
        if estimator == "centered"
        else (plus - free, (plus + free) / 2)
    )
    got = estimate_gradients(model, X, Y, estimator, BETA, free_steps=STEPS, nudged_steps=STEPS)
    for name, value in by_hand(model, D, M, free).items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-13)
    # the free state, or either end, in the midpoint's place is another gradient
    for other in (free, plus):
        assert (by_hand(model, D, other, free)[RAW] - got[RAW]).norm() > 1e-4 * got[RAW].norm()


@pytest.mark.parametrize("estimator", NUDGED)
def test_the_read_out_is_taken_at_the_free_state(estimator: str) -> None:
    model = network()
    free = relax(model, X, STEPS).state[0]
    error = (model.W_out(free).softmax(1) - HOT).detach() / len(X)
    found = estimate(model, X, Y, estimator, Settings(BETA, STEPS, STEPS))[0]
    torch.testing.assert_close(
        found.gradients["W_out.weight"], error.T @ free, rtol=1e-9, atol=1e-13
    )
    torch.testing.assert_close(found.logits, model.W_out(free).detach(), rtol=1e-9, atol=1e-12)


def test_the_default_is_ten_nudged_steps_wherever_it_is_taken() -> None:
    model = network()
    assert make_settings(model).nudged_steps == Settings().nudged_steps == 10
    settings = EqPropTrainer(LoopedMLP(64, 20, 10)).settings
    assert settings is not None and settings.nudged_steps == 10 and settings.beta == 0.03
    default, ten = (
        estimate_gradients(model, X, Y, **given) for given in ({}, {"nudged_steps": 10})
    )
    assert all(torch.equal(default[name], ten[name]) for name in ten)


def test_every_phase_of_a_stack_feels_its_own_beta() -> None:
    model = network()
    state = (torch.randn(12, 20, dtype=torch.float64),)
    grad = make_cost("cross_entropy", Y, 10, X).grad
    betas = (0.7, -0.2, 0.05)
    (pull,) = CostNudge(model, grad, betas)(stacked([state] * 3))
    single = (model.W_out(state[0]).softmax(1) - HOT) @ model.W_out.weight
    assert pull is not None
    for part, beta in zip(pull.chunk(3), betas, strict=True):
        torch.testing.assert_close(part, (beta * single).detach())


def test_a_nudge_is_divided_by_the_weight_of_its_block() -> None:
    model = network()
    model.kappa = (2.5,)
    state = (torch.randn(12, 20, dtype=torch.float64),)
    nudge = CostNudge(model, make_cost("cross_entropy", Y, 10, X).grad, (0.7,))
    (pull,) = nudge(state)
    expected = 0.7 * (model.W_out(state[0]).softmax(1) - HOT) @ model.W_out.weight / 2.5
    torch.testing.assert_close(pull, expected.detach())
    # and by the general way of the contract
    force = (torch.zeros_like(state[0]),)
    (general,) = super(LoopedMLP, model).add_pull(force, state, nudge.cotangent(state), -2.0)
    torch.testing.assert_close(general, -2 * expected.detach())


@pytest.mark.parametrize("points", [2, 4, 6])
def test_holomorphic_with_n_nudges_is_the_fourier_coefficient(points: int) -> None:
    # dL/db from the states alone: -(1/(beta B)) (1/N) sum_k exp(-2 pi i k/N) s_k, every nudge
    # relaxed by itself.
    model = network()
    free = relax(model, X, STEPS).state[0]
    weight, u = model.W_rec.weight.detach(), model.drive(X)[0].detach()
    out, bias = model.W_out.weight.detach(), model.W_out.bias.detach()
    total = torch.zeros(20, dtype=torch.complex128)
    for k in range(points):
        turn = torch.exp(torch.tensor(2j * torch.pi * k / points, dtype=torch.complex128))
        h = free.to(torch.complex128)
        for _ in range(STEPS):
            powers = (h @ out.T.to(h) + bias).exp()
            pull = (powers / powers.sum(1, keepdim=True) - HOT) @ out.to(h)
            h = torch.tanh(h @ weight.to(h) + u - BETA * turn * pull)
        total += (h * turn.conj()).sum(0) / points
    got = estimate_gradients(
        model, X, Y, "holomorphic", BETA, free_steps=STEPS, nudged_steps=STEPS, points=points
    )
    torch.testing.assert_close(
        got["W_in.bias"], -total.real / (BETA * len(X)), rtol=1e-8, atol=1e-12
    )

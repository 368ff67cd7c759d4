"""check_gradient and check_model: they pass what is right and name what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from eqprop_lab import LoopedMLP, build_dataset
from eqprop_lab.equilibrium import gradients
from eqprop_lab.instruments import gradient_check
from eqprop_lab.instruments.gradient_check import agreement, check_gradient, check_model
from tests.reference import adjoint_gradients

TRAIN = build_dataset("digits").train
X, Y = TRAIN.x[:16], TRAIN.y[:16]


def test_the_table_is_the_comparison_with_the_adjoint() -> None:
    model = LoopedMLP(64, 32, 10, seed=0)
    table = check_gradient(model, X, Y, beta=0.1, free_steps=300, nudged_steps=300)
    exact = adjoint_gradients(LoopedMLP(64, 32, 10, seed=0).double(), X.double(), Y)
    assert table.keys() == exact.keys() and 0 < table.worst < 1e-3
    assert all(
        0.999 < row.cosine <= 1 + 1e-9 and abs(row.norm_ratio - 1) < 1e-3 for row in table.values()
    )
    lines = str(table).splitlines()
    assert len(lines) == 1 + len(table) + len(table.sigma) + 3
    assert "relative error" in lines[0] and "W_in.weight" in lines[1]
    assert (
        lines[7].startswith("d sigma/dW of W_rec.weight: error ")
        and table.sigma["W_rec.weight"] <= 1e-6
    )
    assert [line.split(":")[0] for line in lines[-3:]] == ["free phase", "nudged phase", "nudge"]
    assert (
        table.validity is not None
        and table.validity.inside
        and "order in beta 2.0 (N = 2)" in lines[-1]
    )


@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_too_few_steps_and_a_large_beta_show() -> None:
    model = LoopedMLP(64, 32, 10, seed=0)
    good = check_gradient(model, X, Y, beta=0.03, free_steps=200, nudged_steps=200).worst
    assert check_gradient(model, X, Y, beta=0.03, free_steps=200, nudged_steps=2).worst > 10 * good
    assert check_gradient(model, X, Y, beta=1.0, free_steps=200, nudged_steps=200).worst > 10 * good
    assert (
        check_gradient(model, X, Y, "one_sided", 0.03, free_steps=200, nudged_steps=200).worst
        > 10 * good
    )


@pytest.mark.parametrize("cost", ["cross_entropy", "mse"])
def test_a_slope_that_is_not_the_cost_s_is_found(
    cost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reference differentiates the value of the cost; a formula beside it would hide its own
    # fault.
    right = gradients.make_cost

    def wrong(*arguments: Any) -> Any:
        made = right(*arguments)
        return replace(made, grad=lambda z: 0.5 * made.grad(z))

    monkeypatch.setattr(gradients, "make_cost", wrong)
    monkeypatch.setattr(gradient_check, "make_cost", wrong, raising=False)
    table = check_gradient(
        LoopedMLP(64, 16, 10, seed=0), X, Y, "response", cost=cost, nudged_steps=100
    )
    assert all(row.norm_ratio == pytest.approx(0.5, rel=1e-2) for row in table.values()), str(table)


def test_targets_that_do_not_sum_to_one_agree_with_the_reference() -> None:
    y = torch.zeros(len(X), 10)
    y[:, 1] = y[:, 4] = 1
    y[::3] = 0
    table = check_gradient(LoopedMLP(64, 16, 10, seed=0), X, y, free_steps=200, nudged_steps=200)
    assert table.worst < 1e-2, str(table)


def test_agreement_of_zeros() -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    assert agreement(zero, zero).relative_error == 0
    assert agreement(one, zero).relative_error == float("inf")
    assert agreement(zero, one).relative_error == 1 and agreement(zero, one).cosine == 0


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_project_s_own_model_passes(symmetric: bool) -> None:
    result = check_model(LoopedMLP(64, 24, 10, seed=0, symmetric=symmetric, max_steps=60), X, Y)
    assert result.ok, str(result)
    assert [name for name, _, _ in result.rows] == ["contract", "settling", "gradient", "leak"]


def failed(model: LoopedMLP) -> dict[str, str]:
    result = check_model(model, X, Y)
    assert not result.ok and "FAIL" in str(result)
    return {name: detail for name, passed, detail in result.rows if not passed}


def test_broken_models_fail_where_they_are_broken() -> None:
    class Steep(LoopedMLP):
        def activate(self, a: torch.Tensor) -> torch.Tensor:
            return torch.tanh(2 * a)

    class Mixing(LoopedMLP):
        def drive(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            (u,) = super().drive(x)
            return (u - u.mean(0),)

    class Lying(LoopedMLP):
        def readout_vjp(
            self, state: tuple[torch.Tensor, ...], cotangent: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            return (-cotangent @ self.W_out.weight,)

        def add_pull(
            self,
            force: tuple[torch.Tensor, ...],
            state: tuple[torch.Tensor, ...],
            cotangent: torch.Tensor,
            factor: float,
        ) -> tuple[torch.Tensor, ...]:
            return (force[0] - factor * cotangent @ self.W_out.weight,)

    class Raising(LoopedMLP):
        groups = ((0, 1),)

        def initial_state(self, drive: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            raise RuntimeError("no start")

    assert "Lipschitz" in failed(Steep(64, 24, 10, seed=0, max_steps=60))["contract"]
    assert "company" in failed(Mixing(64, 24, 10, seed=0, max_steps=60))["leak"]
    assert "settling" in failed(LoopedMLP(64, 24, 10, seed=0, max_steps=2))
    assert failed(Raising(64, 24, 10))["contract"] == "RuntimeError: no start"
    wild = LoopedMLP(64, 24, 10, seed=0, use_spectral_norm=False, max_steps=60)
    with torch.no_grad():
        wild.W_rec.parametrizations.weight.original *= 6
    assert "apart" in failed(wild)["settling"]
    assert "gradient" in failed(Lying(64, 24, 10, seed=0, max_steps=60))


def test_one_sample_cannot_show_a_leak() -> None:
    result = check_model(LoopedMLP(64, 24, 10, seed=0, max_steps=60), X[:1], Y[:1])
    assert not result.ok and "two samples" in str(result)

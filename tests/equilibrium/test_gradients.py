"""The centered estimator against the adjoint reference: value, sign, order in beta, before and
after training.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset, estimate_gradients
from eqprop_lab.equilibrium.gradients import ESTIMATORS
from tests.reference import adjoint_gradients, relative_errors

SETTLED = {"free_steps": 3000, "nudged_steps": 3000, "tol": 1e-14}


def batch(size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    train = build_dataset("digits").train
    return train.x[:size].double(), train.y[:size]


def trained(seed: int) -> LoopedMLP:
    data = build_dataset("digits")
    model = LoopedMLP(64, 64, 10, seed=seed)
    EqPropTrainer(model, lr=3e-3).fit(data.train.batches(64, shuffle=True, seed=seed), epochs=4)
    return model.double()


def worst(model: LoopedMLP, beta: float) -> float:
    x, y = batch()
    got = estimate_gradients(model, x, y, "centered", beta, **SETTLED)
    return max(relative_errors(got, adjoint_gradients(model, x, y)).values())


@pytest.mark.parametrize("seed", range(3))
def test_centered_matches_the_adjoint_at_initialisation(seed: int) -> None:
    model = LoopedMLP(64, 256, 10, seed=seed).double()
    assert worst(model, beta=0.01) <= 2e-5


@pytest.mark.parametrize("seed", range(2))
def test_centered_matches_the_adjoint_after_training_with_slope_two(seed: int) -> None:
    model = trained(seed)
    betas = [0.04, 0.02, 0.01]
    errors = [worst(model, beta) for beta in betas]
    assert errors[-1] <= 1e-3
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(2, abs=0.15)


def test_every_parameter_has_the_sign_of_the_reference() -> None:
    model = trained(0)
    x, y = batch()
    got = estimate_gradients(model, x, y, beta=0.03, **SETTLED)
    for name, expected in adjoint_gradients(model, x, y).items():
        cosine = (
            np.sum(got[name].numpy() * expected)
            / np.linalg.norm(got[name])
            / np.linalg.norm(expected)
        )
        assert cosine > 0.999, name


def test_a_step_along_the_negative_gradient_lowers_the_cost() -> None:
    model = LoopedMLP(64, 32, 10, seed=0).double()
    x, y = batch()
    before = torch.nn.functional.cross_entropy(model(x), y)
    gradients = estimate_gradients(model, x, y)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter -= 0.05 * gradients[name]
    assert torch.nn.functional.cross_entropy(model(x), y) < before


def test_settled_bptt_is_the_adjoint() -> None:
    model = LoopedMLP(64, 64, 10, seed=1).double()
    x, y = batch()
    got = estimate_gradients(model, x, y, "bptt", free_steps=400)
    assert max(relative_errors(got, adjoint_gradients(model, x, y)).values()) <= 1e-10


def test_mean_squared_error_and_float_targets_use_the_same_formula() -> None:
    model = LoopedMLP(64, 48, 10, seed=0).double()
    x, y = batch()
    targets = torch.nn.functional.one_hot(y, 10).double()
    ep = estimate_gradients(model, x, targets, "centered", 1e-3, cost="mse", **SETTLED)
    exact = estimate_gradients(model, x, y, "bptt", cost="mse", free_steps=400)
    for name, value in exact.items():
        assert torch.linalg.vector_norm(ep[name] - value) <= 1e-5 * torch.linalg.vector_norm(
            value
        ), name


SOFT = {
    "multi-hot": lambda hot: hot + hot.roll(1, 1) + hot.roll(3, 1),
    "some rows zero": lambda hot: hot * (torch.arange(len(hot)) % 2)[:, None],
    "smoothed": lambda hot: 0.9 * hot + 0.01,
    "heavy": lambda hot: 4 * hot,
}


@pytest.mark.parametrize("targets", SOFT)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_gradient_is_the_slope_of_the_cost_whatever_the_targets_sum_to(
    estimator: str, targets: str
) -> None:
    model = LoopedMLP(64, 16, 10, seed=0, max_steps=300).double()
    x, y = batch(8)
    y = SOFT[targets](torch.nn.functional.one_hot(y, 10).double())
    got = estimate_gradients(model, x, y, estimator, 0.003, free_steps=300, nudged_steps=300)
    for name in ("W_out.bias", "W_in.weight"):
        parameter = model.get_parameter(name)
        place = (3,) if parameter.ndim == 1 else (2, 20)
        costs = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[place] += step
                costs.append(-(y * model(x).log_softmax(1)).sum(1).mean())
                parameter[place] -= step
        slope = float(costs[0] - costs[1]) / 2e-5
        # one_sided is off by a few times beta, everything else by beta squared or less
        assert float(got[name][place]) == pytest.approx(
            slope, rel=3e-2 if estimator == "one_sided" else 1e-3
        ), name


def test_the_gradient_does_not_depend_on_the_batch_being_repeated() -> None:
    # beta is per sample: were it divided by the batch, doubling the batch would change the estimate
    # at O(beta^2).
    model = LoopedMLP(64, 32, 10, seed=0).double()
    x, y = batch(8)
    once = estimate_gradients(model, x, y, beta=0.5, **SETTLED)
    twice = estimate_gradients(model, x.repeat(2, 1, 1, 1), y.repeat(2), beta=0.5, **SETTLED)
    for name in once:
        torch.testing.assert_close(once[name], twice[name], rtol=1e-9, atol=1e-12)


def test_no_grad_field_is_touched_and_no_graph_is_kept() -> None:
    model = LoopedMLP(64, 16, 10, seed=0)
    x, y = batch(4)
    for estimator in ESTIMATORS:
        gradients = estimate_gradients(model, x.float(), y, estimator)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(value.requires_grad for value in gradients.values())
        assert gradients.keys() == dict(model.named_parameters()).keys()


def test_frozen_parameters_are_left_out() -> None:
    model = LoopedMLP(64, 16, 10, seed=0)
    model.W_in.weight.requires_grad_(False)
    x, y = batch(4)
    assert "W_in.weight" not in estimate_gradients(model, x.float(), y)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beta": 0.0}, ValueError, "beta must be a finite number > 0, got 0"),
        ({"beta": float("nan")}, ValueError, "beta"),
        ({"beta": "0.1"}, TypeError, "beta must be a number"),
        ({"estimator": "centred"}, ValueError, "did you mean 'centered'"),
        ({"free_steps": 0}, ValueError, "free_steps"),
        ({"nudged_steps": 1.5}, TypeError, "nudged_steps"),
        ({"tol": -1.0}, ValueError, "tol"),
        ({"cost": "hinge"}, ValueError, "cost"),
    ],
)
def test_bad_settings_are_named(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    x, y = batch(2)
    with pytest.raises(error, match=message):
        estimate_gradients(LoopedMLP(64, 8, 10).double(), x, y, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (torch.zeros(2, 63), torch.zeros(2, dtype=torch.long), ValueError, "64 features"),
        (
            torch.zeros(2, 64, dtype=torch.float64),
            torch.zeros(2, dtype=torch.long),
            TypeError,
            "dtype",
        ),
        (
            torch.zeros(2, 64, dtype=torch.long),
            torch.zeros(2, dtype=torch.long),
            TypeError,
            "dtype",
        ),
        (torch.full((2, 64), float("nan")), torch.zeros(2, dtype=torch.long), ValueError, "NaN"),
        (torch.zeros(2, 64), torch.zeros(3, dtype=torch.long), ValueError, "one target per sample"),
        (torch.zeros(2, 64), torch.tensor([0, 10]), ValueError, "class indices 0..9"),
        (torch.zeros(2, 64), torch.zeros(2, 9), ValueError, "float targets"),
        (torch.zeros(0, 64), torch.zeros(0, dtype=torch.long), ValueError, "at least one sample"),
    ],
)
def test_bad_batches_are_named(
    x: torch.Tensor, y: torch.Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        estimate_gradients(LoopedMLP(64, 8, 10), x, y)


def test_an_ordinary_module_is_refused() -> None:
    with pytest.raises(TypeError, match="autograd"):
        estimate_gradients(
            torch.nn.Linear(2, 2), torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)
        )  # type: ignore[arg-type]

"""The radius of validity: it says of a nudge, without a reference, whether the estimator may be
trusted.
"""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    ConvEqProp,
    EqPropTrainer,
    LoopedMLP,
    build_dataset,
    check_gradient,
    estimate_gradients,
    radius_of_validity,
)
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.gradients import NUDGED, Settings
from eqprop_lab.instruments.validity import Validity, check_nudge

DATA = build_dataset("digits")
X, Y = DATA.train.x[:24].double(), DATA.train.y[:24]
LONG = {"free_steps": 200, "nudged_steps": 200}


@functools.cache
def trained(rho: float) -> LoopedMLP:
    model = LoopedMLP(64, 48, 10, rho=rho, seed=0)
    EqPropTrainer(model, lr=1e-2, progress=False).fit(
        DATA.train.batches(32, shuffle=True, seed=0), 4
    )
    return model.double()


def fresh() -> LoopedMLP:
    return LoopedMLP(64, 48, 10, seed=0).double()


def true_error(model: LoopedMLP, estimator: str, beta: float, points: int = 4) -> float:
    """Relative error of what a nudge reaches."""
    exact = estimate_gradients(model, X, Y, "implicit", **LONG)
    got = estimate_gradients(model, X, Y, estimator, beta, points=points, **LONG)
    names = [name for name in exact if not name.startswith("W_out")]
    apart = math.hypot(*(float((got[n] - exact[n]).norm()) for n in names))
    return apart / math.hypot(*(float(exact[n].norm()) for n in names))


@pytest.mark.parametrize(
    ("estimator", "points", "order"),
    [
        ("one_sided", 4, 1),
        ("centered", 4, 2),
        ("asymmetric", 4, 2),
        ("holomorphic", 4, 4),
        ("holomorphic", 8, 8),
    ],
)
def test_on_fresh_weights_the_error_falls_as_it_should(
    estimator: str, points: int, order: int
) -> None:
    beta = 0.6 if points == 8 else 0.1
    found = check_nudge(fresh(), X, Y, estimator, Settings(beta, 200, 200, points=points))
    assert (
        found.inside and found.nudges == order and found.order == pytest.approx(order, abs=0.2)
    ), str(found)


@pytest.mark.parametrize("rho", [0.9, 0.99])
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_after_training_a_nudge_of_0_3_is_outside_and_the_diagnostic_says_so(rho: float) -> None:
    assert check_nudge(fresh(), X, Y, "holomorphic", Settings(0.3, 200, 200)).inside
    assert true_error(fresh(), "holomorphic", 0.3) < 1e-4
    model = trained(rho)
    found = check_nudge(model, X, Y, "holomorphic", Settings(0.3, 200, 200))
    assert not found.inside and "OUTSIDE" in str(found)
    assert true_error(model, "holomorphic", 0.3) > 300 * true_error(fresh(), "holomorphic", 0.3)


@pytest.mark.parametrize("estimator", NUDGED)
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_the_expected_error_is_the_error_and_the_radius_is_one(estimator: str) -> None:
    model = trained(0.9)
    found = radius_of_validity(model, X, Y, estimator, 1.0, **LONG)
    assert found.inside and found.beta < 1.0
    error = true_error(model, estimator, found.beta)
    # one_sided: half of its error is still in g(beta/2)
    assert error / 3 <= found.error <= 2 * error, (found, error)
    assert error < 0.25


def test_what_counts_as_inside() -> None:
    good = Validity("holomorphic", 0.1, 4, 1e-3, 3.9, 0.02)
    assert good.inside
    for bad in (
        {"order": 2.5},
        {"apart": 0.5},
        {"error": 0.4},
        {"error": math.inf, "order": math.nan},
    ):
        assert not Validity(**{**good.__dict__, **bad}).inside, bad
    # rounding hides the order: nothing to see
    assert Validity("centered", 0.01, 2, 1e-6, math.nan, 1e-3).inside
    assert "hidden by rounding" in str(Validity("centered", 0.01, 2, 1e-6, math.nan, 1e-3))


def test_float32_hides_the_order_and_does_not_feign_one() -> None:
    model = LoopedMLP(64, 48, 10, seed=0)
    found = check_nudge(model, X.float(), Y, "centered", Settings(0.003, 200, 200))
    assert found.inside and math.isnan(found.order)


def test_check_gradient_prints_it() -> None:
    table = check_gradient(fresh(), X, Y, "holomorphic", 0.1, **LONG)
    assert table.validity is not None and str(table).splitlines()[-1] == str(table.validity)
    assert check_gradient(fresh(), X, Y, "response", **LONG).validity is None


def test_estimators_without_a_nudge_are_refused() -> None:
    with pytest.raises(ValueError, match="estimator must be one of 'one_sided'"):
        radius_of_validity(fresh(), X, Y, "response")


def _nothing(case: str, model: EquilibriumModel, x: Tensor) -> tuple[Tensor, str]:
    """Targets at which a cost has no slope, but for rounding, and the cost."""
    logits = model(x).detach()
    if case == "no class is asked for":
        return torch.zeros_like(logits), "cross_entropy"
    if case == "what is asked for is there":
        return logits, "mse"
    return logits.softmax(1), "cross_entropy"


@pytest.mark.parametrize("estimator", NUDGED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["looped", "conv"])
@pytest.mark.parametrize(
    "case",
    [
        "no class is asked for",
        "what is asked for is there",
        "the probabilities are those asked for",
    ],
)
def test_without_a_slope_there_is_nothing_to_estimate_and_nothing_outside(
    estimator: str, dtype: torch.dtype, kind: str, case: str
) -> None:
    made = (
        LoopedMLP(64, 20, 10, seed=0)
        if kind == "looped"
        else ConvEqProp(1, 4, 10, image_size=8, seed=0)
    )
    model, x = made.to(dtype), X[:8].to(dtype)
    model.max_steps = 200
    y, cost = _nothing(case, model, x)
    found = check_nudge(model, x, y, estimator, Settings(0.1, 200, 200), cost)
    assert found.inside and found.error == 0 and math.isnan(found.order), str(found)
    assert radius_of_validity(model, x, y, estimator, 0.1, cost=cost, **LONG).beta == 0.1


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_a_slope_however_small_beside_others_or_in_the_target_is_still_judged(scale: float) -> None:
    y = scale * torch.nn.functional.one_hot(Y, 10).double()
    y[1:] = 0  # one image asks for something
    strong = check_nudge(trained(0.9), X, y, "one_sided", Settings(30 / scale, 200, 200))
    assert not strong.inside and strong.error > 0.1, str(strong)
    weak = check_nudge(trained(0.9), X, y, "centered", Settings(0.01 / scale, 200, 200))
    assert weak.inside and weak.order == pytest.approx(2, abs=0.2), str(weak)

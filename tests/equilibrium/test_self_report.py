"""An estimate says how far off it expects to be: phases that still move, and differences that are
rounding.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    ConvEqProp,
    ConvergenceWarning,
    DeepEqProp,
    EqPropTrainer,
    EquilibriumBlock,
    LoopedMLP,
    RoundingWarning,
    build_dataset,
    check_gradient,
    estimate_gradients,
    load_config,
)
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.gradients import ESTIMATORS, NUDGED, Settings, estimate, make_settings
from eqprop_lab.equilibrium.relaxation import expected_error

DATA = build_dataset("digits")
X, Y = DATA.train.x[:24], DATA.train.y[:24]


def slow(rho: float = 0.99, factor: float = 10.0) -> LoopedMLP:
    """Far into the bound: the slowest mode of a step is near rho."""
    model = LoopedMLP(64, 64, 10, rho=rho, seed=0)
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original.mul_(factor)
    return model


def unbounded(norm: float = 9.6) -> LoopedMLP:
    model = LoopedMLP(64, 64, 10, use_spectral_norm=False, seed=0)
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original.mul_(norm / model.contraction_bound())
    return model


def distance(got: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Relative error of the whole gradient."""
    apart = math.hypot(*(float((got[k].double() - e.double()).norm()) for k, e in exact.items()))
    return apart / math.hypot(*(float(e.double().norm()) for e in exact.values()))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("make", [unbounded, slow])
def test_no_estimator_is_silent_about_an_unsettled_phase(
    estimator: str, make: Callable[[], LoopedMLP]
) -> None:
    steps = {} if make is unbounded else {"free_steps": 8, "nudged_steps": 6}
    with pytest.warns(ConvergenceWarning, match="phase has not settled: residual"):
        got = estimate_gradients(make().double(), X.double(), Y, estimator, **steps)
    assert got.doubts and (got.free_error > 0.05 or got.nudged_error > 0.05)


def test_seven_per_cent_at_rho_99_are_told_at_the_defaults() -> None:
    model = slow().double()
    exact = estimate_gradients(model, X.double(), Y, "implicit", free_steps=2000, nudged_steps=2000)
    with pytest.warns(ConvergenceWarning, match="nudged phase has not settled"):
        got = estimate_gradients(model, X.double(), Y)
    assert 0.02 < distance(got, exact) < 0.1
    assert got.nudged_error == pytest.approx(distance(got, exact), rel=1.0)


@pytest.mark.parametrize(
    "estimator", ["centered", "holomorphic", "asymmetric", "response", "implicit", "truncated_bptt"]
)
@pytest.mark.parametrize("solver", ["picard", "damped", "chebyshev"])
@pytest.mark.parametrize("steps", [(8, 6), (30, 10), (60, 30)])
def test_the_expected_error_is_about_the_error(
    estimator: str, solver: str, steps: tuple[int, int]
) -> None:
    model, x = slow(0.95).double(), X.double()
    exact = estimate_gradients(model, x, Y, estimator, 0.003, free_steps=600, nudged_steps=600)
    settings = Settings(0.003, *steps, solver=solver)
    found = estimate(model, x, Y, estimator, settings)[0]
    expected, error = found.free_error + found.nudged_error, distance(found.gradients, exact)
    # never too hopeful by more than a factor of 2; too careful by 20 at most (the solvers'
    # movements ripple)
    assert error / 2 <= expected <= 20 * error, (expected, error)


def test_one_sided_counts_what_the_free_phase_still_had_before_it() -> None:
    # The nudged state drifts on towards the free fixed point, and the drift is divided by beta.
    model, x = slow(0.95).double(), X.double()
    exact = estimate_gradients(model, x, Y, "implicit", free_steps=2000, nudged_steps=2000)
    with pytest.warns(
        ConvergenceWarning, match="the free phase has not settled.* take more free_steps"
    ):
        got = estimate_gradients(model, x, Y, "one_sided", 0.003, free_steps=30, nudged_steps=200)
    assert distance(got, exact) > 0.05
    centered = estimate(model, x, Y, "centered", Settings(0.003, 30, 200))[0]
    assert distance(centered.gradients, exact) < 0.01 and not centered.doubts


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_settled_phases_are_not_told(estimator: str) -> None:
    for model in (LoopedMLP(64, 32, 10, seed=0), ConvEqProp(1, 8, 10, image_size=8, seed=0)):
        # a warning is an error here
        got = estimate_gradients(model, X, Y, estimator, free_steps=100, nudged_steps=60)
        assert not got.doubts and got.free_residual < 1e-5
        assert math.isnan(got.nudged_residual) == (estimator == "bptt")
        assert got.keys() == dict(model.named_parameters()).keys()


def test_layers_that_the_nudge_has_not_reached_are_told() -> None:
    # A sweep carries the nudge two layers down: after two, the lowest of five has a gradient of
    # zero.
    model = DeepEqProp(64, [24, 24, 24, 24, 24], 10, gamma=0.01, seed=0).double()
    with pytest.warns(ConvergenceWarning, match="nudged phase has not settled"):
        got = estimate_gradients(model, X.double(), Y, free_steps=60, nudged_steps=2)
    assert not got["layers.0.weight"].any() and got.nudged_residual == 1.0
    assert estimate_gradients(model, X.double(), Y, free_steps=60, nudged_steps=20)[
        "layers.0.weight"
    ].any()


def test_a_network_that_is_cut_is_settled_when_its_upper_part_is() -> None:
    model = DeepEqProp(64, [16, 16], 10, use_spectral_norm=False, seed=0).double()
    with torch.no_grad():
        model.get_parameter("layers.1.parametrizations.weight.original").zero_()
        model.get_parameter("layers.1.bias").fill_(0.3)
    assert (
        estimate_gradients(model, X.double(), Y, free_steps=30, nudged_steps=20).nudged_residual
        < 1e-6
    )


def test_expected_error_of_a_geometric_movement_is_its_sum() -> None:
    moves = [0.8**k for k in range(30)]
    rest = sum(0.8**k for k in range(11, 200))
    assert expected_error(moves[10], [(9, moves[8]), (11, moves[10])], 0.0) == pytest.approx(
        rest, rel=1e-9
    )
    assert expected_error(0.3, [(1, 1.0)], 0.0) == 0.3
    assert expected_error(1e-7, [(9, 1e-7), (11, 1e-7)], 1e-6) == 0.0
    assert expected_error(1e-3, [(9, 1e-3), (11, 1e-3)], 1e-6) > 0.9


def test_check_gradient_prints_both_residuals() -> None:
    with pytest.warns(ConvergenceWarning):
        text = str(check_gradient(slow(), X, Y, free_steps=8, nudged_steps=6))
    free, nudged, _ = text.splitlines()[-3:]
    assert free.startswith("free phase: residual ") and "expected error" in free
    assert nudged.startswith("nudged phase: residual ") and "rounding" in nudged


def test_the_history_has_both_residuals_and_a_training_is_told_once_an_epoch() -> None:
    loader = DATA.train.batches(64)
    trainer = EqPropTrainer(LoopedMLP(64, 24, 10, seed=0), progress=False)
    trainer.fit(loader, 2)
    history = trainer.history
    assert len(history["nudged_residual"]) == 2 and all(
        0 < r < 0.05 for r in history["nudged_residual"]
    )
    assert all(0 < r < 1e-3 for r in history["residual"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EqPropTrainer(unbounded(), lr=1e-4, progress=False).fit(loader, 2)
    told = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    assert len(told) == 2 and told[0].startswith("epoch 1: the free phase has not settled")


def test_a_training_that_misses_its_tolerance_is_told_once_an_epoch() -> None:
    trainer = EqPropTrainer(LoopedMLP(64, 24, 10, seed=0), free_steps=3, tol=1e-9, progress=False)
    with pytest.warns(
        ConvergenceWarning, match="epoch 1: relaxation not converged to tol in .* batches"
    ) as caught:
        trainer.fit(DATA.train.batches(64), 1)
    assert len(caught) == 1


def test_ordinary_modules_have_no_residuals() -> None:
    trainer = EqPropTrainer(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), "autograd", progress=False
    )
    trainer.fit(DATA.train.batches(64), 1)
    assert math.isnan(trainer.history["residual"][0]) and math.isnan(
        trainer.history["nudged_residual"][0]
    )


def test_a_block_tells_in_backward() -> None:
    block = EquilibriumBlock(slow().double(), free_steps=8, nudged_steps=4)
    out = block(X.double())
    with pytest.warns(ConvergenceWarning, match="has not settled"):
        out.sum().backward()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_block_refuses_a_cotangent_that_is_not_finite(value: float) -> None:
    out = EquilibriumBlock(LoopedMLP(64, 8, 10, seed=0))(X)
    with pytest.raises(ValueError, match="cotangent of the block's output must be finite"):
        out.backward(torch.full_like(out, value))


# --- beta below rounding
# -------------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[], EquilibriumModel]] = {
    "looped": lambda: LoopedMLP(64, 32, 10, seed=0),
    "conv": lambda: ConvEqProp(1, 8, 10, gamma=0.05, image_size=8, seed=0),
}
LONG = {"free_steps": 60, "nudged_steps": 60}


@pytest.mark.parametrize("beta", [1e-44, 1e-38, 1e-12, 1e-8])
@pytest.mark.parametrize("estimator", NUDGED)
def test_a_beta_below_rounding_is_refused_with_the_smallest_sensible_one(
    estimator: str, beta: float
) -> None:
    with pytest.raises(
        ValueError, match=rf"beta={beta:g} is below the rounding of torch.float32.*about 1e-04"
    ):
        estimate_gradients(MODELS["looped"](), X, Y, estimator, beta)
    with pytest.raises(ValueError, match="beta="):
        EqPropTrainer(MODELS["looped"](), estimator, beta=beta)
    with pytest.raises(ValueError, match="beta="):
        EquilibriumBlock(MODELS["looped"](), estimator, beta=beta)
    with pytest.raises(ValueError, match="beta="):
        check_gradient(MODELS["looped"](), X, Y, estimator, beta)


@pytest.mark.parametrize("estimator", ["response", "implicit", "bptt", "truncated_bptt"])
def test_estimators_without_a_nudge_do_not_care(estimator: str) -> None:
    assert make_settings(MODELS["looped"](), 1e-30, estimator=estimator).beta == 1e-30
    assert EqPropTrainer(torch.nn.Linear(2, 2), "autograd", beta=1e-30).gradient == "autograd"


def test_the_floor_is_that_of_the_dtype_and_of_the_way_the_difference_is_held() -> None:
    assert make_settings(MODELS["looped"]().double(), 1e-12).beta == 1e-12
    with pytest.raises(ValueError, match="float64.*2e-13"):
        make_settings(MODELS["looped"]().double(), 1e-17)
    # mean and half difference: nothing is subtracted
    assert make_settings(MODELS["conv"](), 1e-20).beta == 1e-20
    with pytest.raises(ValueError, match="float32"):
        make_settings(MODELS["conv"](), 1e-20, estimator="one_sided")
    for beta in (1e-34, 1e-44):
        with pytest.raises(
            ValueError, match=rf"beta={beta:g} .*smallest sensible beta is about 2e-30"
        ):
            make_settings(MODELS["conv"](), beta)


def test_mean_and_half_difference_are_right_down_to_their_floor() -> None:
    model = MODELS["conv"]()
    exact = estimate_gradients(MODELS["conv"]().double(), X.double(), Y, "implicit", **LONG)
    for beta in (1e-3, 1e-12, 3e-30):
        assert distance(estimate_gradients(model, X, Y, "centered", beta, **LONG), exact) < 1e-5


@pytest.mark.parametrize("estimator", NUDGED)
@pytest.mark.parametrize("name", MODELS)
def test_rounding_is_expected_and_told(name: str, estimator: str) -> None:
    model = MODELS[name]()
    model.mean_difference = False
    exact = estimate_gradients(MODELS[name]().double(), X.double(), Y, "implicit", **LONG)
    for beta in (1e-3, 1e-4, 1e-5, 1e-6):
        found = estimate(model, X, Y, estimator, Settings(beta, 60, 60))[0]
        error = max(distance({k: found.gradients[k]}, {k: e}) for k, e in exact.items())
        if 1e-3 < found.rounding < 1:
            # the asymmetric step has two products more to round
            assert error / 5 <= found.rounding <= 10 * error + 1e-3, (beta, error, found.rounding)
        assert (found.rounding > 0.05) == any(isinstance(d, RoundingWarning) for d in found.doubts)
    with pytest.warns(RoundingWarning, match=r"rounding; take a beta larger by"):
        estimate_gradients(model, X, Y, estimator, 1e-6, **LONG)


def test_a_relative_beta_has_no_floor_of_its_own() -> None:
    # A steep cost: the beta that fits it is 1e-8, far below the rounding of float32, and right.
    model, target = MODELS["looped"](), torch.full((len(X), 10), 1e6)
    exact = estimate_gradients(
        MODELS["looped"]().double(), X.double(), target.double(), "implicit", cost="mse", **LONG
    )
    assert (
        distance(estimate_gradients(model, X, target, beta="auto", cost="mse", **LONG), exact)
        < 1e-2
    )


def test_an_absolute_beta_that_is_lost_at_a_cost_that_is_met_is_told() -> None:
    model = MODELS["looped"]()
    with torch.no_grad():
        target = model(X) + 1e-7
    with pytest.warns(RoundingWarning):
        estimate_gradients(model, X, target, cost="mse", **LONG)


def test_a_cost_without_slope_has_a_gradient_of_zero_and_nothing_to_tell() -> None:
    model = MODELS["looped"]()
    got = estimate_gradients(model, X, torch.zeros(len(X), 10), **LONG)  # asks for nothing
    assert not any(value.any() for value in got.values()) and not got.doubts


def test_a_training_in_rounding_is_told() -> None:
    trainer = EqPropTrainer(MODELS["looped"](), "one_sided", beta=3e-7, progress=False)
    with pytest.warns(RoundingWarning, match="epoch 1: the difference of the phases is"):
        trainer.fit(DATA.train.batches(64), 1)


def test_a_config_with_a_beta_below_rounding_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from eqprop_lab import train_from_config

    path = tmp_path / "tiny.yaml"
    path.write_text(
        "model: {name: LoopedMLP, params: {hidden_dim: 8}}\ntraining: {beta: 1.0e-12, epochs: 1}\n"
        "data: {dataset: digits}\n"
    )
    with pytest.raises(ValueError, match="beta=1e-12 is below the rounding"):
        train_from_config(load_config(path))

"""Over-relaxed sweeps: the same fixed point and gradients in fewer sweeps, given up where they do
not pay.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eqprop_lab import ConvEqProp, DeepEqProp, LoopedMLP, build_dataset, estimate_gradients, relax
from eqprop_lab.equilibrium.relaxation import settle
from eqprop_lab.equilibrium.solvers import FIRST, LARGEST, OverRelaxed
from eqprop_lab.models.layered import LayeredModel

DATA = build_dataset("digits").train
X, Y = DATA.x[:16].double(), DATA.y[:16]
MODELS = {
    "conv": lambda: ConvEqProp(1, [4, 6, 8], 10, gamma=0.3, image_size=8, seed=0),
    "deep": lambda: DeepEqProp(64, [24, 16], 10, gamma=0.3, seed=0),
}


def near_the_cap(model: LayeredModel) -> LayeredModel:
    """The model with its interior weights close to the bound, where plain sweeps are slow."""
    with torch.no_grad():
        for layer in model._layers()[1:]:
            layer.get_parameter("parametrizations.weight.original").mul_(4)
    return model.double()


@pytest.mark.parametrize("name", MODELS)
def test_fewer_sweeps_to_the_same_state(name: str) -> None:
    model = near_the_cap(MODELS[name]())
    plain, further = (relax(model, X, 300, 1e-10, solver=s) for s in ("picard", "over_relaxed"))
    assert further.converged and further.steps <= 0.8 * plain.steps
    for block, other in zip(further.state, plain.state, strict=True):
        torch.testing.assert_close(block, other, rtol=0, atol=1e-8)


@pytest.mark.parametrize("tol", [None, 1e-3])
def test_what_is_returned_is_an_image_of_the_step_and_its_residual_that_of_a_plain_sweep(
    tol: float | None,
) -> None:
    model, steps = near_the_cap(MODELS["conv"]()), 6 if tol is None else 60
    with torch.no_grad():
        drive = model.drive(X)
        end = settle(
            model,
            model.initial_state(drive),
            drive,
            max_steps=steps,
            tol=tol,
            solver=OverRelaxed(),
            trajectory=True,
        )
        assert end.trajectory is not None
        image = model.step(end.trajectory[-2], drive)
    for block, other in zip(end.state, image, strict=True):
        assert torch.equal(block, other)
    if tol is not None:
        assert end.converged and end.residual <= tol and end.steps < steps


@pytest.mark.parametrize("estimator", ["centered", "response", "one_sided"])
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_gradients_of_few_sweeps_are_better(estimator: str) -> None:
    model = near_the_cap(MODELS["conv"]())
    settled = estimate_gradients(model, X, Y, estimator, free_steps=200, nudged_steps=200)
    errors = {}
    for solver in ("picard", "over_relaxed"):
        got = estimate_gradients(
            model, X, Y, estimator, free_steps=5, nudged_steps=5, solver=solver
        )
        errors[solver] = max(float((got[k] - g).norm() / g.norm()) for k, g in settled.items())
    assert errors["over_relaxed"] < 0.6 * errors["picard"]


@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_the_adjoint_moves_group_by_group_and_gains_as_well() -> None:
    # Blocks that move all at once would overshoot: half of the spectrum of red-black couplings is
    # negative.
    def found(solver: str, nudged_steps: int) -> dict[str, Tensor]:
        how: dict[str, Any] = {"free_steps": 200, "nudged_steps": nudged_steps}
        model = near_the_cap(MODELS["deep"]())
        return estimate_gradients(model, X, Y, "implicit", solver=solver, **how)

    def error(got: dict[str, Tensor]) -> float:
        return max(float((got[k] - g).norm() / g.norm()) for k, g in settled.items())

    settled = found("picard", 400)
    assert error(found("over_relaxed", 12)) < 0.3 * error(found("picard", 12))
    assert error(found("over_relaxed", 48)) < 1e-9


def test_omega_follows_the_rate_of_plain_sweeps() -> None:
    solver, rate = OverRelaxed(), 0.38
    # What sweeps at omega = FIRST shrink by: the larger root x of (x + omega - 1)^2 = x omega^2
    # rate.
    half = FIRST**2 * rate / 2 - (FIRST - 1)
    x = half + (half**2 - (FIRST - 1) ** 2) ** 0.5
    for moved in (1.0, x, x * x):
        solver.watch(moved)
    assert solver.omega == pytest.approx(min(2 / (1 + (1 - rate) ** 0.5), LARGEST), rel=1e-6)
    slow = OverRelaxed()
    for moved in (1.0, 0.99, 0.98):
        slow.watch(moved)
    assert slow.omega == LARGEST


def test_it_is_given_up_for_good_where_movements_grow() -> None:
    solver = OverRelaxed()
    for moved in (1.0, 0.5, 0.6, 0.1, 0.05, 0.02):
        solver.watch(moved)
    assert solver.omega == 1.0
    # Far above the bound: only plain sweeps are sure to lower the energy, and they are what is
    # left.
    model = DeepEqProp(64, [24, 16, 12], 10, gamma=1.0, use_spectral_norm=False, seed=0).double()
    with torch.no_grad():
        for layer in model._layers()[1:]:
            layer.get_parameter("parametrizations.weight.original").mul_(8)
    end = relax(model, X, 2000, 1e-8, solver="over_relaxed")
    assert end.converged


def test_a_model_that_moves_all_at_once_is_refused() -> None:
    with pytest.raises(
        ValueError, match="solver='over_relaxed' needs a model that moves in groups"
    ):
        relax(LoopedMLP(64, 8, 10, seed=0).double(), X, solver="over_relaxed")

"""Solvers: the same fixed point in fewer steps, for relaxations and estimators, safe where the
radius misleads.
"""

from __future__ import annotations

import pytest
import torch

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset, estimate_gradients, relax
from eqprop_lab.equilibrium.gradients import Settings, estimate, make_settings
from eqprop_lab.equilibrium.phases import strength
from eqprop_lab.equilibrium.solvers import PICARD, Chebyshev, Damped, make_solver

DATA = build_dataset("digits")
X, Y = DATA.train.x[:32].double(), DATA.train.y[:32]


@pytest.fixture(scope="module")
def trained() -> LoopedMLP:
    model = LoopedMLP(64, 64, 10, seed=0)
    EqPropTrainer(model, lr=6e-3).fit(DATA.train.batches(32, shuffle=True), epochs=3)
    return model.double()


def test_chebyshev_needs_clearly_fewer_steps_to_the_same_point(trained: LoopedMLP) -> None:
    plain = relax(trained, X, 1000, 1e-10)
    fast = relax(trained, X, 1000, 1e-10, solver="chebyshev")
    assert fast.converged and fast.steps <= 0.75 * plain.steps
    torch.testing.assert_close(fast.state[0], plain.state[0], rtol=0, atol=1e-8)


def test_it_is_no_slower_than_twice_picard_where_the_spectrum_is_not_real() -> None:
    model = LoopedMLP(64, 64, 10, seed=0, symmetric=False).double()
    plain = relax(model, X, 1000, 1e-10)
    fast = relax(model, X, 1000, 1e-10, solver="chebyshev")
    assert fast.converged and fast.steps <= 2 * plain.steps
    torch.testing.assert_close(fast.state[0], plain.state[0], rtol=0, atol=1e-8)


def test_the_measured_radius_is_the_local_one(trained: LoopedMLP) -> None:
    solver = Chebyshev()
    drive = trained.drive(X)
    state = trained.initial_state(drive)
    with torch.no_grad():
        for _ in range(6):
            state = solver.advance(state, trained.step(state, drive))
        end = relax(trained, X, 1000, 1e-12).state[0]
        slope = 1 - end**2
        roots = slope.sqrt()
        jacobian = roots[:, :, None] * trained.W_rec.weight * roots[:, None, :]
        exact = torch.linalg.eigvalsh(jacobian).abs().amax(1)
    assert bool((solver.radius <= exact + 0.02).all()) and bool(
        (solver.radius >= 0.5 * exact).all()
    )


def test_a_radius_that_is_too_large_is_noticed() -> None:
    solver = Chebyshev()
    state = (torch.zeros(1, 2),)
    for size in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45):
        solver.advance(state, (torch.full((1, 2), size),))
    large = solver.radius.item()
    assert large > 0.8
    solver.advance(state, (torch.full((1, 2), 3.0),))
    assert solver.radius.item() == solver.ceiling.item() <= 0.7 * 0.98


def test_per_sample_steps_end_with_the_slowest(trained: LoopedMLP) -> None:
    end = relax(trained, X, 500, 1e-6, per_sample=True)
    assert end.sample_steps is not None and end.sample_steps.shape == (32,)
    assert int(end.sample_steps.max()) == end.steps and int(end.sample_steps.min()) < end.steps
    slowest = int(end.sample_steps.argmax())
    assert relax(trained, X[slowest : slowest + 1], 500, 1e-6).steps == end.steps
    assert relax(trained, X, 5).sample_steps is None


@pytest.mark.parametrize(
    "estimator", ["centered", "response", "implicit", "holomorphic", "asymmetric"]
)
def test_estimators_give_the_same_gradient_with_either_solver(
    trained: LoopedMLP, estimator: str
) -> None:
    steps = {"beta": 0.01, "free_steps": 900, "nudged_steps": 900, "tol": 1e-13}
    plain, fast = (
        estimate_gradients(trained, X, Y, estimator, solver=s, **steps)
        for s in ("picard", "chebyshev")
    )
    for name, value in plain.items():
        assert torch.linalg.vector_norm(fast[name] - value) <= 1e-8 * torch.linalg.vector_norm(
            value
        ), name


def test_auto_beta_is_relative_to_the_slope_of_the_cost(trained: LoopedMLP) -> None:
    settings = make_settings(trained, beta="auto")
    assert settings.relative and settings.beta == 0.03
    state = relax(trained, X, 300).state
    chosen = [
        strength(trained, state, lambda z, c=c: c * torch.ones_like(z), settings)
        for c in (1.0, 1e-6)
    ]
    assert chosen[1] == pytest.approx(1e6 * chosen[0])
    assert strength(trained, state, torch.zeros_like, settings) == 0.03
    assert strength(trained, state, torch.ones_like, Settings(beta=0.2)) == 0.2
    # A cost of tiny slope: an absolute beta drowns in float32 rounding, the relative one does not.
    model = LoopedMLP(64, 64, 10, seed=0)
    exact = estimate_gradients(
        LoopedMLP(64, 64, 10, seed=0).double(), X, Y, "implicit", free_steps=300, nudged_steps=300
    )

    def error(beta: float | str) -> float:
        settings = make_settings(model, beta, 300, 300)
        # The slope of the cost, a millionth of it: the gradient must be a millionth too.
        result = estimate_scaled(model, settings, 1e-6)
        name = "W_in.weight"
        return float((result[name].double() * 1e6 - exact[name]).norm() / exact[name].norm())

    assert error("auto") < 1e-2 < error(0.03)


def estimate_scaled(model: LoopedMLP, settings: Settings, factor: float) -> dict[str, torch.Tensor]:
    from eqprop_lab.equilibrium.costs import make_cost
    from eqprop_lab.equilibrium.phases import centered

    cost = make_cost("cross_entropy", Y, 10, X.float())
    return centered(model, X.float(), lambda z: factor * cost.grad(z), settings).gradients


def test_auto_beta_gives_a_good_gradient(trained: LoopedMLP) -> None:
    exact = estimate_gradients(trained, X, Y, "implicit", free_steps=800, nudged_steps=800)
    got = estimate(trained, X, Y, "centered", make_settings(trained, "auto", 800, 800))[0].gradients
    for name, value in exact.items():
        assert torch.linalg.vector_norm(got[name] - value) <= 1e-2 * torch.linalg.vector_norm(
            value
        ), name


def test_names_and_settings_are_checked(trained: LoopedMLP) -> None:
    assert make_solver("picard") is PICARD and isinstance(make_solver("damped"), Damped)
    with pytest.raises(ValueError, match="did you mean 'chebyshev'"):
        estimate_gradients(trained, X, Y, solver="chebychev")
    for points in (3, 0):
        with pytest.raises(ValueError, match="points"):
            estimate_gradients(trained, X, Y, "holomorphic", points=points)
    with pytest.raises(TypeError, match="beta"):
        estimate_gradients(trained, X, Y, beta="automatic")

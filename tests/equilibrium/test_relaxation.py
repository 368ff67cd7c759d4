"""Relaxation: it reaches the fixed point, its bound holds, and failure is reported."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable

import pytest
import torch

from eqprop_lab import (
    ConvEqProp,
    ConvergenceWarning,
    DivergenceError,
    EquilibriumModel,
    LoopedMLP,
    relax,
)
from eqprop_lab.equilibrium.relaxation import settle
from eqprop_lab.models import DeepEqProp


@pytest.fixture
def model() -> LoopedMLP:
    return LoopedMLP(8, 32, 3, seed=0).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_fixed_point_is_reached_and_does_not_depend_on_the_start(
    model: LoopedMLP, x: torch.Tensor
) -> None:
    first = relax(model, x, max_steps=2000, tol=1e-13)
    random = (
        torch.rand(5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )
    second = relax(model, x, max_steps=2000, tol=1e-13, start=(random,))
    assert first.converged and second.converged
    torch.testing.assert_close(first.state[0], second.state[0], rtol=0, atol=1e-11)
    torch.testing.assert_close(
        model.step(first.state, model.drive(x))[0], first.state[0], rtol=0, atol=1e-12
    )


def test_damping_finds_the_same_fixed_point(model: LoopedMLP, x: torch.Tensor) -> None:
    plain = relax(model, x, max_steps=2000, tol=1e-13)
    damped = relax(model, x, max_steps=4000, tol=1e-13, solver="damped", damping=0.4)
    torch.testing.assert_close(plain.state[0], damped.state[0], rtol=0, atol=1e-11)
    assert damped.steps > plain.steps


def test_the_error_bound_holds_at_every_length(model: LoopedMLP, x: torch.Tensor) -> None:
    exact = relax(model, x, max_steps=2000, tol=1e-14).state[0]
    for steps in (1, 2, 4, 8, 16):
        end = relax(model, x, max_steps=steps)
        distance = (end.state[0] - exact).norm(dim=1).max().item()
        assert distance <= end.error_bound < math.inf
        assert end.steps == steps


def test_without_a_certificate_there_is_no_error_bound(x: torch.Tensor) -> None:
    model = LoopedMLP(8, 32, 3, use_spectral_norm=False, seed=0).double()
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original *= 4
    assert relax(model, x).error_bound == math.inf


def test_the_energy_never_rises_along_a_relaxation(model: LoopedMLP, x: torch.Tensor) -> None:
    path = relax(model, x, max_steps=40, trajectory=True).trajectory
    assert path is not None and len(path) == 41
    energies = torch.stack([model.energy(state, model.drive(x)) for state in path])
    assert int((energies.diff(dim=0) > 1e-12).sum()) == 0
    assert bool((energies[0] - energies[-1] > 1e-3).all())


def test_a_missed_tolerance_warns_and_is_reported(model: LoopedMLP, x: torch.Tensor) -> None:
    with pytest.warns(ConvergenceWarning, match="after 2 steps"):
        end = relax(model, x, max_steps=2, tol=1e-12)
    assert not end.converged and end.residual > 1e-12 and end.steps == 2


def test_fixed_length_reports_whether_it_settled(model: LoopedMLP, x: torch.Tensor) -> None:
    assert not relax(model, x, max_steps=1).converged
    assert relax(model, x, max_steps=100).converged


def test_one_unsettled_sample_is_seen_among_settled_ones(model: LoopedMLP, x: torch.Tensor) -> None:
    end = relax(model, x, max_steps=200)
    start = end.state[0].clone()
    start[3] = -start[3]
    assert relax(model, x, max_steps=1, start=(start,)).residual > 0.1


def test_divergence_is_an_error() -> None:
    class Exploding(LoopedMLP):
        def activate(self, a: torch.Tensor) -> torch.Tensor:
            return a * 1e30

    model = Exploding(8, 32, 3, seed=0)
    with pytest.raises(DivergenceError, match="diverged"):
        relax(model, torch.ones(2, 8), max_steps=50, tol=1e-6)
    with pytest.raises(DivergenceError, match="lower beta"):
        drive = model.drive(torch.ones(2, 8))
        settle(
            model, model.initial_state(drive), drive, max_steps=50, nudge=lambda state: (state[0],)
        )


def test_parametrisation_is_evaluated_once_per_settle(model: LoopedMLP, x: torch.Tensor) -> None:
    calls: list[None] = []
    model.W_rec.parametrizations.weight[0].register_forward_hook(lambda *_: calls.append(None))
    drive = model.drive(x)
    settle(model, model.initial_state(drive), drive, max_steps=25)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"max_steps": 2.0}, TypeError, "max_steps"),
        ({"tol": 0.0}, ValueError, "tol"),
        ({"solver": "newton"}, ValueError, "solver"),
        ({"solver": "damped", "damping": 0.0}, ValueError, "damping"),
        ({"start": (torch.zeros(5, 31),)}, ValueError, "start"),
    ],
)
def test_bad_arguments_are_named(
    model: LoopedMLP,
    x: torch.Tensor,
    change: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        relax(model, x, **change)  # type: ignore[arg-type]


def test_bad_inputs_are_refused(model: LoopedMLP, x: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="float32"):
        relax(model, x.float())
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        relax(model, x.numpy())  # type: ignore[arg-type]
    x[0, 0] = math.inf
    with pytest.raises(ValueError, match="infinite"):
        relax(model, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tol", [1e-3, 1e-7])
@pytest.mark.parametrize(
    "make",
    [
        lambda: LoopedMLP(64, 64, 10, rho=0.5, seed=0),
        lambda: LoopedMLP(64, 400, 10, rho=0.99, seed=1),
        lambda: DeepEqProp(64, [48, 32, 24], 10, gamma=1.0, rho=0.9, seed=0),
        lambda: ConvEqProp(1, [8, 16], 10, gamma=0.3, rho=0.9, image_size=8, seed=0),
    ],
)
def test_the_certified_distance_covers_the_rounding_of_its_dtype(
    make: Callable[[], EquilibriumModel], tol: float, dtype: torch.dtype
) -> None:
    model = make().to(dtype)
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # float32 may stop at its own rounding
        end = relax(model, x, 3000, tol)
        true = relax(copy.deepcopy(model).double(), x.double(), 20_000, 1e-15)
    apart = [(a.double() - b).flatten(1) for a, b in zip(end.state, true.state, strict=True)]
    worst = float(torch.cat(apart, 1).norm(dim=1).max())
    assert worst <= end.error_bound

"""Probes: each against a number known beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from eqprop_lab import LoopedMLP, estimate_gradients, relax
from eqprop_lab.instruments.probes import (
    convergence_curve,
    count_increases,
    energy_curve,
    increases,
    inject_noise_and_relax,
    local_spectral_radius,
    measured_rate,
    peak_tensor_bytes,
    step_jacobian,
)


@pytest.fixture
def model() -> LoopedMLP:
    return LoopedMLP(8, 24, 3, seed=0).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_energy_curve_is_the_energy_of_each_state_and_never_rises(
    model: LoopedMLP, x: torch.Tensor
) -> None:
    start = (torch.rand(6, 24, dtype=torch.float64, generator=generator()) * 1.9 - 0.95,)
    path = relax(model, x, 40, start=start, trajectory=True).trajectory
    assert path is not None
    energies = energy_curve(model, x, path)
    assert energies.shape == (41, 6)
    torch.testing.assert_close(
        energies[7], model.energy(path[7], model.drive(x)).detach(), rtol=0, atol=1e-14
    )
    assert count_increases(energies) == 0
    # Read backwards the same curve rises wherever it moved.
    assert count_increases(energies.flip(0)) > 6 * 10


def test_a_rise_counts_and_rounding_does_not() -> None:
    curve = torch.tensor([[3.0], [2.0], [2.5], [2.5 + 1e-15], [1.0], [1.001]], dtype=torch.float64)
    assert increases(curve)[:, 0].tolist() == [False, True, False, False, True]
    assert count_increases(curve) == 2


def test_an_energy_that_is_not_finite_is_no_descent() -> None:
    with pytest.raises(ValueError, match="energies holds NaN"):
        count_increases(torch.tensor([[1.0], [math.nan], [0.0]]))


def test_the_rate_of_a_geometric_curve_is_its_factor() -> None:
    steps = torch.arange(80, dtype=torch.float64)[:, None]
    curve = 5 * torch.tensor([[0.5, 0.7]], dtype=torch.float64) ** steps + 0.0
    torch.testing.assert_close(
        measured_rate(curve), torch.tensor([0.5, 0.7], dtype=torch.float64), rtol=1e-9, atol=0
    )
    slow = torch.tensor([[0.999]], dtype=torch.float64) ** steps
    assert bool(measured_rate(slow).isnan().all())
    with pytest.raises(ValueError, match="low must be"):
        measured_rate(curve, high=1e-6, low=1e-4)


def test_the_jacobian_of_a_step_is_d_times_w(model: LoopedMLP, x: torch.Tensor) -> None:
    h = relax(model, x, 400).state[0]
    weight = model.W_rec.weight.detach()
    slope = 1 - h.square()
    torch.testing.assert_close(
        step_jacobian(model, x, (h,)), slope[:, :, None] * weight, rtol=0, atol=1e-12
    )
    root = slope.sqrt()
    expected = torch.linalg.eigvalsh(root[:, :, None] * weight * root[:, None, :]).abs().amax(1)
    radius = local_spectral_radius(model, x, (h,))
    torch.testing.assert_close(radius, expected, rtol=1e-10, atol=0)
    assert bool((radius < model.contraction_bound()).all())


def test_the_jacobian_needs_no_float64_and_leaves_no_gradient(x: torch.Tensor) -> None:
    model = LoopedMLP(8, 24, 3, seed=0)
    state = relax(model, x.float(), 50).state
    jacobian = step_jacobian(model, x.float(), state)
    slope = 1 - state[0].square()
    torch.testing.assert_close(
        jacobian, slope[:, :, None] * model.W_rec.weight.detach(), rtol=1e-4, atol=1e-5
    )
    assert not jacobian.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_measured_rate_is_the_local_radius(model: LoopedMLP, x: torch.Tensor) -> None:
    exact = relax(model, x, 3000, tol=1e-14).state
    path = relax(model, x, 80, trajectory=True).trajectory
    assert path is not None
    curve = convergence_curve(path, exact)
    assert curve.shape == (81, 6)
    ratio = measured_rate(curve) / local_spectral_radius(model, x, exact)
    assert float((ratio - 1).abs().max()) < 0.05


def test_injected_noise_is_measured_and_heals(model: LoopedMLP, x: torch.Tensor) -> None:
    result = inject_noise_and_relax(model, x, noise_level=0.5, generator=generator())
    assert set(result) == {"initial_noise", "final_noise", "damping_ratio", "damping_percent"}
    assert result["initial_noise"] == pytest.approx(0.5 * math.sqrt(24), rel=0.15)
    assert 0 < result["final_noise"] < 0.01 * result["initial_noise"]
    assert result["damping_ratio"] == result["final_noise"] / result["initial_noise"]
    assert result["damping_percent"] == pytest.approx(100 * (1 - result["damping_ratio"]))


def test_more_steps_heal_more_and_the_generator_decides_the_noise(
    model: LoopedMLP, x: torch.Tensor
) -> None:
    one = inject_noise_and_relax(
        model, x, injection_step=15, total_steps=16, generator=generator(3)
    )
    many = inject_noise_and_relax(
        model, x, injection_step=15, total_steps=60, generator=generator(3)
    )
    again = inject_noise_and_relax(
        model, x, injection_step=15, total_steps=60, generator=generator(3)
    )
    assert one["initial_noise"] == many["initial_noise"]
    assert many["final_noise"] < 1e-6 * one["final_noise"]
    assert many == again


def test_a_network_with_two_fixed_points_does_not_heal() -> None:
    model = LoopedMLP(2, 2, 2, use_spectral_norm=False, seed=0).double()
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original.copy_(torch.tensor([[0.0, 3.0], [3.0, 0.0]]))
    x = torch.ones(200, 2, dtype=torch.float64)
    result = inject_noise_and_relax(
        model, x, noise_level=3.0, total_steps=200, generator=generator()
    )
    assert result["damping_percent"] < 90


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"noise_level": 0.0}, ValueError, "noise_level must be"),
        ({"noise_level": math.nan}, ValueError, "noise_level must be"),
        ({"injection_step": 0}, ValueError, "injection_step must be"),
        (
            {"total_steps": 15},
            ValueError,
            "total_steps must be larger than injection_step = 15, got 15",
        ),
        ({"total_steps": 30.0}, TypeError, "total_steps must be"),
    ],
)
def test_bad_arguments_are_named(
    model: LoopedMLP, x: torch.Tensor, change: dict[str, float], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        inject_noise_and_relax(model, x, **change)


def test_peak_bytes_count_what_is_alive_at_one_time() -> None:
    before = torch.zeros(1000)

    def chain() -> torch.Tensor:
        values = before + 1
        for _ in range(20):
            values = values + 1  # the old and the new one are alive together, no more
        return values

    assert peak_tensor_bytes(chain) == 2 * 4000
    assert peak_tensor_bytes(lambda: [before + i for i in range(5)]) == 5 * 4000
    assert peak_tensor_bytes(lambda: before.view(10, 100).T[:3].detach()) == 0
    assert peak_tensor_bytes(lambda: torch.add(before, 1, out=torch.empty(1000)).mul_(2)) == 4000
    leaf = torch.zeros(1000, requires_grad=True)
    assert peak_tensor_bytes(lambda: leaf.exp().exp().exp()) == 3 * 4000


def test_peak_bytes_agree_with_the_profiler() -> None:
    x, y = torch.randn(32, 64, generator=generator()), torch.arange(32) % 10
    for estimator in ("centered", "bptt"):
        # each call meets weights that are new to it: what is made once for them is made in both
        models = iter([LoopedMLP(64, 64, 10, seed=0) for _ in range(2)])

        def compute(models: Iterator[LoopedMLP] = models, estimator: str = estimator) -> object:
            return estimate_gradients(next(models), x, y, estimator, free_steps=40, nudged_steps=40)

        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler:
            compute()
        events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
        total = peak = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            total += event.nbytes()
            peak = max(peak, total)
        assert peak_tensor_bytes(compute) == pytest.approx(peak, rel=0.01, abs=1.1 * 4 * 64**2)


def memory_growth(estimator: str) -> float:
    """Peak with 1000 steps in each phase over the peak with 10."""
    model = LoopedMLP(64, 64, 10, seed=0)
    x, y = torch.randn(32, 64, generator=generator()), torch.arange(32) % 10

    def peak(steps: int) -> int:
        return peak_tensor_bytes(
            lambda: estimate_gradients(model, x, y, estimator, free_steps=steps, nudged_steps=steps)
        )

    peak(10)  # the first one makes what stays until the weights change
    return peak(1000) / peak(10)


@pytest.mark.parametrize(
    "estimator", ["one_sided", "centered", "asymmetric", "response", "implicit"]
)
def test_an_eqprop_step_needs_no_more_memory_for_more_steps(estimator: str) -> None:
    assert memory_growth(estimator) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("estimator", ["bptt", "truncated_bptt"])
def test_the_same_check_fails_for_backpropagation_through_time(estimator: str) -> None:
    with pytest.raises(AssertionError):
        test_an_eqprop_step_needs_no_more_memory_for_more_steps(estimator)
    assert memory_growth(estimator) > 20

"""The explorers of notebook 01: what they compute is the package's own physics, and they say what
is seen.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqprop_lab import relax
from eqprop_lab.notebook.explorers.convergence import RelaxationExplorer, network_of_norm
from eqprop_lab.notebook.explorers.energy_landscape import (
    EnergyLandscape,
    energy_surface,
    stable_states,
    two_unit_network,
)


@pytest.fixture(scope="module")
def landscape() -> EnergyLandscape:
    return EnergyLandscape()


@pytest.fixture(scope="module")
def relaxation() -> RelaxationExplorer:
    return RelaxationExplorer()


def drive(u1: float, u2: float) -> torch.Tensor:
    return torch.tensor([[u1, u2]], dtype=torch.float64)


def test_the_two_unit_network_steps_by_the_given_weights() -> None:
    model = two_unit_network(0.1, -0.2, 0.5)
    weight = torch.tensor([[0.1, 0.5], [0.5, -0.2]]).double()
    h, u = drive(0.3, -0.4), drive(0.7, 0.2)
    torch.testing.assert_close(
        model.step((h,), model.drive(u))[0], torch.tanh(h @ weight + u), rtol=0, atol=1e-15
    )


def test_the_surface_is_lowest_at_the_fixed_point() -> None:
    model, x = two_unit_network(w12=0.6), drive(0.3, -0.1)
    axis, energy = energy_surface(model, x, 201)
    row, column = np.unravel_index(energy.argmin(), energy.shape)
    (h,) = relax(model, x, 200).state
    assert abs(axis[column] - h[0, 0]) < 0.006 and abs(axis[row] - h[0, 1]) < 0.006
    expected = model.energy((torch.tensor([[axis[5], axis[150]]]),), model.drive(x))
    assert energy[150, 5] == pytest.approx(expected.item(), abs=1e-12)


def test_the_number_of_minima_follows_the_norm() -> None:
    x = drive(0.0, 0.0)
    one, two = (
        stable_states(two_unit_network(w12=0.8), x),
        stable_states(two_unit_network(w12=1.5), x),
    )
    assert one.tolist() == [[0.0, 0.0]]
    assert two.shape == (2, 2)
    height = float(two[1, 0])
    assert height == pytest.approx(np.tanh(1.5 * height), abs=1e-3) and height > 0.5
    torch.testing.assert_close(two[0], -two[1])
    assert len(stable_states(two_unit_network(2.0, 2.0, 0.0), x)) == 4


def test_below_norm_one_every_walk_goes_downhill(landscape: EnergyLandscape) -> None:
    for w12 in (-0.95, -0.3, 0.5, 0.95):
        landscape.set(w12=w12)
        assert len(landscape.data.rises) == 0
        assert "with 0 rises; 1 minimum found" in landscape.alt and "is certified" in landscape.alt
    landscape.reset()


def test_beyond_norm_one_a_full_step_can_climb_and_a_half_step_cannot(
    landscape: EnergyLandscape,
) -> None:
    landscape.set(w12=1.5, u1=0.0, u2=0.0, start1=-0.6, start2=0.55, step_size=1.0)
    assert len(landscape.data.rises) > 5
    assert (
        "has not settled" in landscape.alt
        and "2 minima" in landscape.alt
        and "nothing is certified" in landscape.alt
    )
    before = landscape.png
    landscape.set(step_size=0.5)
    assert len(landscape.data.rises) == 0
    assert landscape.png != before
    landscape.reset()


def test_the_landscape_draws_at_every_end_of_every_slider(landscape: EnergyLandscape) -> None:
    for slider in landscape.controls:
        for value in (slider.low, slider.high):  # type: ignore[union-attr]
            data = landscape.compute(**(landscape.values | {slider.name: value}))
            assert np.isfinite(data.energies).all() and len(data.minima) >= 1
    assert landscape.errors == []


def test_the_network_has_the_norm_it_is_asked_for() -> None:
    assert network_of_norm(0.73).contraction_bound() == pytest.approx(0.73, abs=1e-12)


def test_the_certificate_bounds_the_measured_distance(relaxation: RelaxationExplorer) -> None:
    for values in (
        {"rho": 0.1},
        {"rho": 0.99, "strength": 0.0},
        {"rho": 0.9, "strength": 10.0, "steps": 80},
    ):
        relaxation.reset()
        relaxation.set(**values)
        data = relaxation.data
        bound = data.distances[0] * data.norm ** np.arange(len(data.distances))
        assert (data.distances <= bound + 1e-9).all()
        assert data.radius < data.norm
        assert len(data.distances) == relaxation.values["steps"] + 1
    assert relaxation.errors == []


def test_strong_input_saturates_and_speeds_up(relaxation: RelaxationExplorer) -> None:
    relaxation.reset()
    relaxation.set(strength=0.2)
    weak, alt, png = relaxation.data.radius, relaxation.alt, relaxation.png
    relaxation.set(strength=10.0)
    assert relaxation.data.radius < 0.6 * weak
    assert relaxation.alt != alt and relaxation.png != png


def test_the_sentence_names_the_step_or_the_distance(relaxation: RelaxationExplorer) -> None:
    relaxation.reset()
    relaxation.set(rho=0.5, steps=60)
    first = relaxation.data.first_below
    assert (
        first is not None
        and relaxation.data.distances[first] < 1e-6 <= relaxation.data.distances[first - 1]
    )
    assert f"from step {first} on" in relaxation.alt
    relaxation.set(steps=5)
    assert relaxation.data.first_below is None and "in 5 steps;" in relaxation.alt

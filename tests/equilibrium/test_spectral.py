"""The bounded symmetric parametrisation: symmetric, strictly below the cap, smooth, and quiet when
read.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqprop_lab import LoopedMLP
from eqprop_lab.equilibrium.linear_maps import DenseMap
from eqprop_lab.equilibrium.norms import exact_norm
from eqprop_lab.equilibrium.spectral import BoundedNorm, bounded_weights, follow_updates


def recurrent(model: LoopedMLP) -> torch.Tensor:
    return model.W_rec.weight.detach()


@pytest.mark.parametrize("size", [2, 3, 64, 257])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_norm_is_strictly_below_the_cap_at_any_scale(size: int, scale: float) -> None:
    weight = scale * torch.randn(size, size, generator=torch.Generator().manual_seed(size))
    bounded = BoundedNorm(weight, cap=0.9)(weight)
    torch.testing.assert_close(bounded, bounded.T, rtol=0, atol=0)
    assert exact_norm(bounded) < 0.9


def test_the_bound_holds_under_large_random_updates() -> None:
    model = LoopedMLP(4, 96, 2, rho=0.9, seed=0)
    original = model.W_rec.parametrizations.weight.original
    generator = torch.Generator().manual_seed(0)
    norms = []
    for _ in range(60):
        with torch.no_grad():
            original += 0.02 * torch.randn(original.shape, generator=generator)
        norms.append(exact_norm(recurrent(model)))
    assert max(norms) < 0.9


def test_extreme_eigenvalues_of_both_signs_do_not_stall_the_tracking() -> None:
    # +sigma and -sigma of nearly equal size: where a single power vector under-estimates the norm.
    values = torch.cat([torch.tensor([1.0, -0.999, 0.998, -0.997]), torch.linspace(-0.5, 0.5, 28)])
    basis = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(1))).Q
    parameter = torch.nn.Parameter(basis @ torch.diag(values) @ basis.T)
    bounded = BoundedNorm(parameter, cap=0.9)
    bounded(parameter)
    for _ in range(20):
        with torch.no_grad():
            parameter *= 1.2
        assert exact_norm(bounded(parameter)) < 0.9


def test_reading_has_no_side_effect_and_an_update_moves_the_block() -> None:
    model = LoopedMLP(4, 16, 2, seed=0)
    first = recurrent(model)
    assert torch.equal(first, recurrent(model))
    block = model.W_rec.parametrizations.weight[0].basis.clone()
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original += 0.1 * torch.eye(16)
        model.W_rec.parametrizations.weight.original[0, 1] += 1.0
    recurrent(model)
    assert torch.equal(block, model.W_rec.parametrizations.weight[0].basis)
    follow_updates(bounded_weights(model))
    assert not torch.equal(block, model.W_rec.parametrizations.weight[0].basis)


def test_state_dict_restores_the_effective_weight_exactly() -> None:
    source, target = LoopedMLP(4, 16, 2, seed=0), LoopedMLP(4, 16, 2, seed=1)
    with torch.no_grad():
        source.W_rec.parametrizations.weight.original += 0.3
    expected = recurrent(source)
    target.load_state_dict(source.state_dict())
    assert torch.equal(recurrent(target), expected)


def test_gradient_through_the_bound_is_the_finite_difference() -> None:
    weight = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    bounded = BoundedNorm(weight, cap=0.8)
    assert torch.autograd.gradcheck(bounded, weight.clone().requires_grad_())


def test_exact_norm_is_the_largest_singular_value() -> None:
    weight = torch.randn(5, 9, generator=torch.Generator().manual_seed(3))
    assert exact_norm(weight) == pytest.approx(
        np.linalg.svd(weight.double().numpy())[1][0], rel=1e-12
    )


def test_without_a_cap_it_is_symmetric_only_and_says_the_norm() -> None:
    model = LoopedMLP(4, 32, 2, use_spectral_norm=False, seed=0)
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original *= 5
    weight = recurrent(model)
    assert torch.equal(weight, weight.T)
    assert (
        model.contraction_bound() == pytest.approx(exact_norm(weight))
        and model.contraction_bound() > 1
    )


@pytest.mark.parametrize("rho", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_a_cap_outside_the_unit_interval_is_refused(rho: float) -> None:
    with pytest.raises(ValueError, match="rho"):
        LoopedMLP(4, 8, 2, rho=rho)


def test_a_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        BoundedNorm(torch.zeros(3, 4), cap=0.9)


@pytest.mark.parametrize("size", [1, 2, 30, 200])
def test_the_certificate_is_rounded_outward(size: int) -> None:
    # Weights whose norm is known exactly: a signed permutation of a power of two has no rounding of
    # its own.
    order = torch.randperm(size, generator=torch.Generator().manual_seed(size))
    weight = 0.5 * torch.eye(size)[order]
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0]
    assert 0.5 <= exact_norm(weight) <= 0.5 * (1 + 1e-12)
    turned = torch.from_numpy(basis) @ weight.double()
    assert np.linalg.svd(turned.numpy(), compute_uv=False)[0] <= exact_norm(turned)
    assert DenseMap(size, size).norm_bound(weight) >= 0.5
    model = LoopedMLP(2, size, 2, use_spectral_norm=False, seed=0)
    with torch.no_grad():
        model.W_rec.parametrizations.weight.original.copy_(0.5 * torch.eye(size))
    assert 0.5 <= model.contraction_bound() <= 0.5 * (1 + 1e-12)


def test_what_is_kept_of_a_weight_goes_with_it() -> None:
    """W and the derivative after every way to change a weight, against a bound that is new."""
    weight, by_weight = torch.randn(2, 80, 80, dtype=torch.float64)
    bound = BoundedNorm(weight, 0.9)

    def changed() -> None:
        weight[3] += 0.5

    def scaled() -> None:
        bound.scaled(2.0, weight.mul_(2.0))

    for change in (lambda: None, scaled, changed, lambda: weight.mul_(0.3)):
        change()
        fresh = BoundedNorm(weight, 0.9)
        torch.testing.assert_close(bound(weight), fresh(weight))
        found, expected = (b.pull_back(weight, by_weight.clone()) for b in (bound, fresh))
        torch.testing.assert_close(found, expected)

"""The bound of any linear map: strictly below the cap at the true image size, smooth, quiet when
read, certified.
"""

from __future__ import annotations

import copy
import io

import pytest
import torch

from eqprop_lab import ConvEqProp
from eqprop_lab.equilibrium import linear_maps
from eqprop_lab.equilibrium.linear_maps import ConvMap, DenseMap
from eqprop_lab.equilibrium.norms import conv_norm, flattened_norm
from eqprop_lab.equilibrium.sigma_vector import tracked
from eqprop_lab.equilibrium.spectral import Bounded, bounded_weights, follow_updates

MAPS = [
    ConvMap((4, 6), (8, 8), 3, 2),
    ConvMap((6, 4), (7, 7), 5, 1),
    ConvMap((4, 6), (9, 6), 3, 3),
    DenseMap(20, 12),
]


def kernel(linear: linear_maps.LinearMap, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        linear.weight_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def bounded(model: ConvEqProp) -> Bounded:
    module = model.get_submodule("layers.1.parametrizations.weight.0")
    assert isinstance(module, Bounded)
    return module


@pytest.mark.parametrize("linear", MAPS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_norm_is_strictly_below_any_cap(linear: linear_maps.LinearMap, scale: float) -> None:
    weight = scale * kernel(linear)
    for cap in (0.5, 3.0):
        effective = Bounded(weight, linear, cap)(weight)
        assert 0 < linear.norm_bound(effective) < cap
    assert torch.equal(Bounded(weight, linear, None)(weight), weight)


@pytest.mark.parametrize("linear", MAPS)
def test_the_bound_holds_under_large_random_updates(linear: linear_maps.LinearMap) -> None:
    weight = torch.nn.Parameter(kernel(linear))
    module = Bounded(weight, linear, 3.0)
    norms = []
    for seed in range(30):
        with torch.no_grad():
            weight += 0.2 * kernel(linear, seed + 1)
            norms.append(linear.norm_bound(module(weight)))
            module.follow(weight)
            with tracked():
                norms.append(linear.norm_bound(module(weight)))
    assert max(norms) < 3.0
    assert module.sigma == pytest.approx(linear.norm_bound(weight), rel=5e-3)


@pytest.mark.parametrize("linear", MAPS[:3])
def test_certified_above_true_norm_and_the_flattened_kernel_is_no_bound(
    linear: ConvMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = kernel(linear)
    true = conv_norm(weight, linear.size, linear.stride, linear.kernel // 2)
    assert true <= linear.norm_bound(weight) * (1 + 1e-9) and linear.norm_bound(
        weight
    ) == pytest.approx(true, rel=1e-6)
    monkeypatch.setattr(linear_maps, "EXACT_UP_TO", 0)
    assert true <= linear.norm_bound(weight) <= 2 * true
    assert flattened_norm(weight) < linear.norm_bound(weight)


def test_the_gradient_through_the_bound_is_the_finite_difference() -> None:
    linear = MAPS[0]
    weight = torch.nn.Parameter(kernel(linear))
    direction, along = kernel(linear, 1), kernel(linear, 2)

    def value(w: torch.Tensor) -> torch.Tensor:
        return (Bounded(w, linear, 3.0)(w) * direction).sum()

    (slope,) = torch.autograd.grad(value(weight), weight)
    with torch.no_grad():
        step = 1e-5
        difference = (value(weight + step * along) - value(weight - step * along)) / (2 * step)
    assert float((slope * along).sum()) == pytest.approx(float(difference), rel=1e-4)


def test_reading_has_no_side_effect_and_an_update_moves_the_block() -> None:
    model = ConvEqProp(1, 4, 3, image_size=8, seed=0)
    module, original = (
        bounded(model),
        model.get_parameter("layers.1.parametrizations.weight.original"),
    )
    before = module.basis.clone()
    first = model.effective_weights()["up1"]
    assert torch.equal(first, model.effective_weights()["up1"]) and torch.equal(
        before, module.basis
    )
    # changes the weight without a new version
    optimizer = torch.optim.Adam([original], lr=0.05, fused=True)
    original.grad = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    model.effective_weights()
    assert torch.equal(before, module.basis)
    follow_updates(bounded_weights(model))
    assert not torch.equal(before, module.basis)
    after = module.basis.clone()
    twin = copy.deepcopy(model)
    with tracked():
        twin.effective_weights()
    assert torch.equal(bounded(twin).basis, after)  # a copy is no update


def test_a_checkpoint_holds_the_block() -> None:
    model, other = (ConvEqProp(1, 4, 3, image_size=8, seed=seed) for seed in (0, 1))
    with torch.no_grad():
        model.get_parameter("layers.1.parametrizations.weight.original").mul_(1.3).add_(0.02)
    follow_updates(bounded_weights(model))
    with tracked():
        expected = model.effective_weights()["up1"]
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with tracked():
        assert torch.equal(other.effective_weights()["up1"], expected)
    assert torch.equal(bounded(other).basis, bounded(model).basis)


def test_a_start_at_the_share_of_the_cap_and_not_at_it() -> None:
    for bounded_norm in (True, False):
        model = ConvEqProp(1, [4, 6, 8], 3, image_size=16, use_spectral_norm=bounded_norm, seed=0)
        for norm in model.layer_norms():
            assert norm == pytest.approx(0.8 * model.cap, rel=2e-3)


def test_the_certificate_is_computed_anew_only_after_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, calls = ConvEqProp(1, 4, 3, image_size=8, seed=0), []
    exact = ConvMap.norm_bound

    def counted(linear: ConvMap, weight: torch.Tensor) -> float:
        calls.append(weight)
        return exact(linear, weight)

    monkeypatch.setattr(ConvMap, "norm_bound", counted)
    first = model.contraction_bound()
    assert model.contraction_bound() == first and len(calls) == 1
    with torch.no_grad():
        model.get_parameter("layers.1.parametrizations.weight.original").mul_(2.0)
    assert first < model.contraction_bound() < 0.9 and len(calls) == 2


def test_a_cap_must_be_positive() -> None:
    with pytest.raises(ValueError, match="cap must be"):
        Bounded(kernel(MAPS[3]), MAPS[3], 0.0)

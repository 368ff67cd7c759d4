"""SingleStateConv: symmetric at every size, one energy that falls, a certified step, exact
gradients, and it learns.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    EqPropTrainer,
    build_dataset,
    check_model,
    estimate_gradients,
    model_registry,
    relax,
)
from eqprop_lab.equilibrium import linear_maps
from eqprop_lab.equilibrium.norms import conv_norm
from eqprop_lab.models.single_state import SingleStateConv, SymmetricConvMap, symmetric_kernel

DATA = build_dataset("digits")
X, Y = DATA.train.x[:6].double(), DATA.train.y[:6]


def single(**options: object) -> SingleStateConv:
    return SingleStateConv(1, 5, 10, image_size=8, seed=0, **options).double()  # type: ignore[arg-type]


def original(model: SingleStateConv) -> Tensor:
    return model.recurrent.get_parameter("parametrizations.weight.original")


def random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_contract_is_kept() -> None:
    check = check_model(single(), X, Y)
    assert check.ok, str(check)


@pytest.mark.parametrize("size", [(8, 8), (7, 4), (1, 5)])
def test_the_map_is_its_own_transpose_and_its_gradient_is_autograds(size: tuple[int, int]) -> None:
    linear = SymmetricConvMap((4, 4), size, 3, 1)
    kernel = random(linear.weight_shape)
    x, y = random((2, *linear.in_shape), 1), random((2, *linear.out_shape), 2)
    assert float((linear.up(x, kernel) * y).sum()) == pytest.approx(
        float((x * linear.up(y, kernel)).sum()), rel=1e-12
    )
    assert torch.equal(linear.down(y, kernel), linear.up(y, kernel))
    leaf = kernel.clone().requires_grad_()
    (expected,) = torch.autograd.grad((linear.up(x, leaf) * y).sum(), leaf)
    torch.testing.assert_close(linear.weight_gradient(x, y), expected)
    plain = linear_maps.ConvMap((4, 4), size, 3, 1)
    assert float((plain.up(x, kernel) * y).sum()) != pytest.approx(
        float((x * plain.up(y, kernel)).sum()), rel=1e-3
    )


def test_force_is_minus_the_gradient_of_the_energy() -> None:
    model = single()
    drive = tuple(block.detach() for block in model.drive(X))
    h = (1.9 * torch.rand(drive[0].shape, dtype=torch.float64) - 0.95).requires_grad_()
    (slope,) = torch.autograd.grad(model.energy((h,), drive).sum(), h)
    torch.testing.assert_close(
        slope, torch.atanh(h) - model.force((h,), drive)[0], rtol=1e-9, atol=1e-9
    )


@torch.no_grad()
def test_the_energy_falls_along_the_relaxation_and_every_start_ends_at_one_point() -> None:
    model, ends = single(rho=0.99), []
    original(model).mul_(100)
    drive = model.drive(X)
    for seed in range(3):
        start = (torch.tanh(3 * random(drive[0].shape, seed)),)
        path = relax(model, X, 3000, 1e-13, start=start, trajectory=True)
        assert path.trajectory is not None
        energies = torch.stack([model.energy(state, drive) for state in path.trajectory])
        assert float(energies.diff(dim=0).max()) <= 1e-12 * float(energies.abs().max())
        assert float((energies[0] - energies[-1]).min()) > 0.1
        ends.append(path.state[0])
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("image", [(8, 8), (5, 6)])
@torch.no_grad()
def test_the_certificate_is_the_norm_and_stays_below_rho_under_updates(
    image: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SingleStateConv(2, 4, 3, rho=0.7, image_size=image, seed=0).double()
    assert model.contraction_bound() == pytest.approx(0.8 * 0.7, rel=2e-3)
    for seed in range(20):
        original(model).add_(0.03 * random(tuple(original(model).shape), seed))
        kernel = model.effective_weights()["K"]
        true = conv_norm(kernel, image, 1, 1)
        assert true == pytest.approx(model.contraction_bound(), rel=1e-6) and true < 0.7
    monkeypatch.setattr(linear_maps, "EXACT_UP_TO", 0)
    assert true <= model.recurrent.linear.norm_bound(model.recurrent.weight) <= 1.5 * true
    # No step lengthens a distance by more than promised.
    h, other = (0.01 * random((8, 4, *image), seed) for seed in (1, 2))
    drive = (torch.zeros_like(h),)
    moved = (model.step((h,), drive)[0] - model.step((other,), drive)[0]).flatten(1).norm(dim=1)
    assert float((moved / (h - other).flatten(1).norm(dim=1)).max()) <= model.contraction_bound()


def test_every_parameter_s_gradient_is_that_of_backpropagation_through_time() -> None:
    model = single()
    expected = estimate_gradients(model, X, Y, "bptt", free_steps=200)
    assert expected.keys() == dict(model.named_parameters()).keys()
    for estimator, beta, limit in (
        ("centered", 0.03, 1e-4),
        ("centered", 0.003, 1e-6),
        ("response", 0.03, 1e-9),
    ):
        got = estimate_gradients(model, X, Y, estimator, beta, free_steps=200, nudged_steps=200)
        for name, value in expected.items():
            assert float((got[name] - value).norm() / value.norm()) <= limit, (estimator, name)


def test_it_learns_the_digits_and_keeps_its_certificate() -> None:
    model = SingleStateConv(1, 8, 10, image_size=8, seed=0)
    trainer = EqPropTrainer(
        model,
        "centered",
        "adamw",
        2e-2,
        schedule="one_cycle",
        free_steps=6,
        nudged_steps=4,
        progress=False,
    )
    history = trainer.fit(
        DATA.train.batches(64, shuffle=True, seed=0), 2, DATA.validation.batches(180)
    )
    assert history["val_accuracy"][-1] >= 0.8
    assert max(history["norm"]) < 0.9
    symmetric = model.effective_weights()["K"]
    assert torch.equal(symmetric, symmetric_kernel(symmetric))


def test_seed_registry_and_text() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    made = model_registry.create(
        "SingleStateConv", input_channels=1, channels=5, output_dim=10, image_size=8, seed=0
    )
    assert torch.equal(before, torch.get_rng_state())
    assert sum(p.numel() for p in SingleStateConv(1, 16, 10, image_size=8).parameters()) == 5_034
    assert isinstance(made, SingleStateConv) and "rho=0.9, max_steps=60" in repr(made)
    assert all(
        torch.equal(a.double(), b)
        for a, b in zip(made.parameters(), single().parameters(), strict=True)
    )
    assert SingleStateConv(3, 4, 2, image_size=(5, 7))(torch.rand(2, 3, 5, 7)).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 4, 10), {}, ValueError, "input_channels must be an integer >= 1, got 0"),
        ((1, 0, 10), {}, ValueError, "channels must be an integer >= 1, got 0"),
        ((1, 4, 2.5), {}, TypeError, "output_dim must be an integer"),
        ((1, 4, 10), {"rho": 1.0}, ValueError, "rho must be"),
        ((1, 4, 10), {"max_steps": 0}, ValueError, "max_steps must be"),
        ((1, 4, 10), {"image_size": 0}, ValueError, "image_size must be"),
    ],
)
def test_bad_arguments_are_named(
    arguments: tuple, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SingleStateConv(*arguments, **({"image_size": 8} | options))


def test_bad_input_is_refused_before_any_work() -> None:
    for x, message in (
        (torch.rand(2, 2, 8, 8), r"x must have shape \(B, 1, 8, 8\), got \(2, 2, 8, 8\)"),
        (torch.rand(2, 64), r"x must have shape \(B, 1, 8, 8\)"),
        (torch.full((2, 1, 8, 8), math.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            relax(single(), x.double())

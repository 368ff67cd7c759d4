"""ConvEqProp and DeepEqProp keep the contract: shapes, one energy, a certificate that holds, clear
refusals.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    ConvEqProp,
    DeepEqProp,
    EqPropTrainer,
    build_dataset,
    check_model,
    create_model_preset,
    relax,
)
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.relaxation import settle
from eqprop_lab.equilibrium.spectral import Bounded
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.layered import LayeredModel

DIGITS = build_dataset("digits").train


def conv(channels: int | list[int] = 4, **options: object) -> ConvEqProp:
    return ConvEqProp(1, channels, 10, image_size=8, seed=0, **options).double()  # type: ignore[arg-type]


def deep(**options: object) -> DeepEqProp:
    return DeepEqProp(64, [24, 16, 12], 10, seed=0, **options).double()  # type: ignore[arg-type]


def inputs(count: int = 4) -> Tensor:
    return DIGITS.x[:count].double()


def scaled(model: LayeredModel, factor: float) -> LayeredModel:
    """The same model with interior weights `factor` times as large, far above any bound."""
    with torch.no_grad():
        for layer in model._layers()[1:]:
            layer.get_parameter("parametrizations.weight.original").mul_(factor)
    return model


def random_state(model: LayeredModel, x: Tensor, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    first = model.initial_state(model.drive(x))
    return tuple(
        torch.rand(s.shape, dtype=s.dtype, generator=generator) * 1.98 - 0.99 for s in first
    )


@pytest.mark.parametrize("model", [conv(), conv([3, 4, 5], gamma=0.3), deep(), deep(gamma=1.0)])
def test_the_contract_is_kept(model: LayeredModel) -> None:
    check = check_model(model, DIGITS.x[:6].double(), DIGITS.y[:6])
    assert check.ok, str(check)
    assert "asymmetric error" in str(check)


@pytest.mark.parametrize(
    ("channels", "size", "strides", "shapes"),
    [
        (4, 8, None, [(4, 8, 8), (8, 4, 4)]),
        (4, 28, None, [(4, 14, 14), (8, 7, 7)]),
        ([4, 5, 6], 28, None, [(4, 14, 14), (5, 7, 7), (6, 7, 7)]),
        ([2, 3, 4, 5], 32, None, [(2, 16, 16), (3, 8, 8), (4, 4, 4), (5, 2, 2)]),
        ([2, 3], (6, 9), [1, 3], [(2, 6, 9), (3, 2, 3)]),
    ],
)
def test_shapes_follow_the_strides(
    channels: object, size: object, strides: object, shapes: list[tuple]
) -> None:
    model = ConvEqProp(1, channels, 3, image_size=size, strides=strides, seed=0)  # type: ignore[arg-type]
    x = torch.rand(2, *model._layers()[0].linear.in_shape)
    drive = model.drive(x)
    assert [tuple(s.shape[1:]) for s in model.initial_state(drive)] == shapes
    assert model(x).shape == (2, 3)


def test_parameter_counts_are_the_documented_ones() -> None:
    count = [
        sum(p.numel() for p in m.parameters())
        for m in (ConvEqProp(1, 32, 10), ConvEqProp(1, 26, 10))
    ]
    assert count == [50_698, 38_386]
    assert ConvEqProp.__doc__ is not None and all(f"{n:,}" in ConvEqProp.__doc__ for n in count)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mnist_conv", (1, 28, 28)),
        ("cifar_conv_small", (3, 32, 32)),
        ("cifar_conv_medium", (3, 32, 32)),
    ],
)
def test_presets_construct_read_out_and_train(name: str, shape: tuple[int, ...]) -> None:
    model = create_model_preset(name, seed=0)
    assert isinstance(model, ConvEqProp) and model.max_steps == 25
    assert model.channels == (model.hidden_channels, 2 * model.hidden_channels)
    assert model(torch.rand(2, *shape)).shape == (2, 10)
    # And they train: three steps on one batch bring its cost down.
    trainer = EqPropTrainer(
        model, lr=3e-3, free_steps=4, nudged_steps=4, solver="over_relaxed", progress=False
    )
    x, y = torch.rand(8, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    costs = [float(trainer.train_batch(x, y)[0].mean()) for _ in range(3)]
    assert costs[2] < costs[1] < costs[0]


ODD = ConvEqProp(
    2, [3, 4, 5], 10, image_size=(9, 15), strides=[3, 1, 1], kernel_size=[5, 3, 3]
).double()


EVEN = ConvEqProp(
    2, [3, 4, 5], 10, image_size=(12, 24), strides=[3, 2, 2], kernel_size=[6, 4, 2]
).double()


@pytest.mark.parametrize("model", [conv([3, 4, 5]), deep(), ODD, EVEN])
@torch.no_grad()
def test_down_is_the_adjoint_of_up(model: LayeredModel) -> None:
    for layer in model._layers():
        x = torch.randn(2, *layer.linear.in_shape, dtype=torch.float64)
        y = torch.randn(2, *layer.linear.out_shape, dtype=torch.float64)
        up, down = layer.linear.up(x, layer.weight), layer.linear.down(y, layer.weight)
        assert float((up * y).sum()) == pytest.approx(float((down * x).sum()), rel=1e-12)


@pytest.mark.parametrize("model", [conv([3, 4, 5], gamma=0.2), deep(gamma=0.2)])
def test_force_is_minus_the_weighted_gradient_of_the_energy(model: LayeredModel) -> None:
    drive = tuple(block.detach() for block in model.drive(inputs()))
    state = tuple(s.requires_grad_() for s in random_state(model, inputs()))
    slopes = torch.autograd.grad(model.energy(state, drive).sum(), state)
    for s, slope, force, kappa in zip(
        state, slopes, model.force(state, drive), model.kappa, strict=True
    ):
        torch.testing.assert_close(slope, kappa * (torch.atanh(s) - force), rtol=1e-9, atol=1e-8)
    assert model.kappa == pytest.approx([25.0, 5.0, 1.0])


@pytest.mark.parametrize("factor", [0.5, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("gamma", [0.03, 0.3, 1.0])
@torch.no_grad()
def test_the_energy_never_rises_in_a_sweep_whatever_the_weights(
    gamma: float, factor: float
) -> None:
    for model in (
        conv([3, 4, 5], gamma=gamma, use_spectral_norm=False),
        deep(gamma=gamma, use_spectral_norm=False),
    ):
        drive = scaled(model, factor).drive(inputs())
        state = random_state(model, inputs())
        energies = [model.energy(state, drive)]
        for _ in range(25):
            state = model.step(state, drive)
            energies.append(model.energy(state, drive))
        rises = torch.stack(energies).diff(dim=0)
        assert float(rises.max()) <= 1e-12 * float(torch.stack(energies).abs().max())
        assert float(rises.min()) < 0


def test_updating_all_layers_at_once_can_raise_the_energy() -> None:
    model = scaled(deep(gamma=1.0, use_spectral_norm=False), 5.0)
    with torch.no_grad():
        drive, state = model.drive(inputs(32)), random_state(model, inputs(32))
        energies = []
        for _ in range(10):
            energies.append(model.energy(state, drive))
            state = tuple(model.activate(a) for a in model.force(state, drive))
    assert float(torch.stack(energies).diff(dim=0).max()) > 1e-3


def test_the_order_of_a_sweep_ends_at_the_readout() -> None:
    assert conv([2, 2, 2, 2]).groups == ((2, 0), (3, 1))
    assert conv([2, 2, 2]).groups == ((1,), (2, 0))


def test_a_sweep_is_the_formula_written_out() -> None:
    model, x = deep(), inputs()
    layers, gamma = model._layers(), model.gamma
    state = random_state(model, x)
    with torch.no_grad():
        one, two, three = state
        w2, w3 = layers[1].weight, layers[2].weight
        two = torch.tanh(one @ w2.T + layers[1].bias + gamma * three @ w3)
        one = torch.tanh(x.flatten(1) @ layers[0].weight.T + layers[0].bias + gamma * two @ w2)
        three = torch.tanh(two @ w3.T + layers[2].bias)
        for got, expected in zip(model.step(state, model.drive(x)), (one, two, three), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", [conv([3, 4, 5], gamma=0.05), deep(gamma=0.05)])
@torch.no_grad()
def test_the_certificate_holds_in_its_metric_and_not_in_the_plain_one(model: LayeredModel) -> None:
    bound, x = model.contraction_bound(), inputs(20)
    assert 0 < bound < model.rho
    drive = tuple(0 * block for block in model.drive(x))

    def size(state: State) -> Tensor:
        squares = [
            k * s.flatten(1).square().sum(1) for k, s in zip(model.kappa, state, strict=True)
        ]
        return (
            torch.stack([torch.stack([squares[b] for b in group]).sum(0) for group in model.groups])
            .amax(0)
            .sqrt()
        )

    def plain(state: State) -> Tensor:
        return torch.cat([s.flatten(1) for s in state], 1).norm(dim=1)

    # Small states: tanh is the identity there, the worst case of a contraction.
    worst = 0.0
    state = tuple(1e-4 * s for s in random_state(model, x))
    for _ in range(30):
        image = model.step(state, drive)
        worst = max(worst, float((size(image) / size(state)).max()))
        top = (*(torch.zeros_like(s) for s in image[:-1]), image[-1])
        state = tuple(1e-4 * s / plain(top).reshape(-1, *[1] * (s.ndim - 1)) for s in top)
    assert worst <= bound
    layer = model._layers()[1]  # the direction that W_2 stretches most
    bounded = layer.get_submodule("parametrizations.weight.0")
    assert isinstance(bounded, Bounded)
    first = 1e-4 * bounded.basis[:1].expand_as(state[0])
    image = model.step((first, *(torch.zeros_like(s) for s in state[1:])), drive)
    assert float((plain(image) / first.flatten(1).norm(dim=1)).min()) > 1


@pytest.mark.parametrize("model", [conv([3, 4, 5]), deep()])
@torch.no_grad()
def test_every_start_ends_in_the_one_fixed_point_within_the_error_bound(
    model: LayeredModel,
) -> None:
    x = inputs()
    exact = relax(model, x, 500, 1e-15).state
    for seed in range(3):
        start = random_state(model, x, seed)
        for block, other in zip(relax(model, x, 500, 1e-15, start=start).state, exact, strict=True):
            torch.testing.assert_close(block, other, rtol=0, atol=1e-13)
        early = relax(model, x, 2, start=start)
        away = torch.cat(
            [(a - b).flatten(1) for a, b in zip(early.state, exact, strict=True)], 1
        ).norm(dim=1)
        assert 0 < float(away.max()) <= early.error_bound < math.inf


def test_closed_form_gradients_are_autograds() -> None:
    for model in (conv([3, 4, 5]), deep(), conv(gamma=1.0)):
        x, cotangent, state = inputs(3), *(random_state(model, inputs(6), seed) for seed in (1, 2))
        free, error = random_state(model, x, 3), torch.randn(3, 10, dtype=torch.float64)
        model._layers()[0].bias.requires_grad_(False)
        for driven in ((True, True), (True, False)):
            own = model.parameter_gradients(x, cotangent, state, free, error, driven)
            general = EquilibriumModel.parameter_gradients(
                model, x, cotangent, state, free, error, driven
            )
            assert own.keys() == general.keys() and "layers.0.bias" not in own
            for name, value in general.items():
                torch.testing.assert_close(own[name], value, rtol=1e-9, atol=1e-9)


def test_general_paths_agree_with_the_quick_ones() -> None:
    model, cotangent = conv(), torch.randn(4, 10, dtype=torch.float64)
    state = random_state(model, inputs())
    own, general = (
        model.readout_vjp(state, cotangent),
        EquilibriumModel.readout_vjp(model, state, cotangent),
    )
    assert own[0] is None and general[0] is None
    assert own[1] is not None and general[1] is not None
    torch.testing.assert_close(own[1], general[1])
    force = model.force(state, model.drive(inputs()))
    # first: the quick one overwrites the force
    slowly = EquilibriumModel.add_pull(model, force, state, cotangent, -0.5)
    for quick, slow in zip(model.add_pull(force, state, cotangent, -0.5), slowly, strict=True):
        torch.testing.assert_close(quick, slow)


def test_the_rule_for_gamma_lets_signals_through() -> None:
    depths = {2: 0.09, 3: 0.045, 4: 0.034, 5: 0.030}
    for depth, gamma in depths.items():
        model = ConvEqProp(3, [2] * depth, 4, image_size=32, strides=1)
        assert model.gamma == pytest.approx(gamma, abs=6e-4) and model.cap == pytest.approx(3.0)
    sizes = {}
    for name, gain in (("hopfield", 1.0), ("rule", None)):
        net = ConvEqProp(3, [16, 32, 32, 32], 10, gamma=gain, seed=0)
        drive = net.drive(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        with torch.no_grad():
            end = settle(net, net.initial_state(drive), drive, max_steps=10)
        sizes[name] = float(end.state[-1].square().mean().sqrt())
    assert sizes["rule"] > 0.3 > 0.1 > sizes["hopfield"]


def test_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (
        conv() if s else ConvEqProp(1, 4, 10, image_size=8, seed=7) for s in (1, 1, 0)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert not torch.equal(first.W_out.weight, other.W_out.weight.double())
    assert "gamma=0.09, rho=0.9, cap=3" in repr(first) and "no spectral bound" in repr(
        conv(use_spectral_norm=False)
    )


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 4, 10), {}, ValueError, "input_channels must be an integer >= 1, got 0"),
        ((1, 0, 10), {}, ValueError, r"hidden_channels must be an integer >= 1, got 0"),
        ((1, [4, -1], 10), {}, ValueError, r"hidden_channels\[1\] must be an integer >= 1, got -1"),
        ((1, [4], 10), {}, ValueError, "hidden_channels must name at least two layers"),
        ((1, "4", 10), {}, TypeError, "hidden_channels must be an integer >= 1 or a list"),
        ((1, 4, 0), {}, ValueError, "output_dim must be"),
        (
            (1, 4, 10),
            {"image_size": 9, "strides": 2},
            ValueError,
            "2 of layer 1 does not divide its 9x9 images",
        ),
        (
            (1, 4, 10),
            {"image_size": 14, "strides": [2, 2]},
            ValueError,
            "2 of layer 2 does not divide its 7x7",
        ),
        (
            (1, 4, 10),
            {"strides": [2]},
            ValueError,
            "strides must be one integer or one for each of the 2 layers",
        ),
        (
            (1, 4, 10),
            {"kernel_size": 4, "strides": 1},
            ValueError,
            "kernel_size must be odd where the stride is 1, got 4",
        ),
        (
            (1, 4, 10),
            {"kernel_size": [999, 999]},
            ValueError,
            "kernel_size must be at most 56, twice the 28x28 images of layer 1",
        ),
        ((1, 4, 10), {"image_size": 2.5}, TypeError, "image_size must be an integer"),
        (
            (1, 4, 10),
            {"gamma": 0.0},
            ValueError,
            "gamma must be a finite number > 0 and <= 1, got 0",
        ),
        ((1, 4, 10), {"gamma": 1.5}, ValueError, "gamma must be"),
        ((1, 4, 10), {"rho": 1.0}, ValueError, "rho must be"),
    ],
)
def test_bad_arguments_are_named(
    arguments: tuple, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ConvEqProp(*arguments, **options)


def test_bad_input_is_refused_before_any_work() -> None:
    model = ConvEqProp(3, 4, 10, image_size=8)
    for x, message in (
        (torch.rand(2, 1, 8, 8), "x must have 3 channels .input_channels., got 1"),
        (torch.rand(2, 3, 8, 6), r"x must have shape \(B, 3, 8, 8\), got \(2, 3, 8, 6\)"),
        (torch.rand(2, 192), r"x must have shape \(B, 3, 8, 8\)"),
        (torch.full((2, 3, 8, 8), math.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            relax(model, x)
    with pytest.raises(TypeError, match="float64"):
        model.check_batch(torch.rand(2, 3, 8, 8).double())
    with pytest.raises(ValueError, match="64 features"):
        deep().check_batch(torch.rand(2, 63).double())
    with pytest.raises(ValueError, match=r"hidden_dims must be an integer >= 1, got 0"):
        DeepEqProp(4, 0, 2)
    assert DeepEqProp(4, 3, 2).hidden_dims == (3, 3)

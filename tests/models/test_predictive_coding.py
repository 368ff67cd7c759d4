"""Predictive coding: one energy, a free phase that is a forward pass, and gradients of settled and
unsettled sweeps against autograd through an ordinary network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import (
    BackpropMLP,
    EqPropTrainer,
    EquilibriumBlock,
    build_dataset,
    check_model,
    count_parameters,
    create_model_preset,
    estimate_gradients,
    relax,
    train_from_config,
)
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, DivergenceError
from eqprop_lab.experiments.contenders import contender, scaled, size
from eqprop_lab.models import FeedforwardConv, FeedforwardMLP, PredictiveConv, PredictiveMLP
from eqprop_lab.models.predictive_coding import PredictiveModel
from eqprop_lab.models.predictive_layer import UNITS

DIGITS = build_dataset("digits").train
X, Y = DIGITS.x[:24].double(), DIGITS.y[:24]
SMALL = {"image_size": 8, "kernel_size": 3, "strides": [1, 2, 1], "residual": True}


def dense(**options: Any) -> PredictiveMLP:
    return PredictiveMLP(64, [32, 24, 24], 10, seed=0, **options).double()


def conv(**options: Any) -> PredictiveConv:
    return PredictiveConv(1, [6, 8, 8], 10, seed=0, **SMALL | options).double()


MODELS: dict[str, Callable[..., PredictiveModel]] = {
    "dense": dense,
    "residual": lambda **options: dense(residual=True, **options),
    "conv": conv,
}


def written_out(model: PredictiveModel, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """(weights and biases, logits) of the network as PyTorch's own functions say it."""
    leaves, s = [], x if x.ndim == 4 and isinstance(model, PredictiveConv) else x.flatten(1)
    for number, layer in enumerate(model._layers()):
        weight, bias = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
        leaves += [weight, bias]
        last = number == len(model.layers) - 1
        if weight.ndim == 4:
            stride = layer.linear.stride  # type: ignore[attr-defined]
            padding = (weight.shape[-1] - 1) // 2
            t = nn.functional.conv2d(s, weight, bias.flatten(), stride, padding).tanh()
        else:
            rows = s.permute(0, 2, 3, 1).flatten(1) if s.ndim == 4 else s
            a = nn.functional.linear(rows, weight, bias)
            t = a if last else a.tanh()
        s = t + s if layer.skip else t
    return leaves, s


def exact(model: PredictiveModel, x: Tensor = X, y: Tensor = Y) -> dict[str, Tensor]:
    """Backpropagation through `written_out`."""
    leaves, logits = written_out(model, x)
    grads = torch.autograd.grad(nn.functional.cross_entropy(logits, y), leaves)
    return dict(zip(dict(model.named_parameters()), grads, strict=True))


def worst(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    return max(float((found[n] - g).norm() / g.norm()) for n, g in wanted.items())


def whole(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The error of all parameters as one vector."""
    away = math.hypot(*(float((found[n] - g).norm()) for n, g in wanted.items()))
    return away / math.hypot(*(float(g.norm()) for g in wanted.values()))


def trained(model: PredictiveModel, steps: int = 60) -> PredictiveModel:
    trainer = EqPropTrainer(model, "centered", "adam", 3e-3, beta=0.1)
    for batch in range(steps):
        rows = slice(24 * (batch % 40), 24 * (batch % 40) + 24)
        trainer.train_batch(DIGITS.x[rows].double(), DIGITS.y[rows])
    return model


@pytest.mark.parametrize(
    "model",
    [
        PredictiveMLP(64, [12, 12], 10, residual=True, seed=0),
        PredictiveConv(1, [3, 4], 10, image_size=8, seed=0),
    ],
)
def test_the_contract_is_kept(model: PredictiveModel) -> None:
    check = check_model(model.double(), X[:6], Y[:6])
    assert check.ok, str(check)


@pytest.mark.parametrize("name", MODELS)
def test_the_free_phase_is_the_forward_pass_where_the_energy_is_zero(name: str) -> None:
    model = MODELS[name]()
    end = relax(model, X)
    assert torch.allclose(model(X), written_out(model, X)[1], atol=1e-12)
    assert torch.equal(end.state[-1], model(X))
    assert end.converged and end.steps == 0
    assert bool((model.energy(end.state, model.drive(X)) == 0).all())


@pytest.mark.parametrize("name", MODELS)
def test_from_any_start_the_free_phase_is_over_after_as_many_sweeps_as_layers(name: str) -> None:
    model = MODELS[name]()
    end = relax(model, X)
    start = tuple(torch.randn_like(block) for block in end.state)
    again = relax(model, X, start=start)
    assert again.steps == len(model.layers)
    for one, two in zip(again.state, end.state, strict=True):
        assert torch.allclose(one, two, atol=1e-12)
    earlier = relax(model, X, max_steps=len(model.layers) - 1, start=start)
    assert not torch.allclose(earlier.state[-1], end.state[-1], atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_force_is_the_slope_of_the_energy(name: str) -> None:
    model = MODELS[name]()
    drive = tuple(part.detach() for part in model.drive(X))
    state = tuple(
        (s + 0.1 * torch.randn_like(s)).detach().requires_grad_()
        for s in model.initial_state(drive)
    )
    slopes = torch.autograd.grad(model.energy(state, drive).sum(), state)
    for s, force, slope in zip(state, model.force(state, drive), slopes, strict=True):
        assert torch.allclose(s - force, slope, atol=1e-12)


@pytest.mark.parametrize(
    "estimator", ["centered", "one_sided", "asymmetric", "response", "implicit"]
)
@pytest.mark.parametrize("name", MODELS)
def test_one_sweep_is_backpropagation_at_any_strength(name: str, estimator: str) -> None:
    model = MODELS[name]()
    wanted = exact(model)
    for beta in (1e-3, 1.0):
        got = estimate_gradients(model, X, Y, estimator, beta)
        assert list(got) == [name for name, _ in model.named_parameters()]
        assert worst(got, wanted) < 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_settled_phases_tend_to_the_gradient_with_beta_squared(name: str) -> None:
    # training makes the way back from the logits stronger: a nudge moves more
    for model, beta in ((MODELS[name](), 0.01), (trained(MODELS[name]()), 0.001)):
        wanted = exact(model)
        errors = [
            whole(
                estimate_gradients(model, X, Y, "centered", b, nudged_steps=100, tol=1e-8), wanted
            )
            for b in (2 * beta, beta)
        ]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)
        assert errors[-1] <= (2e-4 if name == "residual" else 1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_sweeps_settle_where_the_two_phases_do_one_by_one(name: str) -> None:
    model, beta = MODELS[name](), 0.05
    drive, free = model.drive(X), relax(model, X).state
    cost = make_cost("cross_entropy", Y, 10, X).grad
    with torch.no_grad():
        found = model.contrasted(drive, free, cost, (beta, -beta), 200, 1e-10)
    ends = [
        relax(model, X, 200, 1e-12, start=free, nudge=CostNudge(model, cost, (b,)))
        for b in (beta, -beta)
    ]
    errors = [
        [s - p for s, p in zip(end.state, model.predictions(end.state, drive), strict=True)]
        for end in ends
    ]
    for d, m, plus, minus, *e in zip(
        found.difference, found.mean, ends[0].state, ends[1].state, *errors, strict=True
    ):
        assert torch.allclose(m, (plus + minus) / 2, atol=1e-9)
        assert torch.allclose(d, (e[0] - e[1]) / 2, atol=1e-9)


def test_errors_read_off_the_state_after_one_sweep_are_wrong_in_the_lower_layers() -> None:
    model, beta = dense(), 0.01
    drive, free = model.drive(X), relax(model, X).state
    cost = make_cost("cross_entropy", Y, 10, X).grad
    moved = relax(model, X, 1, start=free, nudge=CostNudge(model, cost, (beta,)))
    with torch.no_grad():
        carried = model.contrasted(drive, free, cost, (beta, -beta), 1).difference
        read = [
            s - p for s, p in zip(moved.state, model.predictions(moved.state, drive), strict=True)
        ]
    off = [float((r - c).norm() / c.norm()) for r, c in zip(read, carried, strict=True)]
    assert off[0] < 0.02  # nothing moves below the first layer
    assert min(off[1:]) > 0.2 and max(off[1:]) > 0.9


def test_a_nudge_far_below_the_rounding_of_the_states_is_seen() -> None:
    model = PredictiveMLP(64, [24, 20, 16], 10, seed=0)
    x = X.float()
    wanted = exact(model.double())
    model.float()
    for steps in (1, 30):
        got = estimate_gradients(model, x, Y, "centered", 1e-9, nudged_steps=steps)
        assert worst({n: g.double() for n, g in got.items()}, wanted) < 1e-4


def test_more_than_one_sweep_says_whether_it_has_settled() -> None:
    model = dense()
    got = estimate_gradients(model, X, Y, "centered", 0.05, nudged_steps=60)
    assert got.nudged_residual < 1e-8 and got.nudged_error < 1e-8
    with pytest.warns(ConvergenceWarning, match="not converged: residual .* after 2 sweeps"):
        estimate_gradients(model, X, Y, "centered", 0.05, nudged_steps=2, tol=1e-6)
    with pytest.raises(DivergenceError, match="lower beta"):
        estimate_gradients(model, X, Y, "centered", 1e30, nudged_steps=400, cost="mse")


@pytest.mark.parametrize("unit", UNITS)
def test_a_pair_is_the_mean_and_half_difference_of_two_values(unit: str) -> None:
    a, alpha = torch.randn(2, 50, 7, dtype=torch.float64)
    f = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda v: v}[unit]
    ends = [(a + sign * alpha).requires_grad_() for sign in (1, -1)]
    values = [f(end) for end in ends]
    slopes = [torch.autograd.grad(f(end).sum(), end)[0] for end in ends]
    pair, found = UNITS[unit].pair(torch.cat([a, alpha]))
    plus, minus = (v.detach() for v in values)
    assert torch.allclose(pair, torch.cat([plus + minus, plus - minus]) / 2, atol=1e-12)
    g, h = found if found is not None else (torch.ones_like(a), torch.zeros_like(a))
    assert torch.allclose(g, (slopes[0] + slopes[1]) / 2, atol=1e-12)
    assert torch.allclose(h, (slopes[0] - slopes[1]) / 2, atol=1e-12)


def test_relu_learns_by_one_sweep_too() -> None:
    model = dense(activation="relu", residual=True)
    twin = FeedforwardMLP(64, [32, 24, 24], 10, "relu", residual=True).double()
    twin.load_state_dict(model.state_dict())
    loss = nn.functional.cross_entropy(twin(X), Y)
    wanted = dict(
        zip(
            dict(twin.named_parameters()),
            torch.autograd.grad(loss, list(twin.parameters())),
            strict=True,
        )
    )
    assert worst(estimate_gradients(model, X, Y), wanted) < 1e-12


def test_twins_begin_alike_and_learn_alike() -> None:
    images = {key: value for key, value in SMALL.items() if key != "residual"}
    pairs = [
        (PredictiveMLP(64, 16, 10, seed=3), FeedforwardMLP(64, 16, 10, seed=3)),
        (
            PredictiveConv(1, [4, 4, 4], 10, residual=True, seed=3, **images),
            FeedforwardConv(1, [4, 4, 4], 10, residual=True, seed=3, **images),
        ),
    ]
    for model, twin in pairs:
        assert [p.shape for p in model.parameters()] == [p.shape for p in twin.parameters()]
        trainers = EqPropTrainer(model, "centered"), EqPropTrainer(twin, "autograd")
        for trainer in trainers:
            for _ in range(3):
                trainer.train_batch(X.float(), Y)
        for one, two in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(one, two, atol=1e-4)
    assert count_parameters(pairs[0][0]) == count_parameters(BackpropMLP(64, 16, 10))


def test_frozen_parameters_have_no_gradient_and_the_others_keep_theirs() -> None:
    model = dense()
    wanted = exact(model)
    model.layers[1].weight.requires_grad_(False)
    got = estimate_gradients(model, X, Y)
    assert got.keys() == wanted.keys() - {"layers.1.weight"}
    assert worst(got, {name: wanted[name] for name in got}) < 1e-12


@pytest.mark.parametrize("sweeps", [1, 60])
def test_a_block_hands_on_the_gradient_of_its_input(sweeps: int) -> None:
    model = dense()
    block = EquilibriumBlock(model, "centered", beta=1e-3, nudged_steps=sweeps)
    x = X.flatten(1).clone().requires_grad_()
    (got,) = torch.autograd.grad(nn.functional.cross_entropy(block(x), Y), x)
    other = X.flatten(1).clone().requires_grad_()
    logits = written_out(model, other)[1]
    (wanted,) = torch.autograd.grad(nn.functional.cross_entropy(logits, Y), other)
    assert float((got - wanted).norm() / wanted.norm()) < 1e-5


def test_weights_that_are_not_finite_are_noticed() -> None:
    model = dense()
    with torch.no_grad():
        model.layers[-1].bias[0] = math.nan
    with pytest.raises(DivergenceError, match="free phase"):
        relax(model, X)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hidden_dims": []}, "hidden_dims must be an integer >= 1 or a list of them"),
        ({"hidden_dims": [8, 0]}, r"hidden_dims\[1\]"),
        ({"activation": "gelu"}, "activation must be one of 'tanh', 'relu', got 'gelu'"),
        ({"residual": 1}, "residual must be True or False"),
        ({"output_dim": 0}, "output_dim"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        PredictiveMLP(**{"input_dim": 4, "hidden_dims": [3], "output_dim": 2} | arguments)


def test_inputs_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="64 features"):
        relax(dense(), X[:, :, :4])
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\)"):
        conv()(X[:, :, :4])
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\)"):
        FeedforwardConv(1, [6, 8, 8], 10, **SMALL)(X[:, :, :4].float())


def test_it_is_there_by_name_in_files_presets_and_comparisons() -> None:
    content = {
        "model": {"name": "PredictiveConv", "params": {"hidden_channels": [4, 6]}},
        "training": {"epochs": 1, "batch_size": 200, "beta": 0.1},
        "data": {"dataset": "digits"},
        "experiment": {"name": "try", "seed": 0},
    }
    trainer, history = train_from_config(content)
    assert trainer.gradient == "centered" and history["train_loss"][0] > 0
    assert isinstance(create_model_preset("mnist_predictive"), PredictiveMLP)
    assert isinstance(create_model_preset("cifar_predictive"), PredictiveConv)
    given = {"model": "PredictiveMLP", "params": {"hidden_dims": [16, 16]}}
    entry = scaled(contender("sweeps", given, build_dataset("digits")), 5000)
    assert size(entry.build(0)) == pytest.approx(5000, rel=0.05)
    assert entry.source(entry.build(0)) is None

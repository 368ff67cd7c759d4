"""Noise and rounding: a device without either is the model to the last bit, and with either it has
what was asked for, where it was asked for; the model itself stays as it was.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    ConvEqProp,
    DeepEqProp,
    EqPropTrainer,
    LoopedMLP,
    Noisy,
    PredictiveMLP,
    build_dataset,
    check_model,
    estimate_gradients,
    get_eqprop_lm,
    relax,
)
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.instruments.noise import coarse
from eqprop_lab.instruments.noise_law import flat, spread
from eqprop_lab.models.single_state import SingleStateConv

DATA = build_dataset("digits")
X, Y = DATA.train.x[:12], DATA.train.y[:12]
MODELS: dict[str, Callable[[], EquilibriumModel]] = {
    "looped": lambda: LoopedMLP(64, 12, 10, seed=0),
    "deep": lambda: DeepEqProp(64, [12, 12, 12], 10, seed=0),
    "conv": lambda: ConvEqProp(1, 4, 10, image_size=8, seed=0),
    "single": lambda: SingleStateConv(1, 4, 10, image_size=8, seed=0),
}
EVERYTHING: dict[str, Any] = {
    "states": 0.01, "nudge": 0.01, "weights": 0.01, "state_bits": 8, "weight_bits": 6,
}  # fmt: skip


def gradients(model: EquilibriumModel, estimator: str = "centered", **how: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return flat(estimate_gradients(model, X, Y, estimator, **how))


@pytest.mark.parametrize("estimator", ["one_sided", "centered", "holomorphic", "response"])
@pytest.mark.parametrize("name", MODELS)
def test_without_noise_it_is_the_model_bit_for_bit(name: str, estimator: str) -> None:
    model = MODELS[name]()
    device = Noisy(model)
    assert torch.equal(gradients(device, estimator), gradients(model, estimator))
    with torch.no_grad():
        assert torch.equal(device(X), model(X))
    assert relax(device, X).error_bound == relax(model, X).error_bound


@pytest.mark.parametrize("name", ["looped", "deep"])
def test_without_noise_it_keeps_the_contract(name: str) -> None:
    assert check_model(Noisy(MODELS[name]()), X, Y).ok


@pytest.mark.parametrize("each", ["step", "phase", "batch"])
@pytest.mark.parametrize("name", MODELS)
def test_little_noise_changes_little(name: str, each: str) -> None:
    """The way with noise is that of the model, in another order of sums."""
    model = MODELS[name]().double()
    device = Noisy(model, states=1e-9, nudge=1e-9, weights=1e-9, each=each)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        far, near = (flat(estimate_gradients(m, X.double(), Y, beta=0.1)) for m in (model, device))
    apart = float((far - near).norm() / far.norm())
    assert 0 < apart < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_the_model_stays_as_it_was(name: str) -> None:
    model = MODELS[name]()
    before, memory = copy.deepcopy(model.state_dict()), [p.data_ptr() for p in model.parameters()]
    plain = gradients(model)
    device = Noisy(model, **EVERYTHING, seed=0)
    gradients(device)
    with torch.no_grad():
        device(X)
    with pytest.raises(ValueError, match="x holds NaN"):
        estimate_gradients(device, X * math.nan, Y)
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert memory == [p.data_ptr() for p in model.parameters()]
    assert model._frozen is None and torch.equal(gradients(model), plain)


def test_states_have_noise_of_the_size_that_was_asked_for() -> None:
    """After one step from the same start: nothing but the draw."""
    model = LoopedMLP(64, 400, 10, seed=0)
    noisy, still = relax(Noisy(model, states=0.05, seed=0), X, 1), relax(model, X, 1)
    xi = (noisy.state[0] - still.state[0]) / 0.05
    assert abs(float(xi.std()) - 1) < 0.03 and abs(float(xi.mean())) < 0.05
    assert abs(float((xi[0] * xi[1]).mean())) < 0.2  # every sample has its own


def test_a_seed_draws_the_same_again_and_none_is_the_global_generator() -> None:
    model = MODELS["deep"]()
    one, two = (gradients(Noisy(model, states=0.01, seed=3)) for _ in range(2))
    assert torch.equal(one, two)
    device = Noisy(model, states=0.01, seed=3)
    twin = copy.deepcopy(device)
    assert torch.equal(gradients(device), one) and not torch.equal(gradients(device), one)
    assert torch.equal(gradients(twin), one)
    state = torch.get_rng_state()
    gradients(device)
    assert torch.equal(torch.get_rng_state(), state)
    gradients(Noisy(model, states=0.01))
    assert not torch.equal(torch.get_rng_state(), state)


def test_noise_that_is_held_lets_a_phase_settle_and_fresh_noise_does_not() -> None:
    model = MODELS["deep"]()
    held = relax(Noisy(model, states=0.05, each="phase", seed=0), X, 200, tol=1e-5)
    assert held.converged
    with pytest.warns(ConvergenceWarning, match="not converged"):
        relax(Noisy(model, states=0.05, seed=0), X, 200, tol=1e-5)
    # layers of one size have draws of their own
    first, second, _ = (a - b for a, b in zip(held.state, relax(model, X).state, strict=True))
    assert float((first - second).norm()) > 0.5 * float(first.norm())


@pytest.mark.parametrize("place", ["states", "nudge"])
@pytest.mark.parametrize("estimator", ["one_sided", "centered", "holomorphic", "asymmetric"])
def test_independent_noise_grows_with_one_over_beta_and_common_noise_does_not(
    estimator: str, place: str
) -> None:
    """What the readout learns from has no beta."""
    model = MODELS["looped"]().double()

    def left(each: str, beta: float) -> float:
        device, found = Noisy(model, **{place: 1e-3}, each=each, seed=0), []
        for _ in range(10):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found.append(estimate_gradients(device, X.double(), Y, estimator, beta))
        kept = [{k: v for k, v in g.items() if "W_out" not in k} for g in found]
        return spread(torch.stack([flat(g) for g in kept]))

    assert left("phase", 0.01) / left("phase", 0.04) == pytest.approx(4, rel=0.2)
    assert left("step", 0.01) / left("step", 0.04) == pytest.approx(4, rel=0.2)
    common = left("batch", 0.01)
    # the nudge's own offset is no part of beta dC/ds: one nudge keeps it, a symmetric pair does not
    if place == "states" or estimator in ("centered", "asymmetric"):
        assert common < 0.1 * left("phase", 0.01)
        assert common == pytest.approx(left("batch", 0.04), rel=0.3)


def test_noise_in_the_nudge_is_absolute() -> None:
    """One nudged step: the force is less W_out^T (beta dC/dz + nudge xi)."""
    model = MODELS["looped"]().double()
    assert isinstance(model, LoopedMLP)
    device = Noisy(model, nudge=0.1, each="phase", seed=0)
    x = X.double()
    start = relax(model, x).state
    zero = torch.zeros(len(x), 10, dtype=torch.float64)
    device.initial_state(device.drive(x))
    (pull,) = device.pull(start, zero)
    assert pull is not None
    xi = torch.linalg.lstsq(model.W_out.weight.detach().T, pull.detach().T).solution / 0.1
    assert 0.85 < float(xi.std()) < 1.15
    (again,) = device.pull(start, zero)
    assert again is not None and not torch.equal(again, pull)  # the other part of a complex number


@pytest.mark.parametrize("bits", [8, 6, 4, 2])
def test_rounded_states_lie_on_the_grid(bits: int) -> None:
    levels = 2 ** (bits - 1) - 1
    end = relax(Noisy(MODELS["conv"](), state_bits=bits), X).state
    for block in end:
        steps = block * levels
        assert (
            torch.allclose(steps, steps.round(), atol=1e-4) and float(steps.abs().max()) <= levels
        )


def test_coarse_numbers() -> None:
    x = torch.tensor([-3.0, -1.0, -0.4, 0.0, 0.15, 0.2, 1.0, 7.0])
    third = torch.tensor([-1.0, -1.0, -1 / 3, 0.0, 0.0, 1 / 3, 1.0, 1.0])
    assert torch.allclose(coarse(x, 3), third)
    assert torch.allclose(coarse(10 * x, 3, 10.0), 10 * third)
    assert coarse(x, None) is x and torch.equal(coarse(0 * x, 4, 0.0), 0 * x)
    values = torch.randn(500, dtype=torch.float32)
    assert torch.equal(coarse(values, "bfloat16"), values.bfloat16().float())
    pair = torch.complex(x, -x)
    assert torch.equal(coarse(pair, 3), torch.complex(coarse(x, 3), coarse(-x, 3)))


def on_grid(weight: Tensor, bits: int) -> bool:
    """Whether all entries are whole multiples of the largest over 2^(bits-1) - 1."""
    steps = weight / weight.abs().max() * (2 ** (bits - 1) - 1)
    return torch.allclose(steps, steps.round(), atol=1e-3) and len(steps.round().unique()) > 2


def test_rounded_weights_are_those_of_every_product() -> None:
    model = MODELS["looped"]()
    assert isinstance(model, LoopedMLP)
    device = Noisy(model, weight_bits=4)
    coupling = device.effective_weights()["W_rec"]
    assert on_grid(coupling, 4) and torch.equal(coupling, coupling.T)
    # by unit vectors: the columns of what the device multiplies with
    (drive,) = device.drive(torch.eye(64))
    assert on_grid(drive - model.W_in.bias - model.W_rec.bias, 4)
    none = torch.zeros(1, 12)
    seen = device.readout((torch.eye(12),)) - device.readout((none,))
    assert on_grid(seen, 4)
    (pull,) = device.pull((none,), torch.eye(10))
    assert pull is not None and torch.allclose(pull, seen.T, atol=1e-6)


@pytest.mark.parametrize("how", [{"weight_bits": 3}, {"weights": 0.2}])
def test_a_layer_pushes_and_is_pushed_by_the_same_weights(how: dict[str, Any]) -> None:
    model = MODELS["deep"]()
    assert isinstance(model, DeepEqProp)
    worn, own = Noisy(model, **how, seed=0).effective_weights(), model.effective_weights()
    for name in ("up1", "up2"):
        assert torch.allclose(worn[name.replace("up", "down")], model.gamma * worn[name])
        assert not torch.allclose(worn[name], own[name], rtol=1e-2)


def test_noise_on_weights_has_the_size_that_was_asked_for_and_is_symmetric() -> None:
    model = LoopedMLP(64, 200, 10, seed=0)
    worn = Noisy(model, weights=0.1, seed=0).effective_weights()["W_rec"]
    own = model.effective_weights()["W_rec"].detach()
    xi = (worn - own) / own.square().mean().sqrt() / 0.1
    assert torch.allclose(xi, xi.T, atol=1e-4) and abs(float(xi.std()) - 1) < 0.03


def test_weights_that_are_read_anew_for_a_phase_do_not_cancel() -> None:
    """Against the free phase; the same weights for all phases are just another network."""
    model = MODELS["looped"]().double()

    def left(each: str) -> float:
        device = Noisy(model, weights=1e-3, each=each, seed=0)
        found = [
            flat(estimate_gradients(device, X.double(), Y, "one_sided", 0.01)) for _ in range(8)
        ]
        return spread(torch.stack(found))

    assert left("phase") > 10 * left("batch")


@pytest.mark.parametrize("name", ["recurrent_core", "hybrid"])
def test_models_of_tokens_take_noise_too(name: str) -> None:
    model = get_eqprop_lm(name, vocab_size=9, hidden_dim=8, max_seq_len=6, seed=0)
    tokens = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0))
    assert isinstance(model, EquilibriumModel)
    device = Noisy(model, states=1e-6, weight_bits=8, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = estimate_gradients(device, tokens, tokens)
    assert set(found) == {f"model.{name}" for name, p in model.named_parameters()}


def test_a_device_is_trained_through_its_noise() -> None:
    model = LoopedMLP(64, 32, 10, seed=0)
    device = Noisy(model, states=0.01, weight_bits=6, each="phase", seed=0)
    trainer = EqPropTrainer(device, lr=1e-2, beta=0.3, free_steps=12, nudged_steps=8)
    trainer.fit(DATA.train.batches(32, shuffle=True, seed=0), 1)
    assert trainer.evaluate(DATA.validation.batches(180))["accuracy"] > 0.8
    with pytest.raises(ValueError, match="use_kernel"):
        EqPropTrainer(device, use_kernel=True)


def test_rounding_lets_the_gradient_of_a_backward_pass_through() -> None:
    device = Noisy(MODELS["looped"](), state_bits=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a grid need not come to rest
        found, plain = (estimate_gradients(m, X, Y, "bptt") for m in (device, device.model))
    for name, gradient in plain.items():
        assert torch.allclose(found[f"model.{name}"], gradient, atol=0.1 * float(gradient.norm()))


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"states": -1.0}, ValueError, "states must be a finite number >= 0"),
        ({"nudge": math.inf}, ValueError, "nudge must be a finite number"),
        ({"weights": "a lot"}, TypeError, "weights must be a number"),
        ({"state_bits": 1}, ValueError, "state_bits must be an integer from 2 to 16"),
        ({"weight_bits": 17}, ValueError, "weight_bits must be an integer from 2 to 16"),
        ({"weight_bits": "float16"}, TypeError, "weight_bits .* 'bfloat16' or None"),
        ({"each": "sample"}, ValueError, "each must be one of 'step', 'phase', 'batch'"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_what_is_refused(how: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Noisy(MODELS["looped"](), **how)


def test_models_that_noise_would_not_reach_are_refused() -> None:
    model = PredictiveMLP(64, 8, 10, seed=0)
    with pytest.raises(TypeError, match="PredictiveMLP relaxes its phases itself"):
        Noisy(model, states=0.1)
    assert torch.equal(gradients(Noisy(model)), gradients(model))
    with pytest.raises(TypeError, match="not an EquilibriumModel"):
        Noisy(torch.nn.Linear(2, 2), states=0.1)  # type: ignore[arg-type]


def test_a_grid_of_bits_wants_states_within_it() -> None:
    class Long(LoopedMLP):
        def activate(self, a: Tensor) -> Tensor:
            return 3 * a.tanh()

    with pytest.raises(ValueError, match=r"states of Long reach .*'bfloat16'"):
        relax(Noisy(Long(64, 12, 10, seed=0), state_bits=8), X)

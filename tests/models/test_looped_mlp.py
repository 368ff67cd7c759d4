"""LoopedMLP keeps the contract: counts, shapes, symmetry, energy as a potential of the force."""

from __future__ import annotations

import copy

import pytest
import torch

from eqprop_lab import BackpropMLP, LoopedMLP, relax
from eqprop_lab.equilibrium.contract import EquilibriumModel


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_are_the_ones_users_know() -> None:
    assert count(LoopedMLP(784, 256, 10)) == 269_322
    assert count(BackpropMLP(784, 256, 10)) == 269_322


@pytest.mark.parametrize("shape", [(3, 64), (3, 8, 8), (3, 1, 8, 8), (3, 4, 4, 4)])
def test_any_image_shape_is_flattened(shape: tuple[int, ...]) -> None:
    for model in (LoopedMLP(64, 16, 10), BackpropMLP(64, 16, 10)):
        assert model(torch.rand(shape)).shape == (3, 10)


def test_force_is_minus_the_gradient_of_the_energy_up_to_the_inverse_activation() -> None:
    model = LoopedMLP(6, 12, 3, seed=0).double()
    drive = model.drive(torch.randn(4, 6, dtype=torch.float64))
    h = (0.9 * torch.tanh(torch.randn(4, 12, dtype=torch.float64))).requires_grad_()
    (slope,) = torch.autograd.grad(model.energy((h,), drive).sum(), h)
    (force,) = model.force((h,), drive)
    torch.testing.assert_close(slope, torch.atanh(h) - force, rtol=1e-9, atol=1e-9)


def test_energy_is_finite_at_saturation() -> None:
    model = LoopedMLP(2, 3, 2, seed=0)
    drive = model.drive(torch.zeros(1, 2))
    assert torch.isfinite(model.energy((torch.tensor([[1.0, -1.0, 0.0]]),), drive)).all()


def test_readout_vjp_is_the_general_one() -> None:
    model = LoopedMLP(6, 12, 3, seed=0)
    state, cotangent = (torch.randn(4, 12),), torch.randn(4, 3)
    own, general = (
        model.readout_vjp(state, cotangent)[0],
        EquilibriumModel.readout_vjp(model, state, cotangent)[0],
    )
    assert own is not None and general is not None
    torch.testing.assert_close(own, general)


def test_forward_is_the_readout_of_the_relaxed_state() -> None:
    model, x = LoopedMLP(6, 12, 3, seed=0, max_steps=7), torch.randn(4, 6)
    torch.testing.assert_close(
        model(x), model.readout(relax(model, x, max_steps=7).state), rtol=0, atol=1e-6
    )


def test_forward_carries_gradients_for_ordinary_autograd() -> None:
    model = LoopedMLP(6, 12, 3, seed=0)
    model(torch.randn(4, 6)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_the_bound_is_the_norm_and_bounds_the_step() -> None:
    model = LoopedMLP(6, 12, 3, rho=0.7, seed=0).double()
    bound = model.contraction_bound()
    assert 0 < bound < 0.7
    drive = model.drive(torch.randn(50, 6, dtype=torch.float64))
    a, b = (torch.rand(50, 12, dtype=torch.float64) * 2 - 1 for _ in range(2))
    ratio = (model.step((a,), drive)[0] - model.step((b,), drive)[0]).norm(dim=1) / (a - b).norm(
        dim=1
    )
    assert ratio.max().item() <= bound


def test_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (LoopedMLP(6, 12, 3, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.W_rec.weight, second.W_rec.weight)
    assert not torch.equal(first.W_rec.weight, other.W_rec.weight)


def test_a_copy_computes_the_same() -> None:
    model, x = LoopedMLP(6, 12, 3, seed=0), torch.randn(4, 6)
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x), rtol=0, atol=1e-6)


def test_printing_names_the_bound() -> None:
    assert "rho=0.9" in repr(LoopedMLP(2, 2, 2)) and "no spectral bound" in repr(
        LoopedMLP(2, 2, 2, use_spectral_norm=False)
    )


@pytest.mark.parametrize("cls", [LoopedMLP, BackpropMLP])
@pytest.mark.parametrize(
    ("sizes", "error"),
    [((-1, 4, 2), ValueError), ((4, 0, 2), ValueError), ((4, 4, 2.0), TypeError)],
)
def test_bad_sizes_are_named(
    cls: type, sizes: tuple[int, int, int], error: type[Exception]
) -> None:
    with pytest.raises(error, match="_dim must be an integer >= 1"):
        cls(*sizes)


def test_wrong_widths_and_dtypes_are_refused_before_any_work() -> None:
    for model in (LoopedMLP(64, 8, 10), BackpropMLP(64, 8, 10)):
        with pytest.raises(ValueError, match="64 features"):
            model(torch.rand(2, 63))
        with pytest.raises(TypeError, match="float64"):
            model.check_batch(torch.rand(2, 64, dtype=torch.float64))


def test_a_model_on_another_device_is_named() -> None:
    with pytest.raises(ValueError, match="the model on meta"):
        LoopedMLP(4, 3, 2).to("meta").check_batch(torch.zeros(1, 4))


def test_a_model_without_an_energy_says_so() -> None:
    class Directed(LoopedMLP):
        energy = EquilibriumModel.energy

    with pytest.raises(TypeError, match="has no energy"):
        Directed(2, 3, 2).energy((torch.zeros(1, 3),), (torch.zeros(1, 3),))


def test_the_contract_promises_nothing_it_does_not_know() -> None:
    class Bare(LoopedMLP):
        contraction_bound = EquilibriumModel.contraction_bound
        effective_weights = EquilibriumModel.effective_weights

    model = Bare(2, 3, 2)
    assert model.contraction_bound() == float("inf") and model.effective_weights() == {}
    with pytest.raises(TypeError, match="abstract"):
        EquilibriumModel()  # type: ignore[abstract]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bounded", [True, False])
def test_closed_form_gradients_are_autograds(symmetric: bool, bounded: bool) -> None:
    model = LoopedMLP(6, 12, 3, seed=0, symmetric=symmetric, use_spectral_norm=bounded).double()
    x, error = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    cotangent, state = ((torch.randn(10, 12, dtype=torch.float64),) for _ in range(2))
    free = (torch.randn(5, 12, dtype=torch.float64),)
    model.W_rec.bias.requires_grad_(False)
    for driven in ((True, True), (True, False)):
        own = model.parameter_gradients(x, cotangent, state, free, error, driven)
        general = EquilibriumModel.parameter_gradients(
            model, x, cotangent, state, free, error, driven
        )
        assert own.keys() == general.keys() and "W_rec.bias" not in own
        for name, value in general.items():
            torch.testing.assert_close(own[name], value, rtol=1e-10, atol=1e-10)


def test_a_step_into_buffers_is_the_step() -> None:
    model = LoopedMLP(6, 12, 3, seed=0)
    drive = model.drive(torch.randn(4, 6))
    state, out = (torch.randn(4, 12),), (torch.empty(4, 12),)

    def nudge(state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (0.1 * state[0],)

    with torch.no_grad():
        for chosen in (None, nudge):
            before = state[0].clone()
            torch.testing.assert_close(
                model.step(state, drive, chosen, out)[0], model.step(state, drive, chosen)[0]
            )
            assert torch.equal(state[0], before)

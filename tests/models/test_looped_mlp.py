"""LoopedMLP keeps the contract: counts, shapes, symmetry, energy as a potential of the force."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from eqprop_lab import BackpropMLP, LoopedMLP, estimate_gradients, quick_tanh, relax
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.nudges import CostNudge


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


Y = torch.tensor([0, 2, 1, 1])
BETAS = 0.3, -0.2


def walked(
    model: LoopedMLP, state: Tensor, u: Tensor, betas: tuple[float, ...], count: int = 7
) -> tuple[Tensor, float]:
    """So many steps in one loop: the state, and how far the last but one went."""
    grad = make_cost("cross_entropy", Y, 3, u).grad
    nudge = CostNudge(model, grad, betas) if betas else None
    spare = (torch.empty_like(state),), (torch.empty_like(state),)
    with torch.no_grad():
        found = model.walk((state,), (u,), nudge, count, spare)
    assert found is not None
    return found[0][0], found[1]


@pytest.mark.parametrize("way", quick_tanh.WAYS)
@pytest.mark.parametrize("betas", [(), BETAS])
@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("alike", [True, False])
def test_a_walk_is_so_many_steps(
    way: str, betas: tuple[float, ...], count: int, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the equation in float64. alike: two phases that begin at one state."""
    monkeypatch.setattr(quick_tanh, "WAY", way)
    monkeypatch.setattr(quick_tanh, "GAIN", quick_tanh.GAINS[way])
    model, phases = LoopedMLP(6, 12, 3, seed=0), max(len(betas), 1)
    draw = torch.Generator().manual_seed(3)
    u, start = torch.randn(2, 4 * phases, 12, generator=draw)
    start.tanh_()
    if alike:
        u, start = u[:4].repeat(phases, 1), start[:4].repeat(phases, 1)
    w, out = model.W_rec.weight.detach().double(), model.W_out
    beta = torch.tensor(betas or (0.0,)).double().repeat_interleave(4)[:, None]
    hot, path = torch.nn.functional.one_hot(Y, 3).repeat(phases, 1), [start.double()]
    for _ in range(count):
        h = path[-1]
        z = h @ out.weight.detach().double().T + out.bias.detach().double()
        pull = (z.softmax(1) - hot) @ out.weight.detach().double()
        path.append(torch.tanh(h @ w + u.double() - beta * pull))
    before = start.clone()
    found, moved = walked(model, start, u, betas, count)
    assert torch.equal(start, before)
    assert float((found.double() - path[-1]).abs().max()) < 1e-6
    assert moved == pytest.approx(float((path[-2] - path[-3]).norm()), rel=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("estimator", ["one_sided", "centered"])
def test_a_walk_of_few_samples_is_that_of_each(batch: int, estimator: str) -> None:
    model = LoopedMLP(6, 12, 3, seed=0)
    x = torch.rand(batch, 6, generator=torch.Generator().manual_seed(1))
    found = estimate_gradients(model, x, Y[:batch], estimator)
    alone = [estimate_gradients(model, x[i : i + 1], Y[i : i + 1], estimator) for i in range(batch)]
    for name, gradient in found.items():
        mean = torch.stack([one[name] for one in alone]).mean(0)
        torch.testing.assert_close(gradient, mean, rtol=1e-3, atol=1e-5)


def test_a_walk_reads_out_by_what_a_subclass_or_an_object_has_of_its_own() -> None:
    class Louder(LoopedMLP):
        def readout(self, state: tuple[torch.Tensor, ...]) -> torch.Tensor:
            return 5 * super().readout(state)

    u, start = torch.randn(8, 12), torch.randn(8, 12).tanh()
    plain, louder, patched = (kind(6, 12, 3, seed=0) for kind in (LoopedMLP, Louder, LoopedMLP))
    patched.readout = louder.readout  # type: ignore[method-assign]
    found = [walked(model, start, u, BETAS)[0] for model in (plain, louder, patched)]
    assert torch.equal(found[1], found[2]) and not torch.allclose(found[0], found[1])


def test_a_walk_is_not_taken_where_a_step_is_another_one() -> None:
    class Damped(LoopedMLP):
        def step(self, state, drive, nudge=None, out=None):  # type: ignore[no-untyped-def]
            new = super().step(state, drive, nudge, out)
            return tuple((n + s) / 2 for n, s in zip(new, state, strict=True))

    u, start = torch.randn(8, 12), torch.randn(8, 12).tanh()
    spare = (torch.empty_like(start),), (torch.empty_like(start),)
    patched = LoopedMLP(6, 12, 3, seed=0)
    patched.__dict__["step"] = patched.step
    for model in (Damped(6, 12, 3, seed=0), patched):
        assert model.walk((start,), (u,), None, 5, spare) is None

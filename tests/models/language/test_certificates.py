"""What each model promises of its fixed point, looked at after training: it is there, it is the
only one, the bound is above the true slope, and where there is an energy sweeps go down in it.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import EqPropTrainer, relax
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.directed import DirectedLM
from tests.models.language.small import (
    DIRECTED,
    MODELS,
    VARIANTS,
    WHOLE,
    B,
    D,
    T,
    X,
    Y,
    cores,
    equilibrium,
    random,
    trained,
)

EQUILIBRIA = (*WHOLE, "attention_core")
N = B * T


def settling(name: str, after: bool = False) -> tuple[EquilibriumModel, Tensor]:
    """(an equilibrium in float64, its input)."""
    if name == "attention_core":
        model = trained("attention_only", double=True) if after else MODELS["attention_only"]()
        return cores(model.double())[0], random(B, T, D)
    found = trained(name, double=True) if after else equilibrium(name)
    assert isinstance(found, EquilibriumModel)
    return found, X


def anywhere(model: EquilibriumModel, x: Tensor, seed: int, size: float = 3.0) -> State:
    """A random state of the model, far from where it begins."""
    begun = model.initial_state(model.drive(x))
    return tuple(
        model.activate(size * random(*block.shape, seed=seed + k)) for k, block in enumerate(begun)
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_the_bound_is_below_one_after_every_step_at_any_learning_rate(name: str) -> None:
    model = MODELS[name]()
    trainer = EqPropTrainer(model, lr=0.3, tol=1e-4)
    for _ in range(30):
        trainer.train_batch(X, Y)
        assert model.contraction_bound() < 1
    raw = [p for key, p in model.named_parameters() if key.endswith("original")]
    # and it was pushed at: without the parametrisation there would be none
    assert max(float(torch.linalg.matrix_norm(p.detach(), 2)) for p in raw) > 3


def moving(model: EquilibriumModel) -> list[int]:
    return sorted(block for group in model.groups for block in group)


def slope(found: Tensor, layers: int) -> float:
    """The largest norm of Jacobians (n, L d, L d), in the largest ||r^l|| / sin(pi l/(L+1))."""
    size = torch.sin(math.pi * torch.arange(1, layers + 1) / (layers + 1)).double()
    width = found.shape[1] // layers
    blocks = found.unflatten(1, (layers, width)).unflatten(3, (layers, width)).transpose(2, 3)
    norms = torch.linalg.matrix_norm(blocks, 2)  # (n, L, L)
    return float((norms * size / size[:, None]).sum(2).max())


def own_jacobian(model: EquilibriumModel, x: Tensor, state: State) -> Tensor:
    """d F(s)_i / d s_i of some tokens, (n, d, d), d over all moving blocks."""
    drive, moved = model.drive(x), moving(model)
    leaves = tuple(block.clone().requires_grad_() for block in state)
    image = torch.cat([model.step(leaves, drive)[k] for k in moved], 1)
    own = [leaves[k] for k in moved]

    def row(i: int, unit: int) -> Tensor:
        return torch.cat(
            [g[i] for g in torch.autograd.grad(image[i, unit], own, retain_graph=True)]
        )

    some = range(0, len(image), 4)
    return torch.stack(
        [torch.stack([row(i, unit) for unit in range(image.shape[1])]) for i in some]
    )


@pytest.mark.parametrize("name", EQUILIBRIA)
def test_the_bound_is_above_the_slope_of_a_token_s_own_step_everywhere(name: str) -> None:
    model, x = settling(name, after=True)
    x, bound = x[:1], model.contraction_bound()
    fixed = relax(model, x, 200, 1e-12).state
    for state in (fixed, anywhere(model, x, 5, 0.3)):
        found = own_jacobian(model, x, state)
        assert slope(found, len(moving(model))) <= bound
    if name not in DIRECTED:  # tanh and the ball norm make N J similar to a symmetric matrix
        assert float(torch.linalg.eigvals(found).imag.abs().max()) <= 1e-9


@pytest.mark.parametrize("name", DIRECTED)
def test_directed_models_say_what_their_bound_is_about_and_give_no_distance(name: str) -> None:
    model = equilibrium(name)
    assert "token" in model.contraction_metric and math.isinf(model.metric_condition)
    assert model.contraction_bound() < 1
    assert math.isinf(relax(model, X, 200, 1e-10).error_bound)


@pytest.mark.parametrize("name", [*WHOLE, "attention_core"])
def test_only_models_with_a_bound_in_l2_give_a_distance(name: str) -> None:
    model, x = settling(name)
    end = relax(model, x, 6)
    assert math.isinf(end.error_bound) == (name in DIRECTED)
    again = relax(model, x, 300, 1e-13)
    away = torch.stack([(a - b).norm(dim=1) for a, b in zip(end.state, again.state, strict=True)])
    assert float(away.norm(dim=0).max()) <= end.error_bound


@pytest.mark.parametrize("name", EQUILIBRIA)
def test_every_start_ends_in_one_state(name: str) -> None:
    model, x = settling(name, after=True)
    known = relax(model, x, 400, 1e-13).state
    for seed in range(3):
        end = relax(model, x, 400, 1e-13, start=anywhere(model, x, 10 * seed))
        for block, other in zip(known, end.state, strict=True):
            assert torch.allclose(block, other, rtol=0, atol=1e-10)


def take(model: nn.Module, steps: int) -> None:
    """From now on, in every free phase."""
    if isinstance(model, EqPropAttentionOnlyLM):
        for layer in model._layers():
            layer.settle.use(free_steps=steps)
    elif isinstance(model, EquilibriumModel):
        model.max_steps = steps


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_five_times_the_steps_give_the_same_logits_after_training(name: str) -> None:
    model = trained(name, 30)
    before = model(X)
    take(model, 5 * (15 if name == "attention_only" else 30))
    assert not torch.equal(MODELS[name]()(X), before)
    assert float((model(X) - before).abs().max()) <= 1e-4
    # and it does depend on them where they are too few
    short = trained(name, 30)
    take(short, 1)
    assert float((short(X) - before).abs().max()) > 1e-4


def downhill(energies: list[Tensor]) -> bool:
    path = torch.stack(energies)
    return bool((path.diff(dim=0) <= 1e-10 * path[0].abs().max()).all())


@torch.no_grad()
@pytest.mark.parametrize("name", ["hybrid", "looped_mlp", "attention_core"])
def test_every_sweep_lowers_the_energy_of_every_token(name: str) -> None:
    model, x = settling(name, after=True)
    drive = model.drive(x)
    for seed in range(3):
        state = anywhere(model, x, seed)
        if name == "hybrid":  # the features are clamped
            state = state[0], drive[1]
        seen = [model.energy(state, drive)]
        for _ in range(30):
            state = model.step(state, drive)
            seen.append(model.energy(state, drive))
        assert seen[0].shape == (N,) and downhill(seen)
        assert float((seen[0] - seen[-1]).min()) > 1e-3


@torch.no_grad()
def test_a_sweep_of_one_token_lowers_its_energy_while_those_before_it_are_held() -> None:
    model, x = settling("full", after=True)
    x, drive = x[:1], model.drive(x[:1])
    fixed = relax(model, x, 300, 1e-13).state
    for token in range(T):
        lost = anywhere(model, x, token)
        own = (torch.arange(T) == token)[:, None]
        state = tuple(torch.where(own, a, b) for a, b in zip(lost, fixed, strict=True))
        seen = [model.energy(state, drive)[token]]
        for _ in range(30):
            moved = model.step(state, drive)
            state = tuple(torch.where(own, m, s) for m, s in zip(moved, state, strict=True))
            seen.append(model.energy(state, drive)[token])
        assert downhill(seen) and float(seen[0] - seen[-1]) > 1e-3
        end = torch.cat([(a - b)[token] for a, b in zip(state, fixed, strict=True)])
        assert float(end.abs().max()) <= 1e-6


def inverse(name: str, r: Tensor) -> Tensor:
    """The force that would make r a fixed point."""
    if name in ("hybrid", "looped_mlp"):
        return torch.atanh(r)
    return r / (1 - r.square().mean(-1, keepdim=True)).sqrt()


@pytest.mark.parametrize("name", ["full", "hybrid", "looped_mlp", "attention_core"])
def test_the_slope_of_the_energy_within_a_token_is_the_force(name: str) -> None:
    model, x = settling(name)
    drive = model.drive(x)
    state = anywhere(model, x, 3, 0.5)
    if name == "hybrid":
        state = state[0], drive[1].detach()
    moved = moving(model)
    leaves = tuple(block.detach().clone().requires_grad_() for block in state)
    energy, force = model.energy(leaves, drive), model.force(leaves, drive)
    for i in (0, 1, T - 1, T, N - 1):
        grads = torch.autograd.grad(energy[i], [leaves[k] for k in moved], retain_graph=True)
        for k, gradient in zip(moved, grads, strict=True):
            expected = inverse(name, leaves[k][i]) - force[k][i]
            torch.testing.assert_close(gradient[i], expected, rtol=1e-9, atol=1e-9)
            later = gradient.reshape(B, T, -1)[i // T, i % T + 1 :]
            assert not later.any()  # nothing of the future is in it


def test_a_directed_core_has_no_energy() -> None:
    model = equilibrium("recurrent_core")
    drive = model.drive(X)
    with pytest.raises(TypeError, match="RecurrentEqPropLM has no energy"):
        model.energy(model.initial_state(drive), drive)


@pytest.mark.parametrize("name", DIRECTED)
def test_later_tokens_do_not_enter_the_jacobian_and_the_own_block_is_symmetric_or_not(
    name: str,
) -> None:
    model = equilibrium(name)
    assert isinstance(model, DirectedLM)
    drive, state = model.drive(X[:1]), anywhere(model, X[:1], 0)
    widths = [block.shape[1] for block in state]

    def force(r: Tensor) -> Tensor:
        return torch.cat(model.force(r.split(widths, 1), drive), 1)

    jacobian = torch.autograd.functional.jacobian(force, torch.cat(state, 1))
    blocks = jacobian.permute(0, 2, 1, 3)  # (i, j, all layers, all layers)
    for i in range(T):
        assert not blocks[i, i + 1 :].any()
        assert i == 0 or blocks[i, :i].flatten(1).any(1).all()
    own = torch.stack([blocks[i, i] for i in range(T)])
    asymmetry = float((own - own.mT).norm() / own.norm())
    assert asymmetry < 1e-12 if name == "full" else asymmetry > 0.5


@pytest.mark.parametrize("name", WHOLE)
def test_the_bound_sees_a_weight_that_lost_its_parametrisation(name: str) -> None:
    model = MODELS[name]()
    inner = {"full": "xi.0", "recurrent_core": "W_1", "hybrid": "W_rec", "looped_mlp": "W_rec"}
    module = model.get_submodule(inner[name])
    torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    with torch.no_grad():
        module.weight.mul_(20)
    assert model.contraction_bound() > 1

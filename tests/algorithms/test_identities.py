"""What each rule is, at one state: equal where theory says so, different where it does not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eqprop_lab.algorithms import BioplausibleModel
from eqprop_lab.instruments.alignment import cosine
from tests.algorithms.networks import (
    BOUNDS,
    RHO,
    RULES,
    SIZES,
    X,
    Y,
    apart,
    bounded,
    by_autograd,
    gradients,
    layers_of,
    leaves,
    made,
)

D = X.double()
SETTLED: dict[str, Any] = {"tol": 1e-13, "free_steps": 2000, "nudged_steps": 2000}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


WITHOUT: dict[str, dict[str, float]] = {
    "eg_fa": {"kappa": 0.0},
    "em_fa": {"cost_of_activity": 0.0},
    "sto_fa": {"drop": 0.0},
    "ada_fa": {"decay": 0.0, "feedback_rate": 0.0},
}


@pytest.mark.parametrize("activation", RHO)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("name", WITHOUT)
def test_without_its_idea_a_variant_is_feedback_alignment(
    name: str, bound: bool, activation: str
) -> None:
    options = {"use_spectral_norm": bound, "activation": activation}
    plain = gradients(made("feedback_alignment", **options))
    assert same(gradients(made(name, **options, **WITHOUT[name])), plain)
    assert not same(gradients(made(name, **options)), plain) or name == "ada_fa"


@pytest.mark.parametrize("bound", BOUNDS)
def test_feedback_by_the_weights_themselves_is_backpropagation(bound: bool) -> None:
    model, plain = (made(n, use_spectral_norm=bound) for n in ("feedback_alignment", "backprop"))
    assert not same(gradients(model), gradients(plain))
    for number in (1, 2):
        with torch.no_grad():
            model.rule.get_buffer(f"feedback_{number}").copy_(plain.rule.weights()[number])
    assert same(gradients(model), gradients(plain))


@pytest.mark.parametrize("activation", RHO)
@pytest.mark.parametrize("bound", BOUNDS)
def test_backprop_is_autograd(bound: bool, activation: str) -> None:
    model = made("backprop", use_spectral_norm=bound, activation=activation).double()
    tensors = leaves(model)
    state = D
    for number, (weight, bias) in enumerate(layers_of(tensors, 0.9)):
        state = F.linear(state if number == 0 else RHO[activation](state), weight, bias)
    wanted = by_autograd(F.cross_entropy(state, Y), tensors)
    assert len(wanted) == 6 and apart(gradients(model), wanted) < 1e-9
    assert apart(model.exact_gradients(D, Y), wanted) < 1e-9
    torch.testing.assert_close(model(D), state.detach())


def test_activity_has_the_cost_that_em_fa_says() -> None:
    """With B = W its update is the gradient of cross-entropy + lambda/2 sum mean ||s||^2."""
    model = made("em_fa", cost_of_activity=0.3).double()
    for number in (1, 2):
        model.rule.get_buffer(f"feedback_{number}").copy_(model.rule.weights()[number].detach())
    tensors = leaves(model)
    (w1, b1), (w2, b2), (w3, b3) = layers_of(tensors, 0.9)
    s1 = torch.tanh(D @ w1.T + b1)
    s2 = torch.tanh(s1 @ w2.T + b2)
    activity = s1.square().sum(1).mean() + s2.square().sum(1).mean()
    loss = F.cross_entropy(s2 @ w3.T + b3, Y) + 0.15 * activity
    assert apart(gradients(model), by_autograd(loss, tensors)) < 1e-12


def test_eg_fa_weighs_samples_by_their_energy() -> None:
    model = made("eg_fa", kappa=0.7).double()
    (w1, b1), (w2, b2), (w3, b3) = layers_of(leaves(model), 0.9)
    a1 = D @ w1.T + b1
    a2 = torch.tanh(a1) @ w2.T + b2
    energy = -(torch.tanh(a1) * a1).mean(1) - (torch.tanh(a2) * a2).mean(1)
    score = (energy - energy.mean()) / energy.std(unbiased=False)
    weight = torch.exp(0.7 * score).clamp(0.25, 4.0)
    error = torch.softmax(torch.tanh(a2) @ w3.T + b3, 1) - F.one_hot(Y, 4)
    error = error * (weight / weight.mean())[:, None]
    found = gradients(model)["rule.layers.2.weight"]
    torch.testing.assert_close(found, (error.T @ torch.tanh(a2) / 8).detach())
    assert float(weight.detach().max() / weight.detach().min()) > 2


def test_sto_fa_draws_new_masks_whose_mean_is_feedback_alignment() -> None:
    model, plain = made("sto_fa").double(), made("feedback_alignment").double()
    drawn = [model.local_gradients(D, Y)["rule.layers.1.weight"] for _ in range(2000)]
    assert not torch.equal(drawn[0], drawn[1])
    wanted = gradients(plain)["rule.layers.1.weight"]
    # 0.5 % of the variance of one draw is left in the mean
    spread = torch.stack(drawn).std(0) / len(drawn) ** 0.5
    assert float(((torch.stack(drawn).mean(0) - wanted).abs() / spread).max()) < 5


def test_direct_feedback_and_signs_are_what_they_say() -> None:
    direct = BioplausibleModel("direct_feedback_alignment", 12, 9, 4, seed=0)
    plain = BioplausibleModel("backprop", 12, 9, 4, seed=0)
    with torch.no_grad():
        direct.rule.get_buffer("direct_1").copy_(plain.rule.weights()[1])
    assert same(gradients(direct), gradients(plain))
    signs, fixed = made("sign_symmetry"), made("feedback_alignment")
    for number in (1, 2):
        weight = signs.rule.weights()[number].detach()
        fixed.rule.get_buffer(f"feedback_{number}").copy_(weight.sign() / len(weight) ** 0.5)
    assert apart(gradients(signs), gradients(fixed)) < 1e-6


def test_without_lateral_weights_leq_fa_is_feedback_alignment() -> None:
    model, plain = made("leq_fa"), made("feedback_alignment")
    for side in model.rule.lateral:
        with torch.no_grad():
            side.parametrizations.weight.original.zero_()
    found, wanted = gradients(model), gradients(plain)
    assert apart(found, wanted) < 1e-6 and len(found) == len(wanted) + 2


def test_leq_fa_settles_each_layer() -> None:
    model = made("leq_fa", lateral_steps=3).double()
    tensors = leaves(model)
    state = D
    for number, (weight, bias) in enumerate(layers_of(tensors, 0.9)):
        driven = state @ weight.T + bias
        if number < 2:
            m = bounded(tensors[f"rule.lateral.{number}.parametrizations.weight.original"], 0.9)
            state = torch.tanh(driven)
            for _ in range(3):
                state = torch.tanh(driven + state @ m.T)
    torch.testing.assert_close(model(D), driven.detach())
    assert float(torch.linalg.matrix_norm(model.rule.lateral[0].weight.detach(), 2)) < 0.9


# ---- predictive coding


def free_energy(states: list[Tensor], model: BioplausibleModel) -> Tensor:
    (w1, b1), (w2, b2), (w3, b3) = layers_of(leaves(model), 0.9)
    s1, s2 = states
    errors = [s1 - torch.tanh(D @ w1.T + b1), s2 - torch.tanh(s1 @ w2.T + b2)]
    cost = F.cross_entropy(s2 @ w3.T + b3, Y, reduction="none")
    return 0.5 * sum(e.square().sum(1) for e in errors) + cost


@pytest.mark.parametrize("activation", RHO)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tied_predictive_coding_lowers_its_energy_every_step(seed: int, activation: str) -> None:
    options: dict[str, Any] = {"use_spectral_norm": True, "activation": activation}
    model = made("pc_hybrid", seed, tied=True, **options).double()
    energy = model.rule.energies(D, Y)
    assert energy.shape == (21, 8) and bool((energy.diff(dim=0) < 0).all())
    torch.testing.assert_close(energy[0], F.cross_entropy(model(D), Y, reduction="none"))


def test_tied_inference_is_gradient_descent_on_the_energy() -> None:
    from eqprop_lab.equilibrium.costs import make_cost

    model = made("pc_hybrid", tied=True, use_spectral_norm=True).double()
    with torch.no_grad():
        moments = list(
            model.rule.inference(D, make_cost("cross_entropy", Y, 4, D), list(model.rule.weights()))
        )
    for now, after in itertools.pairwise(moments[:4]):
        states = [s.clone().requires_grad_() for s in now.states[1:]]
        energy = free_energy(states, model)
        slopes = torch.autograd.grad(energy.sum(), states)
        for state, slope, new in zip(states, slopes, after.states[1:], strict=True):
            torch.testing.assert_close(new, (state - 0.2 * slope).detach())
    torch.testing.assert_close(
        model.rule.energies(D, Y)[3], free_energy(moments[3].states[1:], model).detach()
    )


def test_predictive_coding_learns_by_the_slope_of_its_energy_at_the_inferred_state() -> None:
    from eqprop_lab.equilibrium.costs import make_cost

    model = made("pc_hybrid").double()
    with torch.no_grad():
        *_, last = model.rule.inference(
            D, make_cost("cross_entropy", Y, 4, D), model.rule.weights()
        )
    tensors = leaves(model)
    (w1, b1), (w2, b2), (w3, b3) = layers_of(tensors, 0.9)
    s1, s2 = last.states[1:]
    errors = [s1 - torch.tanh(D @ w1.T + b1), s2 - torch.tanh(s1 @ w2.T + b2)]
    energy = 0.5 * sum(e.square().sum() for e in errors) / 8 + F.cross_entropy(s2 @ w3.T + b3, Y)
    assert apart(gradients(model), by_autograd(energy, tensors)) < 1e-12
    assert apart(gradients(made("pc_hybrid", tied=True).double()), gradients(model)) > 0.1


# ---- equilibrium rules


def settled_loss(tensors: dict[str, Tensor], steps: int) -> tuple[Tensor, list[Tensor]]:
    """The mean cost at the fixed point of the two hidden layers, through all steps."""
    (w1, b1), (w2, b2), (w3, b3) = layers_of(tensors, 0.9)
    drive = D @ w1.T + b1
    s1, s2 = torch.zeros(8, 9).double(), torch.zeros(8, 7).double()
    for _ in range(steps):
        s1, s2 = torch.tanh(drive + s2 @ w2), torch.tanh(s1 @ w2.T + b2)
    return F.cross_entropy(s2 @ w3.T + b3, Y), [s1, s2]


@pytest.mark.parametrize("name", ["eqprop", "mom_eq"])
def test_settled_at_small_beta_it_is_the_gradient(name: str) -> None:
    model = made(name, use_spectral_norm=True, beta=1e-3, **SETTLED).double()
    tensors = leaves(model)
    wanted = by_autograd(settled_loss(tensors, 400)[0], tensors)
    found = gradients(model)
    assert found.keys() == wanted.keys() and apart(found, wanted) < 1e-6
    exact = made(name, use_spectral_norm=True, **SETTLED).double().exact_gradients(D, Y)
    assert apart(exact, wanted) < 1e-9


def test_its_error_falls_with_the_square_of_beta_and_one_sided_with_beta() -> None:
    reference = made("eqprop", use_spectral_norm=True).double()
    tensors = leaves(reference)
    wanted = by_autograd(settled_loss(tensors, 400)[0], tensors)
    for nudges, factor in {"centered": 4, "one_sided": 2, "random_sign": 2}.items():
        errors = [
            apart(
                gradients(
                    made(
                        "eqprop", use_spectral_norm=True, beta=b, nudges=nudges, **SETTLED
                    ).double()
                ),
                wanted,
            )
            for b in (0.04, 0.02)
        ]
        assert errors[0] / errors[1] == pytest.approx(factor, rel=0.1), nudges


def test_random_signs_are_both_drawn() -> None:
    model = made("eqprop", nudges="random_sign")
    drawn = {float(model.local_gradients(X, Y)["rule.layers.0.weight"].sum()) for _ in range(20)}
    assert len(drawn) == 2


def test_eqprop_and_mom_eq_reach_the_same_fixed_point_and_momentum_is_quicker() -> None:
    states = {}
    for name in ("eqprop", "mom_eq"):
        model = made(name, use_spectral_norm=True, **SETTLED).double()
        with torch.no_grad():
            weights = model.rule.weights()
            _, states[name], change = model.rule.free(D, weights, 1e-13)
            assert change <= 1e-13
            for steps in range(1, 200):
                model.rule.free_steps = steps
                if model.rule.free(D, weights, 1e-6)[2] <= 1e-6:
                    break
        states[name].append(torch.tensor(steps))
    wanted = settled_loss(leaves(made("eqprop", use_spectral_norm=True).double()), 400)[1]
    for a, b, c in zip(states["eqprop"], states["mom_eq"], wanted, strict=False):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        torch.testing.assert_close(a, c.detach(), rtol=0, atol=1e-10)
    assert int(states["mom_eq"][-1]) < int(states["eqprop"][-1])


def test_all_winners_are_eqprop_and_its_own_feedback_makes_cf_align_eqprop() -> None:
    plain = gradients(made("eqprop"))
    assert same(gradients(made("sparse_eq", keep=1.0)), plain)
    model = made("cf_align", kappa=1.0)
    for number in (1, 2):
        model.rule.get_buffer(f"feedback_{number}").copy_(model.rule.weights()[number].detach())
    assert same(gradients(model), plain)


def test_sparse_eq_keeps_the_winners_of_the_free_state() -> None:
    model = made("sparse_eq", keep=0.5)
    weights = model.rule.weights()
    with torch.no_grad():
        phase, free, _ = model.rule.free(X, weights)
        assert [int((s != 0).sum(1).max()) for s in free] == [4, 4]  # round(4.5), round(3.5)
        from eqprop_lab.equilibrium.costs import make_cost

        plus, minus, _ = model.rule._nudged(phase, free, make_cost("cross_entropy", Y, 4, X))
    for f, p, m in zip(free, plus, minus, strict=True):
        assert torch.equal(f != 0, p != 0) and torch.equal(f != 0, m != 0)
        assert not torch.equal(p, m)


def test_eq_align_is_its_formula() -> None:
    model = made("eq_align").double()
    rule = model.rule
    w_rec, h = rule.W_rec.weight.detach(), torch.zeros(8, 9).double()
    for _ in range(500):
        h = torch.tanh(rule.W_in(D) + rule.W_rec.bias + h @ w_rec.T).detach()
    error = torch.softmax(rule.W_out(h), 1).detach() - F.one_hot(Y, 4)
    hidden = error @ rule.feedback * (1 - h**2)
    found = gradients(model)
    torch.testing.assert_close(found["rule.W_out.weight"], error.T @ h / 8, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["rule.W_in.weight"], hidden.T @ D / 8, rtol=1e-4, atol=1e-6)
    original = rule.W_rec.parametrizations.weight.original.detach().requires_grad_()
    (wanted,) = torch.autograd.grad(bounded(original, 0.9), original, hidden.T @ h / 8)
    name = "rule.W_rec.parametrizations.weight.original"
    torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
    assert rule.contraction_bound() < 0.9


def test_no_two_rules_are_the_same() -> None:
    """ada_fa differs from feedback alignment in what it does to B; the others in their first
    update.
    """
    found = {name: gradients(made(name)) for name in RULES if name != "eq_align"}
    for a, b in itertools.combinations(found, 2):
        shared = found[a].keys() & found[b].keys()
        equal = all(torch.equal(found[a][n], found[b][n]) for n in shared)
        assert equal == ({a, b} == {"ada_fa", "feedback_alignment"}), (a, b)
    assert len(found["ada_fa"]) == len(found["feedback_alignment"]) + 2


def test_learned_feedback_approaches_the_weights_by_1_minus_lambda_a_step() -> None:
    """Whatever the optimiser makes of the common update, as long as it does the same to both."""
    model = made("ada_fa", decay=0.02).double()
    gaps = lambda: [  # noqa: E731
        (model.rule.weights()[n] - getattr(model.rule, f"feedback_{n}")).detach() for n in (1, 2)
    ]
    before, start = gaps(), [p.clone() for p in model.parameters()]
    for _ in range(50):
        model.train_step(D, Y)
    for first, last in zip(before, gaps(), strict=True):
        torch.testing.assert_close(last, first * 0.98**50)
    assert all(not torch.equal(p, s) for p, s in zip(model.parameters(), start, strict=True))
    assert len(SIZES[1]) == 2


def test_a_mirror_turns_the_feedback_towards_the_weights_by_noise_alone() -> None:
    model = made("ada_fa", mirror=True, decay=0.02).double()
    rule, start = model.rule, [p.clone() for p in model.parameters()]
    torch.manual_seed(0)
    for _ in range(300):
        model.before_update()
    for number, weight in enumerate(rule.weights()[1:], start=1):
        b = getattr(rule, f"feedback_{number}")
        assert cosine(b, weight) > 0.98
        assert float(b.norm() / weight.detach().norm()) == pytest.approx(1.0, abs=0.1)
    assert all(torch.equal(p, s) for p, s in zip(model.parameters(), start, strict=True))
    assert gradients(model).keys() == gradients(made("feedback_alignment")).keys()
    before = rule.feedback_1.clone()
    model.train_step(D, Y)
    assert not torch.equal(rule.feedback_1, before)


@pytest.mark.parametrize("options", [{"decay": 0.0}, {"feedback_rate": 0.5}])
def test_a_mirror_that_cannot_learn_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="mirror needs decay > 0 and feedback_rate 1"):
        made("ada_fa", mirror=True, **options)

"""Gradients of whole language models, embeddings included, in float64 against autograd through the
unrolled loop: exact in the limit, beta^2 off with a nudge, and wrong where an estimator does not
suit a directed model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from eqprop_lab import ConvergenceWarning, EqPropTrainer, estimate_gradients
from eqprop_lab.equilibrium import phases
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import ESTIMATORS, Gradients, estimate
from eqprop_lab.equilibrium.jacobian import Product, activation_product, force_jvp, force_vjp
from eqprop_lab.equilibrium.settings import Settings
from eqprop_lab.equilibrium.state import State
from eqprop_lab.instruments import gradient_check
from eqprop_lab.instruments.gradient_check import exact_gradients
from eqprop_lab.models.language import directed
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.ball import rms
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from tests.models.language.small import (
    DIRECTED,
    ENERGETIC,
    MODELS,
    WHOLE,
    B,
    D,
    T,
    V,
    X,
    Y,
    equilibrium,
)

SETTLED: dict[str, Any] = {"free_steps": 400, "nudged_steps": 400, "tol": 1e-13}
RELATIVE = Settings(relative=True, **SETTLED)
UNROLLED = 150  # steps that the reference goes through: more change it by less than 1e-12


@cache
def exact(name: str) -> Gradients:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_check, "STEPS", UNROLLED)
        return exact_gradients(equilibrium(name), X, Y)


def apart(got: Gradients, expected: Gradients) -> float:
    """||got - expected|| / ||expected|| of all parameters together."""
    assert got.keys() == expected.keys()
    off = math.hypot(*(float((got[name] - e).norm()) for name, e in expected.items()))
    return off / math.hypot(*(float(e.norm()) for e in expected.values()))


def relative(name: str, estimator: str | None = None, beta: float = 0.02) -> Gradients:
    """At a beta relative to the largest |dC/ds|."""
    model = equilibrium(name)
    settings = replace(RELATIVE, beta=beta)
    return estimate(model, X, Y, estimator or model.estimator, settings)[0].gradients


def slope(errors: Callable[[float], float]) -> float:
    """The order in beta, from two betas a factor of four apart."""
    return math.log(errors(0.16) / errors(0.04), 4)


@pytest.mark.parametrize("name", WHOLE)
def test_the_limit_estimator_is_the_adjoint_for_every_parameter(name: str) -> None:
    model = equilibrium(name)
    got = estimate_gradients(model, X, Y, model.limit, **SETTLED)
    assert any("mbedding" in parameter for parameter in got)
    for parameter, expected in exact(name).items():
        assert float((got[parameter] - expected).norm()) <= 1e-8 * float(expected.norm()), parameter


@pytest.mark.parametrize("name", WHOLE)
def test_the_recommended_estimator_is_off_by_the_square_of_beta(name: str) -> None:
    assert apart(relative(name), exact(name)) <= 1e-4
    assert slope(lambda beta: apart(relative(name, beta=beta), exact(name))) == pytest.approx(
        2, abs=0.05
    )


@pytest.mark.parametrize("name", DIRECTED)
def test_plain_centered_and_response_are_wrong_on_directed_models_at_every_beta(name: str) -> None:
    assert equilibrium(name).estimator == "asymmetric"
    for beta in (0.5, 0.1, 0.02):
        assert apart(relative(name, "centered", beta), exact(name)) > 0.2
    assert apart(relative(name, "response"), exact(name)) > 0.2


@pytest.mark.parametrize("name", ENERGETIC)
def test_centered_and_asymmetric_agree_where_there_is_an_energy(name: str) -> None:
    assert apart(relative(name, "asymmetric"), relative(name, "centered")) <= 1e-5


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("estimator", ["bptt", "truncated_bptt"])
def test_unrolling_gives_the_mean_over_tokens_too(name: str, estimator: str) -> None:
    steps = {"free_steps": 100, "nudged_steps": 100}
    got = estimate_gradients(equilibrium(name), X, Y, estimator, **steps)
    assert apart(got, exact(name)) <= 1e-8


@pytest.mark.parametrize("name", ENERGETIC)
def test_complex_nudges_leave_the_clamped_features_alone(name: str) -> None:
    assert apart(relative(name, "holomorphic", 0.1), exact(name)) <= 1e-6


@pytest.mark.parametrize("name", DIRECTED)
def test_a_wrong_sign_of_the_correction_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "force_jvp", force_vjp)
    monkeypatch.setattr(phases, "force_vjp", force_jvp)
    assert apart(relative(name), exact(name)) > 0.2


@pytest.mark.parametrize("name", DIRECTED)
def test_the_jacobian_of_the_step_in_place_of_the_force_s_is_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stepped(model: EquilibriumModel, state: State, drive: State) -> tuple[Product, Product]:
        forward, backward = force_jvp(model, state, drive), force_vjp(model, state, drive)
        inner = activation_product(model, state, drive)
        return (lambda v: inner(forward(v))), (lambda v: backward(inner(v)))

    monkeypatch.setattr(phases, "force_jvp", lambda *point: stepped(*point)[0])
    monkeypatch.setattr(phases, "force_vjp", lambda *point: stepped(*point)[1])
    assert apart(relative(name), exact(name)) > 0.02


def test_a_kink_in_the_loop_loses_the_square_of_beta(monkeypatch: pytest.MonkeyPatch) -> None:
    def errors(beta: float) -> float:
        return apart(relative("full", beta=beta), expected)

    expected = exact("full")
    smooth = errors(0.02)
    monkeypatch.setattr(directed, "squareplus", torch.relu)
    expected = exact.__wrapped__("full")
    assert errors(0.02) > 5 * smooth and slope(errors) < 1.8


@pytest.mark.parametrize("name", WHOLE)
def test_beta_means_the_same_in_a_batch_of_twice_the_samples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed() -> float:
        once, twice = (
            estimate_gradients(equilibrium(name), x, y, beta=0.3, **SETTLED)
            for x, y in ((X, Y), (torch.cat([X, X]), torch.cat([Y, Y])))
        )
        return apart(twice, once)

    assert changed() <= 1e-9
    strength = phases.strength
    monkeypatch.setattr(
        phases, "strength", lambda m, free, *r: strength(m, free, *r) / len(free[0])
    )
    assert changed() > 1e-7


@pytest.mark.parametrize("name", ENERGETIC)
def test_beta_means_the_same_in_longer_sequences(name: str) -> None:
    # With a cost on the first tokens only, the later ones must change nothing but the mean.
    first, model = 4, equilibrium(name)
    seen = (torch.arange(T) < first).repeat(B)[:, None]
    settings = Settings(beta=0.3, **SETTLED)
    grad = make_cost("cross_entropy", Y.flatten(), V, X.new_zeros((), dtype=torch.float64)).grad
    long = ESTIMATORS["centered"](model, X, lambda z: grad(z) * seen, settings).gradients
    short = estimate(model, X[:, :first], Y[:, :first], "centered", settings)[0].gradients
    assert apart({key: g * T / first for key, g in long.items()}, short) <= 1e-9


@cache
def unrolled() -> Gradients:
    """attention_only without its blocks: the loop written out, autograd through all of it."""
    model = MODELS["attention_only"]().double()
    assert isinstance(model, EqPropAttentionOnlyLM)
    h = model.embedding(X)
    for layer in model._layers():
        core = layer.settle.model
        drive = core.drive(rms(h))
        state = core.initial_state(drive)
        for _ in range(60):
            state = (core.activate(core.force(state, drive)[0]),)
        h = layer.after(h, state[0].unflatten(0, (B, T)))
    loss = F.cross_entropy(model.W_out(rms(h)).flatten(0, 1), Y.flatten())
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def by_blocks(estimator: str, beta: float = 0.02, **phases: Any) -> Gradients:
    """The same by the blocks, beta relative to the largest entry of each cotangent."""
    model = MODELS["attention_only"]().double()
    assert isinstance(model, EqPropAttentionOnlyLM)
    for layer in model._layers():
        layer.settle.use(estimator, beta, **(phases or SETTLED))
    F.cross_entropy(model(X).flatten(0, 1), Y.flatten()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("estimator", "error"),
    [("response", 1e-8), ("implicit", 1e-8), ("centered", 1e-4), ("asymmetric", 1e-4)],
)
def test_blocks_of_attention_give_the_gradient_of_the_unrolled_loop(
    estimator: str, error: float
) -> None:
    assert apart(by_blocks(estimator), unrolled()) <= error


@pytest.mark.parametrize("estimator", ["bptt", "truncated_bptt"])
def test_blocks_that_unroll_scale_with_the_tokens_too(estimator: str) -> None:
    got = by_blocks(estimator, free_steps=40, nudged_steps=40)
    assert apart(got, unrolled()) <= 1e-8


def test_blocks_of_attention_are_off_by_the_square_of_beta() -> None:
    errors = {beta: apart(by_blocks("centered", beta), unrolled()) for beta in (0.64, 0.16, 0.04)}
    assert slope(errors.__getitem__) == pytest.approx(2, abs=0.1)


def loud() -> RecurrentEqPropLM:
    """Weights under which news from later tokens overshoot on their way back."""
    model = RecurrentEqPropLM(V, D, 4, 24, seed=0).double()
    with torch.no_grad():
        for weight, factor in (("W_q", 2.0), ("W_k", 2.0), ("W_v", 1.5)):
            getattr(model.attention[0], weight).weight.mul_(factor)
        model.W_out.weight.mul_(4)
    return model


def test_a_nudge_that_runs_away_is_told_of_and_auto_finds_a_weaker_one() -> None:
    x, y = torch.randint(V, (2, 2, 24), generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_check, "STEPS", UNROLLED)
        exact = exact_gradients(loud(), x, y)
    settled: dict[str, Any] = {"free_steps": 150, "nudged_steps": 60}
    with pytest.warns(ConvergenceWarning) as told:
        fixed = estimate_gradients(loud(), x, y, "asymmetric", 0.03, **settled)
    assert apart(fixed, exact) > 1
    texts = [str(warning.message) for warning in told]
    assert any("nudge is too strong" in text and "beta='auto'" in text for text in texts), texts
    fitted = estimate_gradients(loud(), x, y, "asymmetric", "auto", **settled)
    assert apart(fitted, exact) < 1e-2 and not fitted.doubts
    assert apart(estimate_gradients(loud(), x, y, **settled), fitted) == 0  # it is the default here


def test_a_trainer_tells_of_nudges_that_ran_away_and_takes_weaker_ones_by_itself() -> None:
    x, y = torch.randint(V, (2, 2, 24), generator=torch.Generator().manual_seed(0))
    how: dict[str, Any] = {"lr": 1e-4, "free_steps": 150, "nudged_steps": 60, "progress": False}
    with pytest.warns(ConvergenceWarning, match="epoch 1: .*nudge is too strong"):
        EqPropTrainer(loud(), beta=0.03, **how).fit([(x, y)], 1)
    EqPropTrainer(loud(), **how).fit([(x, y)], 1)


def test_what_a_free_phase_still_moves_is_no_bend() -> None:
    """The mean of both nudged phases goes on with it; a beta is not blamed for that."""
    found, _ = estimate(loud(), X, Y, "asymmetric", Settings(0.001, 6, 3))
    assert found.free_error > 0.01 and found.bend == 0
    assert all("nudge is too strong" not in str(doubt) for doubt in found.doubts)


@pytest.mark.parametrize(("name", "estimator"), [("hybrid", "response"), ("hybrid", "centered"),
                                                 ("full", "implicit")])  # fmt: skip
def test_embeddings_are_computed_once_a_step_and_no_graph_is_left(
    name: str, estimator: str
) -> None:
    model, calls = equilibrium(name), []
    model.get_submodule("embedding").register_forward_hook(lambda *call: calls.append(call))
    found, cost = estimate(model, X, Y, estimator, Settings(free_steps=3, nudged_steps=2))
    assert len(calls) == 1
    held = [*found.gradients.values(), *found.free.state, found.logits, cost]
    assert not any(value.requires_grad for value in held)

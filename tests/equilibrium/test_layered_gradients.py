"""Gradients of the layered nets against autograd through the unrolled phase, before and after
training.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    ConvEqProp,
    DeepEqProp,
    EqPropTrainer,
    build_dataset,
    estimate_gradients,
    relax,
)
from eqprop_lab.equilibrium.gradients import Gradients
from eqprop_lab.models.layered import LayeredModel

DATA = build_dataset("digits")
X, Y = DATA.train.x[:24].double(), DATA.train.y[:24]
SETTLED = {"free_steps": 100, "nudged_steps": 100}


def unrolled(model: LayeredModel) -> Gradients:
    """An independent reference: parallel updates written out from the formulas, autograd through
    all of them.
    """
    layers = model._layers()
    weights = [layer.weight for layer in layers]
    drives = (
        [layers[0].linear.up(X, weights[0], layers[0].bias)]
        if X.ndim == 4 and isinstance(model, ConvEqProp)
        else [X.flatten(1) @ weights[0].T + layers[0].bias]
    )
    state: list[Tensor] = [torch.tanh(drives[0])]
    for layer, weight in zip(layers[1:], weights[1:], strict=True):
        state.append(torch.tanh(layer.linear.up(state[-1], weight, layer.bias)))
    for _ in range(100):
        forces = [drives[0]]
        forces += [
            layer.linear.up(below, weight, layer.bias)
            for layer, weight, below in zip(layers[1:], weights[1:], state, strict=False)
        ]
        for lower, (layer, weight, above) in enumerate(
            zip(layers[1:], weights[1:], state[1:], strict=True)
        ):
            up = functools.partial(layer.linear.up, weight=weight)
            back = torch.autograd.functional.vjp(up, state[lower], above, create_graph=True)[1]
            forces[lower] = forces[lower] + model.gamma * back
        state = [torch.tanh(force) for force in forces]
    # the channels of one place side by side
    top = state[-1].movedim(1, -1) if state[-1].ndim == 4 else state[-1]
    logits = top.flatten(1) @ model.W_out.weight.T + model.W_out.bias
    loss = torch.nn.functional.cross_entropy(logits, Y)
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def errors(
    model: LayeredModel, expected: Gradients, estimator: str, beta: float = 0.03
) -> dict[str, float]:
    got = estimate_gradients(model, X, Y, estimator, beta, **SETTLED)
    assert got.keys() == expected.keys()
    return {name: float((got[name] - e).norm() / e.norm()) for name, e in expected.items()}


def counted(patch: pytest.MonkeyPatch, kind: type, *names: str) -> Counter[str]:
    """How often methods of a class are called from now on."""
    calls: Counter[str] = Counter()

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            calls[name] += 1
            return method(*given, **named)

        return call

    for name in names:
        patch.setattr(kind, name, counting(name, getattr(kind, name)))
    return calls


@functools.cache
def trained() -> tuple[ConvEqProp, EqPropTrainer, dict[str, list]]:
    # The recipe of the package in short: weight decay keeps the readout small, and with it the
    # error of a nudge.
    model = ConvEqProp(1, 16, 10, gamma=0.03, image_size=8, seed=0)
    settings = {
        "weight_decay": 0.3,
        "free_steps": 4,
        "nudged_steps": 4,
        "solver": "over_relaxed",
        "eval_tol": 1e-4,
    }
    trainer = EqPropTrainer(
        model, "centered", "adamw", 1e-2, schedule="one_cycle", progress=False, **settings
    )
    with pytest.MonkeyPatch.context() as patch:
        products = counted(patch, type(model.layers[0].linear), "up", "down")
        history = trainer.fit(DATA.train.batches(32, shuffle=True), 6, DATA.validation.batches(180))
    return model, trainer, {**history, "products": [products["up"] + products["down"]]}


def subject(name: str) -> LayeredModel:
    if name == "trained":
        twin = ConvEqProp(1, 16, 10, gamma=0.03, image_size=8).double()
        twin.load_state_dict(trained()[0].state_dict())
        return twin
    models = {
        "conv": lambda: ConvEqProp(1, 8, 10, image_size=8, seed=0),
        "conv3": lambda: ConvEqProp(1, [4, 6, 8], 10, gamma=0.1, image_size=8, seed=0),
        "deep": lambda: DeepEqProp(64, [32, 24, 16], 10, seed=0),
    }
    return models[name]().double()


@pytest.mark.parametrize("name", ["conv", "conv3", "deep", "trained"])
def test_every_parameter_s_gradient_is_right_and_the_error_falls_with_the_square_of_beta(
    name: str,
) -> None:
    model = subject(name)
    expected = unrolled(model)
    found = errors(model, expected, "centered")
    assert max(found.values()) <= 1e-3, found
    betas = (0.08, 0.04, 0.02)
    worst = [max(errors(model, expected, "centered", beta).values()) for beta in betas]
    assert float(np.polyfit(np.log(betas), np.log(worst), 1)[0]) == pytest.approx(2, abs=0.15)
    for estimator in ("response", "implicit"):
        assert max(errors(model, expected, estimator).values()) <= 1e-9
    for estimator in ("holomorphic", "asymmetric"):
        assert max(errors(model, expected, estimator).values()) <= 5e-3


def test_without_the_weights_of_the_energy_norms_are_wrong_and_cosines_are_not() -> None:
    model = subject("conv3")
    expected = unrolled(model)
    # A nudge acts on the top layer, whose weight is 1: only the readout of the contrast changes.
    model.kappa = (1.0, 1.0, 1.0)
    got = estimate_gradients(model, X, Y, "response", **SETTLED)["layers.0.weight"]
    want = expected["layers.0.weight"]
    assert float(torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), 0)) > 0.999999
    assert float(got.norm() / want.norm()) == pytest.approx(model.gamma**2, rel=1e-6)


def test_a_nudge_is_per_sample_and_never_divided_by_the_batch() -> None:
    model = subject("conv")
    one, both = (
        estimate_gradients(model, x, y, "centered", 0.1, **SETTLED)
        for x, y in ((X[:1], Y[:1]), (X[:1].repeat(8, 1, 1, 1), Y[:1].repeat(8)))
    )
    for name, value in one.items():
        torch.testing.assert_close(both[name], value, rtol=1e-9, atol=1e-12)


def test_digits_are_learned_within_a_budget_and_the_certificate_holds_at_every_epoch() -> None:
    _, _, history = trained()
    assert history["val_accuracy"][-1] >= 0.95
    assert max(history["norm"]) < 0.9
    assert max(history["residual"]) < 0.05
    # Products with a kernel or its transpose, validation included: 31 a batch (4 + 4 sweeps through
    # two layers).
    assert sum(history["products"]) <= 34 * 6 * -(-len(DATA.train) // 32)
    assert max(history["val_residual"]) <= 1e-4


@torch.no_grad()
def test_logits_do_not_depend_on_the_number_of_sweeps_after_training() -> None:
    model, x = trained()[0], DATA.test.x
    first = relax(model, x, 100, tol=1e-4)
    assert first.converged and first.steps <= 20
    base = model.readout(first.state)
    for factor in (2, 8):
        logits = model.readout(relax(model, x, factor * first.steps).state)
        assert float((logits - base).norm(dim=1).max() / base.norm(dim=1).min()) < 1e-3
        assert torch.equal(logits.argmax(1), base.argmax(1))

"""Nothing of a token reaches the ones before it: not a bit, in no state, however the loop stops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import relax
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.state import State
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.ball import rms
from tests.models.language.small import (
    ENERGETIC,
    MODELS,
    TWINS,
    VARIANTS,
    WHOLE,
    B,
    T,
    V,
    X,
    trained,
)


@torch.no_grad()
def paths(model: nn.Module, x: Tensor, tol: float | None) -> list[list[State]]:
    """Every state on the way, of every equilibrium there is."""
    steps = 12 if tol is None else 200
    if isinstance(model, EquilibriumModel):
        return [relax(model, x, steps, tol, trajectory=True).trajectory or []]
    found = []
    if isinstance(model, EqPropAttentionOnlyLM):
        h = model.embedding(x)
        for layer in model._layers():
            end = relax(layer.settle.model, rms(h), steps, tol, trajectory=True)
            found.append(end.trajectory or [])
            h = layer.after(h, end.state[0].unflatten(0, x.shape))
    return found


def other(x: Tensor, place: int, by: int = 1) -> Tensor:
    changed = x.clone()
    changed[:, place:] = (changed[:, place:] + by) % V
    return changed


def earlier(state: State, place: int) -> list[Tensor]:
    """The rows of the tokens before `place`."""
    return [block.unflatten(0, (B, T))[:, :place] for block in state]


def leak(one: list[list[State]], two: list[list[State]], place: int) -> float:
    """The largest change of an earlier token, in any state that both have and in the last ones."""
    worst = 0.0
    for first, second in zip(one, two, strict=True):
        pairs = [*zip(first, second, strict=False), (first[-1], second[-1])]
        for a, b in pairs:
            for s, t in zip(earlier(a, place), earlier(b, place), strict=True):
                worst = max(worst, float((s - t).abs().max()))
    return worst


def get(name: str, how: str) -> nn.Module:
    model = trained(name) if how == "trained" else MODELS[name]()
    return model.double() if how == "float64" else model


@pytest.mark.parametrize("how", ["start", "trained", "float64"])
@pytest.mark.parametrize("name", [*VARIANTS, *TWINS])
def test_no_earlier_state_or_logit_changes_by_a_bit(name: str, how: str) -> None:
    model = get(name, how)
    for tol in (None, 1e-2, 1e-3) if name in VARIANTS else ():
        before = paths(model, X, tol)
        for place in (T - 1, T // 2, 1):
            after = paths(model, other(X, place), tol)
            assert leak(before, after, place) == 0.0, (tol, place)
            assert leak(before, after, T) > 0.0  # and it is not blind
    with torch.no_grad():
        logits = model(X)
        for place in (T - 1, T // 2, 1):
            changed = model(other(X, place))
            assert torch.equal(changed[:, :place], logits[:, :place])
            assert not torch.equal(changed[:, place:], logits[:, place:])


def leaks(model: EquilibriumModel, tol: float, solver: str = "picard") -> float:
    """The worst one of several other endings, in the last state."""
    before = relax(model, X, 200, tol, solver).state
    return max(
        leak([[before]], [[relax(model, other(X, place, by), 200, tol, solver).state]], place)
        for by in (1, 4, 8)
        for place in (T - 1, 1)
    )


@pytest.mark.parametrize("name", WHOLE)
def test_a_stop_that_waits_for_the_worst_token_would_leak(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = get(name, "float64")
    assert isinstance(model, EquilibriumModel)
    tols = [10 ** (-k / 4) for k in range(6, 16)]
    assert max(leaks(model, tol) for tol in tols) == 0.0
    monkeypatch.setattr(type(model), "tokens", lambda self, x: None)
    assert max(leaks(model, tol) for tol in tols) > 1e-6


@pytest.mark.parametrize(
    ("name", "solver"),
    [*((name, "damped") for name in WHOLE), *((name, "chebyshev") for name in ENERGETIC)],
)
def test_no_solver_leaks(name: str, solver: str) -> None:
    model = get(name, "float64")
    assert isinstance(model, EquilibriumModel)
    assert max(leaks(model, tol, solver) for tol in (1e-2, 1e-3, 1e-4)) == 0.0


@pytest.mark.parametrize("name", VARIANTS)
def test_under_a_tolerance_the_other_samples_do_not_matter(name: str) -> None:
    model = get(name, "float64")
    company = X.clone()
    company[1:] = (company[1:] * 3 + 5) % V
    assert not torch.equal(company[1:], X[1:])
    for tol in (1e-2, 1e-4):
        for first, second in zip(paths(model, X, tol), paths(model, company, tol), strict=True):
            for a, b in [*zip(first, second, strict=False), (first[-1], second[-1])]:
                assert all(torch.equal(s[:T], t[:T]) for s, t in zip(a, b, strict=True))
        alone, together = (paths(model, x, tol) for x in (X[:1], X))
        for first, second in zip(alone, together, strict=True):
            for s, t in zip(first[-1], second[-1], strict=True):
                assert torch.allclose(s, t[:T], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_shorter_sequence_is_the_beginning_of_a_longer_one(name: str) -> None:
    model = get(name, "float64")
    with torch.no_grad():
        whole = model(X)
        for length in (1, 4):
            part = model(X[:, :length])
            assert torch.allclose(part, whole[:, :length], rtol=0, atol=1e-12)

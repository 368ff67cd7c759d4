"""The stop that does not look ahead: who is held when, that what is held stays as it is, and that
what is said of the end is true of all rows.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqprop_lab import relax
from eqprop_lab.equilibrium.causal import CausalHold
from eqprop_lab.equilibrium.relaxation import movement
from eqprop_lab.equilibrium.solvers import rows
from eqprop_lab.equilibrium.state import State
from tests.models.language.small import DIRECTED, WHOLE, B, T, X, equilibrium, trained


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_a_row_is_held_when_it_and_all_before_it_in_its_sample_have_settled() -> None:
    hold = CausalHold(3, 0.1)
    hold.watch(values(0.2, 0.0, 0.0, 0.1, 0.3, 0.0), torch.ones(6).double())
    assert hold.held is not None
    assert hold.held.tolist() == [False, False, False, True, False, False]
    hold.watch(values(0.1, 0.2, 0.0, 9.0, 0.0, 0.4), torch.ones(6).double())
    assert hold.held.tolist() == [True, False, False, True, True, False]
    hold.watch(values(0.0, 0.1, 0.1, 0.0, 0.0, 0.1), torch.ones(6).double())
    assert hold.held.all()


def test_what_is_said_of_a_held_row_is_its_own_last_step() -> None:
    hold = CausalHold(2, 0.1)
    hold.watch(values(0.05, 0.9), values(5, 90))
    assert [part.tolist() for part in hold.watch(values(0, 0.3), values(0, 30))] == [
        [0.05, 0.3],
        [5, 30],
    ]
    assert hold.pace() == [(1, 90.0), (2, 30.0)]  # of those that still moved
    assert hold.share() == pytest.approx((5**2 + 30**2) ** 0.5 / 30)
    hold.watch(values(0, 0.04), values(0, 4))
    assert hold.held is not None and hold.held.all()
    assert hold.share() == pytest.approx((5**2 + 4**2) ** 0.5 / 4)


def test_a_held_row_keeps_its_bits_in_blocks_of_any_shape() -> None:
    hold = CausalHold(2, 0.1)
    state = torch.randn(4, 3), torch.randn(4, 2, 5), torch.randn(4)
    image = tuple(torch.randn_like(block) for block in state)
    assert hold.keep(image, state) is image
    hold.watch(values(0.0, 0.0, 0.0, 1.0), torch.ones(4).double())
    for kept, old, new in zip(hold.keep(image, state), state, image, strict=True):
        assert torch.equal(kept[:3], old[:3]) and torch.equal(kept[3], new[3])


@pytest.mark.parametrize("name", WHOLE)
def test_every_token_stops_at_the_step_that_the_rule_says(name: str) -> None:
    tol = 1e-3
    end = relax(equilibrium(name), X, 400, tol, trajectory=True)
    assert end.trajectory is not None
    held, stops = torch.zeros(B * T, dtype=torch.bool), torch.zeros(B * T, dtype=torch.int64)
    for step, (old, new) in enumerate(zip(end.trajectory, end.trajectory[1:], strict=False), 1):
        same = [(a == b).flatten(1).all(1) for a, b in zip(old, new, strict=True)]
        still = torch.stack(same).all(0)
        assert still[held].all() and not still[~held].any(), f"step {step}"
        settled = held | (movement(new, old)[0] <= tol)
        now = settled.reshape(B, T).cummin(1).values.flatten()
        stops[now & ~held] = step
        held = now
    assert held.all() and end.steps == int(stops.max()) and int(stops.min()) < end.steps
    assert (stops.reshape(B, T).diff(dim=1) >= 0).all()


def far(end: State, fixed: State) -> float:
    """||s - s*|| / ||s||, worst block."""
    pairs = zip(end, fixed, strict=True)
    return max(float((s - f).norm() / s.norm()) for s, f in pairs)


@pytest.mark.parametrize("after", ["start", "training"])
@pytest.mark.parametrize("name", WHOLE)
def test_the_expected_error_is_about_the_true_one_with_tokens_held_at_different_steps(
    name: str, after: str
) -> None:
    model = equilibrium(name) if after == "start" else trained(name, double=True)
    fixed = relax(model, X, 400, 1e-13).state
    for tol in (1e-2, 1e-4, 1e-6):
        for solver in ("picard", "damped"):
            end = relax(model, X, 400, tol, solver)
            assert 0.1 < end.error / far(end.state, fixed) < 10, (tol, solver)
            assert end.residual <= tol
            # another step moves what was held by about the tolerance too
            assert relax(model, X, 1, start=end.state).residual <= 2 * tol


@pytest.mark.parametrize("name", WHOLE)
def test_the_error_bound_covers_the_rows_that_were_held_before_the_end(name: str) -> None:
    model = equilibrium(name)
    fixed = relax(model, X, 400, 1e-13).state
    for tol in (1e-2, 1e-3, 1e-4, 1e-6):
        end = relax(model, X, 400, tol)
        away = rows(tuple(s - f for s, f in zip(end.state, fixed, strict=True)))
        assert float(away.max()) <= end.error_bound
    assert torch.isinf(torch.tensor(end.error_bound)) == (name in DIRECTED)


@pytest.mark.parametrize("name", DIRECTED)
def test_the_residual_is_of_the_worst_token_and_late_tokens_settle_last(name: str) -> None:
    model = equilibrium(name)
    end = relax(model, X, 6, trajectory=True)
    assert end.trajectory is not None
    last, before = end.trajectory[-1], end.trajectory[-2]
    moved = [
        sum(float((a[i] - b[i]).square().sum()) for a, b in zip(last, before, strict=True))
        / sum(float(a[i].square().sum()) for a in last)
        for i in range(B * T)
    ]
    assert end.residual == pytest.approx(max(moved) ** 0.5, rel=1e-12)
    assert end.residual > 1.3 * (sum(moved) / len(moved)) ** 0.5
    per_token = torch.tensor(moved).reshape(B, T).mean(0)
    assert float(per_token[-3:].mean()) > 2 * float(per_token[0])

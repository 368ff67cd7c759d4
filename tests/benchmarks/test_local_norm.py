"""Bounds by what two units know: the norm holds for any matrix, and the gradients are those of what
is trained.
"""

from __future__ import annotations

import pytest
import torch

from eqprop_lab import LoopedMLP, build_dataset, check_gradient, estimate_gradients
from eqprop_lab.equilibrium.norms import exact_norm
from tests.benchmarks import local_norm
from tests.benchmarks.published import RESULTS, read

G = torch.Generator().manual_seed(0)
NOISE = torch.randn(24, 24, dtype=torch.float64, generator=G)
MATRICES = {
    "random": NOISE + NOISE.T,
    "tiny": 1e-9 * (NOISE + NOISE.T),
    "huge": 1e9 * (NOISE + NOISE.T),
    "ones": torch.ones(24, 24, dtype=torch.float64),
    "negative": -torch.ones(24, 24, dtype=torch.float64),
    "rank one": NOISE[:, :1] @ NOISE[:, :1].T,
    "one pair": torch.zeros(24, 24, dtype=torch.float64).index_put(
        (torch.tensor([0, 1]), torch.tensor([1, 0])), 7 * NOISE[0, 0]
    ),
    "star": torch.zeros(24, 24, dtype=torch.float64)
    .index_fill(0, torch.tensor([3]), 5.0)
    .index_fill(1, torch.tensor([3]), 5.0),
    "zero": torch.zeros(24, 24, dtype=torch.float64),
}


@pytest.mark.parametrize("cap", [0.3, 0.9])
@pytest.mark.parametrize("name", MATRICES)
def test_the_bound_by_units_holds_for_any_matrix(name: str, cap: float) -> None:
    weight = local_norm.unit_bounded(MATRICES[name], cap)
    torch.testing.assert_close(weight, weight.T, rtol=1e-14, atol=0)
    assert exact_norm(weight) <= cap * (1 + 1e-14)


def test_an_entry_depends_on_its_two_units_only() -> None:
    changed = MATRICES["random"].clone()
    changed[5, 6] = changed[6, 5] = 100.0
    before, after = (local_norm.unit_bounded(m, 0.9) for m in (MATRICES["random"], changed))
    others = [i for i in range(24) if i not in (5, 6)]
    assert before[others][:, others].equal(after[others][:, others])


def test_the_network_bounded_by_units_has_the_right_gradient() -> None:
    data = build_dataset("digits").train
    model = local_norm.UnitBounded(64, 16, 10, seed=0).double()
    with torch.no_grad():
        model.W_rec.get_parameter("parametrizations.weight.original").mul_(5)
    table = check_gradient(
        model, data.x[:16].double(), data.y[:16], "centered", 0.01, free_steps=200, nudged_steps=200
    )
    assert table.worst < 1e-4 and 0.1 < model.contraction_bound() <= 0.9


def test_holding_sigma_leaves_out_one_direction_only() -> None:
    data = build_dataset("digits").train
    whole, held = (kind(64, 16, 10, seed=0).double() for kind in (LoopedMLP, local_norm.SigmaHeld))
    settings = {"free_steps": 200, "nudged_steps": 200}
    found = [
        estimate_gradients(m, data.x[:16].double(), data.y[:16], "centered", 0.01, **settings)
        for m in (whole, held)
    ]
    gap = {name: found[0][name] - found[1][name] for name in found[0]}
    assert all(float(g.abs().max()) == 0 for name, g in gap.items() if name != local_norm.W_REC)
    values, vectors = torch.linalg.eigh(whole.W_rec.weight.detach())
    top = vectors[:, values.abs().argmax()]
    missing = gap[local_norm.W_REC]
    assert torch.linalg.matrix_norm(missing) > 1e-3 * torch.linalg.matrix_norm(
        found[0][local_norm.W_REC]
    )
    along = (top @ missing @ top) * torch.outer(top, top)
    assert torch.linalg.matrix_norm(missing - along) < 1e-6 * torch.linalg.matrix_norm(missing)


def test_the_stored_comparison_is_complete() -> None:
    result = read(RESULTS / "digits_local_norm.json")
    assert result is not None
    made = {(row["way"], row["lr"], row["seed"]) for row in result["runs"]}
    assert made == {
        (way, lr, seed) for way in local_norm.WAYS for lr in local_norm.RATES for seed in (0, 1, 2)
    }
    assert len(made) == len(result["runs"])
    assert max(row["norm"] for row in result["runs"] if row["way"] in ("bounded", "units")) < 0.9

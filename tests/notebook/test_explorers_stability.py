"""The stability map: what it shows is the package's relaxation, and the certificate is never
contradicted.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqprop_lab.notebook.explorers import stability_map
from eqprop_lab.notebook.explorers.stability_map import (
    FATES,
    GAINS,
    MOVING,
    ONE,
    RHOS,
    SEVERAL,
    WEIGHTS,
    StabilityMap,
    signed_network,
    stability_grid,
)


@pytest.fixture(scope="module")
def explorer() -> StabilityMap:
    return StabilityMap()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_network_has_the_norm_and_the_signs_it_is_asked_for(weights: str) -> None:
    model = signed_network(weights, 1.3)
    values = torch.linalg.eigvalsh(model.W_rec.weight.detach())
    assert model.contraction_bound() == pytest.approx(1.3, abs=1e-12)
    assert (bool((values > 1e-3).any()), bool((values < -1e-3).any())) == {
        "mixed": (True, True),
        "excitatory": (True, False),
        "inhibitory": (False, True),
    }[weights]


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(
        ValueError, match="weights must be one of mixed, excitatory, inhibitory, got 'odd'"
    ):
        signed_network("odd", 1.0)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_below_norm_one_all_copies_meet_in_the_certified_number_of_steps(weights: str) -> None:
    fates, steps = stability_grid(weights)
    assert fates.shape == steps.shape == (len(GAINS), len(RHOS))
    inside = RHOS < 1
    assert (fates[:, inside] == ONE).all()
    start = (
        torch.linalg.vector_norm(stability_map._two_starts()[0]).item()
        * 2
        / stability_map.HIDDEN**0.5
    )
    certified = np.ceil(np.log(stability_map.TOLERANCE / start) / np.log(RHOS[inside]))
    assert (steps[:, inside] <= certified).all()


def test_beyond_norm_one_each_kind_fails_in_its_own_way() -> None:
    beyond = RHOS > 1
    counts = {
        w: [int((stability_grid(w)[0][:, beyond] == fate).sum()) for fate in range(len(FATES))]
        for w in WEIGHTS
    }
    assert counts["excitatory"][SEVERAL] > 10 * counts["excitatory"][MOVING]
    assert (
        counts["inhibitory"][MOVING] > counts["inhibitory"][ONE]
        and counts["inhibitory"][SEVERAL] == 0
    )
    assert counts["mixed"][ONE] > 0 and counts["mixed"][MOVING] > 0


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("row", "column"), [(0, 3), (5, 9), (20, 12), (24, 18)])
def test_the_stored_map_is_what_the_point_measures(weights: str, row: int, column: int) -> None:
    fates, steps = stability_grid(weights)
    data = StabilityMap().compute(weights=weights, rho=float(RHOS[column]), gain=float(GAINS[row]))
    assert data.fate == fates[row, column]
    if data.fate == ONE:
        assert data.steps == steps[row, column]
        assert data.apart[data.steps] <= stability_map.TOLERANCE < data.apart[data.steps - 1]


def test_the_sentence_says_fate_and_promise(explorer: StabilityMap) -> None:
    explorer.reset()
    assert (
        f"meet after {explorer.data.steps} steps" in explorer.alt
        and "promises a factor of 0.90" in explorer.alt
    )
    explorer.set(rho=2.5, gain=0.0, weights="excitatory")
    assert "reach two different ends" in explorer.alt and "nothing is certified" in explorer.alt
    assert explorer.data.radius < 1
    explorer.set(weights="inhibitory")
    assert "have not settled after 200 steps" in explorer.alt
    explorer.reset()


@pytest.mark.parametrize("change", [{"rho": 0.5}, {"gain": 3.0}, {"weights": "inhibitory"}])
def test_every_control_changes_the_picture(
    explorer: StabilityMap, change: dict[str, object]
) -> None:
    explorer.reset()
    png, alt = explorer.png, explorer.alt
    explorer.set(**change)
    assert explorer.png != png and explorer.alt != alt and explorer.errors == []

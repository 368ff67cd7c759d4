"""Thresholds by their formulas, and bits in their order."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch

from eqprop_lab.lut import REGISTRY
from eqprop_lab.lut.encoders import Encoder

X = torch.tensor([[0.0, -3.0], [1.0, 5.0], [4.0, 5.0], [8.0, 1.0]])
KINDS = [name for name in REGISTRY.names("encoder") if name.endswith("thermometer")]


def encoder(kind: str, **options: Any) -> Encoder:
    made: Encoder = REGISTRY.get("encoder", kind)(**options)
    return made


def test_equal_distances() -> None:
    found = encoder("thermometer", num_bits=3).fit(X).thresholds
    torch.testing.assert_close(found, torch.tensor([[2.0, 4.0, 6.0], [-1.0, 1.0, 3.0]]))


def test_equal_parts_of_a_normal_distribution() -> None:
    found = encoder("gaussian_thermometer", num_bits=3).fit(X).thresholds
    for feature in range(2):
        column = X[:, feature].tolist()
        normal = statistics.NormalDist(statistics.mean(column), statistics.stdev(column))
        wanted = torch.tensor([normal.inv_cdf(part / 4) for part in (1, 2, 3)])
        torch.testing.assert_close(found[feature], wanted)


def test_equal_parts_of_what_was_seen() -> None:
    found = encoder("distributive_thermometer", num_bits=3).fit(X).thresholds
    assert found.tolist() == [[1.0, 4.0, 8.0], [1.0, 5.0, 5.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_bits_stand_feature_by_feature_the_lowest_threshold_first(kind: str) -> None:
    made = encoder(kind, num_bits=3).fit(X)
    bits = made.encode(X)
    wanted = [
        [float(X[n, f] > made.thresholds[f, t]) for f in range(2) for t in range(3)]
        for n in range(4)
    ]
    assert bits.tolist() == wanted and 0 < sum(map(sum, wanted)) < 24
    apart = encoder(kind, num_bits=3, flatten=False).fit(X)
    assert torch.equal(apart.encode(X).flatten(1), bits)
    assert bool((bits.view(4, 2, 3).diff(dim=2) <= 0).all())  # a thermometer


def test_one_set_of_thresholds_for_all_features() -> None:
    made = encoder("thermometer", num_bits=1, feature_wise=False).fit(X)
    assert made.thresholds.tolist() == [[2.5]]
    assert made.encode(X).tolist() == [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]


def test_a_value_at_a_threshold_is_not_above_it() -> None:
    made = encoder("thermometer", num_bits=1).fit(torch.tensor([[0.0], [1.0]]))
    assert made.encode(torch.tensor([[0.5], [0.51]])).tolist() == [[0.0], [1.0]]


def test_clipped_inputs_count_as_the_ends_of_what_was_seen() -> None:
    data = torch.tensor([[0.0], [0.0], [0.0], [1.0]])  # a normal distribution goes further
    plain, clipped = (
        encoder("gaussian_thermometer", num_bits=9, clip_inputs=clip).fit(data)
        for clip in (False, True)
    )
    outside = torch.tensor([[-9.0], [9.0]])
    assert plain.encode(outside).sum(1).tolist() == [0.0, 9.0]
    ends = clipped.encode(torch.tensor([[0.0], [1.0]]))
    assert torch.equal(clipped.encode(outside), ends)
    assert 0 < float(ends[0].sum()) < 9


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_feature_has_bits_of_0(kind: str) -> None:
    data = torch.full((5, 1), 0.3)
    assert float(encoder(kind).fit(data).encode(data).sum()) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "data",
    [
        torch.zeros(0, 2),
        torch.zeros(3),
        torch.zeros(3, 2, dtype=torch.int64),
        torch.tensor([[math.nan]]),
        torch.tensor([[math.inf]]),
        [[1.0]],
    ],
)
def test_data_that_cannot_be_fitted(kind: str, data: Any) -> None:
    with pytest.raises(ValueError, match="data"):
        encoder(kind).fit(data)


def test_encoding_before_fitting_and_other_features() -> None:
    made = encoder("thermometer")
    with pytest.raises(RuntimeError, match="fitted"):
        made.encode(X)
    made.fit(X)
    with pytest.raises(ValueError, match="shape"):
        made.encode(X[:, :1])
    with pytest.raises(ValueError, match="2 features"):
        made.fit(X[:, :1])


def test_many_bits_warn() -> None:
    with pytest.warns(UserWarning, match="num_bits=33"):
        encoder("thermometer", num_bits=33)


def test_thresholds_travel_with_the_state() -> None:
    made, other = encoder("thermometer").fit(X), encoder("thermometer")
    other.build(2)
    with pytest.raises(RuntimeError, match="fitted"):
        other.encode(X)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.encode(X), made.encode(X))

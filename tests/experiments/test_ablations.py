"""Ablation studies: the grid of the document, what is trained, Holm's correction against hand
counts.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from eqprop_lab import DenseNet3, EqPropTrainer, ResNetCifar, ablation_study, build_dataset
from eqprop_lab.experiments.paired import holm


@ablation_study
def depth_ablation() -> dict[str, Any]:
    return {"depths": [20, 40, 60, 80], "other_params": {"growth_rate": 12}}


def test_the_study_of_the_document_is_its_grid() -> None:
    assert depth_ablation() == [{"depths": d, "growth_rate": 12} for d in (20, 40, 60, 80)]
    assert depth_ablation(["depth", "growth_rate"])[3] == {"depth": 80, "growth_rate": 12}
    assert depth_ablation.name == "depth_ablation"


def test_depths_that_a_densenet_does_not_have_are_named_when_it_is_built() -> None:
    def train(depth: int, growth_rate: int, seed: int) -> float:
        return float(DenseNet3(depth, 10, growth_rate, seed=seed).num_features)

    with pytest.raises(ValueError, match="depth must be 6n . 4 with bottleneck .* got 20"):
        depth_ablation.run(train)


def noisy(a: int, b: str, seed: int) -> float:
    wobble = np.random.default_rng([a, len(b), seed]).normal()
    return 2.0 * a + 0.1 * float(wobble)


@ablation_study
def two_factors() -> dict[str, Any]:
    return {"a": [1, 2, 3], "b": ["x", "yy"]}


def test_differences_are_pairs_with_holms_correction() -> None:
    found = two_factors.run(noisy, seeds=6)
    assert len(found.rows) == 6 * 6 and len(found.effects()) == 5
    first = found.values(found.grid[0])
    raw = [float(ttest_rel(found.values(p), first).pvalue) for p in found.grid[1:]]
    order = np.argsort(raw)
    holm, largest = np.empty(5), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (5 - rank) * raw[index]))
        holm[index] = largest
    np.testing.assert_allclose([e.p for e in found.effects()], holm, rtol=1e-9)
    for index, effect in enumerate(found.effects()):
        level = 1 - 0.05 / (5 - int(np.argsort(order)[index]))
        interval = ttest_rel(found.values(effect.point), first).confidence_interval(level)
        assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    assert "change [Holm]" in found.table() and "yy" in found.table()


def test_the_figure_shows_every_change_with_its_interval() -> None:
    found = two_factors.run(noisy, seeds=5)
    (axes,) = found.figure().axes
    effects = found.effects()
    bars, dots = axes.lines[1::2], axes.lines[2::2]
    drawn = [[*bar.get_xdata(), *dot.get_xdata()] for bar, dot in zip(bars, dots, strict=True)]
    assert drawn == [[e.low, e.high, e.difference] for e in effects]
    filled = [dot.get_fillstyle() == "full" for dot in dots]
    assert filled == [e.low > 0 or e.high < 0 for e in effects] and True in filled
    assert [t.get_text() for t in axes.get_yticklabels()][-1] == "a 3, b yy"
    assert axes.get_xlabel() == "change against a 1, b x"
    said = found.describe()
    assert f"{sum(filled)} of the intervals exclude zero" in said and "highest a 3" in said


def test_holm_of_p_values_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0] and holm([]) == []
    assert np.isnan(holm([np.nan, 0.01])).tolist() == [True, False]


def test_what_is_stored_is_not_trained_again(tmp_path: Path) -> None:
    seen: list[tuple[int, str, int]] = []

    def train(a: int, b: str, seed: int) -> float:
        seen.append((a, b, seed))
        if len(seen) == 9:
            raise KeyboardInterrupt
        return noisy(a, b, seed)

    path = tmp_path / "study.json"
    with pytest.raises(KeyboardInterrupt):
        two_factors.run(train, 2, path)
    found = two_factors.run(train, 2, path)
    assert len(seen) == 13 and len(set(seen)) == 12
    assert found.rows == two_factors.run(noisy, 2).rows
    rows = list(csv.DictReader(found.to_csv(tmp_path / "study.csv").read_text().splitlines()))
    assert len(rows) == 12 and float(rows[5]["value"]) == found.rows[5]["value"]

    @ablation_study
    def two_factors_more() -> dict[str, Any]:
        return {"a": [1, 2], "b": ["x"]}

    with pytest.raises(ValueError, match="path holds the study 'two_factors' with another grid"):
        two_factors_more.run(noisy, 2, path)


def test_settings_that_json_spells_otherwise_are_found_again(tmp_path: Path) -> None:
    @ablation_study
    def widths() -> dict[str, Any]:
        return {"dims": [(8, 4), (2,)]}

    def train(dims: tuple[int, ...], seed: int) -> float:
        return sum(dims) + 0.1 * seed

    first = widths.run(train, 2, tmp_path / "study.json")
    assert widths.run(train, 2, tmp_path / "study.json") == first
    assert first.values({"dims": (2,)}) == [2.0, 2.1]


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: {"a": []}, "the factor 'a' has no values"),
    (lambda: {"other_params": {"a": 1}}, "it names no list"),
    (lambda: {"a": [1], "other_params": 3}, "other_params must be a mapping, got 3"),
    (lambda: {"a": [1], "other_params": {"a": 2}}, "names 'a' twice"),
    (lambda: 3, "must return a mapping, got 3"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED, ids=[m[:24] for _, m in REFUSED])
def test_what_is_no_grid_is_refused(function: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ablation_study(function)()


def test_what_cannot_be_trained_is_refused_before_any_training() -> None:
    with pytest.raises(TypeError, match="ablation_study takes a function without arguments"):
        ablation_study(noisy)
    with pytest.raises(ValueError, match="it has no 'b', only a, seed"):
        two_factors.run(lambda a, seed: 1.0)
    with pytest.raises(ValueError, match="train must give a finite value, got nan"):
        two_factors.run(lambda a, b, seed: float("nan"))
    with pytest.raises(ValueError, match="point must be one of the grid"):
        two_factors.run(noisy, 2).values({"a": 9, "b": "x"})


def test_a_study_of_networks() -> None:
    data = build_dataset("digits")
    rows = data.train.y < 2

    @ablation_study
    def widths() -> dict[str, Any]:
        return {"widths": [2, 4]}

    def train(width: int, seed: int) -> float:
        model = ResNetCifar(8, 2, 1, width, seed=seed)
        trainer = EqPropTrainer(model, "autograd", lr=0.03)
        trainer.fit([(data.train.x[rows][:32], data.train.y[rows][:32])], 3)
        return float(trainer.history["train_loss"][-1])

    found = widths.run(train, seeds=2)
    assert [p["width"] for p in found.grid] == [2, 4] and all(r["value"] > 0 for r in found.rows)

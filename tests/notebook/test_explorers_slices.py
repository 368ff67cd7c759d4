"""The explorer of ablations: what it draws are the study's own means, at the chosen levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eqprop_lab import ablation_study
from eqprop_lab.experiments.ablations import Ablation
from eqprop_lab.notebook.explorers.ablation_slices import AblationSlices
from eqprop_lab.notebook.style import new_figure


@ablation_study
def three() -> dict[str, Any]:
    return {"a": [1, 2, 3], "b": ["x", "yy"], "c": [0.1, 0.2], "other_params": {"d": 5}}


def value(a: int, b: str, c: float, d: int, seed: int) -> float:
    return a * len(b) - 10 * c + d + float(np.random.default_rng([a, len(b), seed]).normal())


@pytest.fixture(scope="module")
def studies() -> dict[str, Ablation]:
    return {"value": three.run(value, 4), "loss": three.run(lambda **p: -value(**p), 4)}


def test_a_slice_is_the_studys_own(studies: dict[str, Ablation]) -> None:
    slices = AblationSlices(studies, factor="a", at_b="yy", at_c=0.2)
    data, study = slices.data, studies["value"]
    for row, a in enumerate((1, 2, 3)):
        point = {"a": a, "b": "yy", "c": 0.2, "d": 5}
        assert data.seeds[row].tolist() == study.values(point)
        assert tuple(data.ends[row]) == (study.mean(point).low, study.mean(point).high)
        assert f"{a}: {study.mean(point).mean:.3g}" in slices.alt
    assert data.others.shape == (3, 3) and "at b yy, c 0.2" in slices.alt
    slices.set(metric="loss")
    np.testing.assert_allclose(slices.data.seeds, -data.seeds)
    assert slices.data.limits[0] == -data.limits[1]


def test_another_factor_is_drawn_at_its_own_levels(studies: dict[str, Ablation]) -> None:
    slices = AblationSlices(studies)
    figure = new_figure(*slices.size)
    (show,) = slices.build(figure)
    (axes,) = figure.axes
    for factor, levels in (("a", ["1", "2", "3"]), ("b", ["x", "yy"]), ("a", ["1", "2", "3"])):
        slices.set(factor=factor)
        show(slices.data)
        assert [t.get_text() for t in axes.get_xticklabels()] == levels
        mean = next(li for li in axes.lines if li.get_label() == "mean, 95 %")
        assert mean.get_ydata().tolist() == slices.data.seeds.mean(1).tolist()
        drawn = [li for li in axes.lines if len(li.get_xdata()) == 2 and li.get_linewidth() == 2.5]
        assert len(drawn) == len(levels)
    assert not slices.errors


def test_what_has_no_slices_is_refused(studies: dict[str, Ablation]) -> None:
    @ablation_study
    def one() -> dict[str, Any]:
        return {"a": [1, 2]}

    single = one.run(lambda a, seed: float(a), 2)
    for given, message in (({}, "none"), ({"x": single}, "two factors")):
        with pytest.raises(ValueError, match=message):
            AblationSlices(given)
    with pytest.raises(ValueError, match="one grid"):
        AblationSlices(studies | {"x": single})

"""Comparisons on equal terms: sizes, tuning, budgets, intervals, and what is made again."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from eqprop_lab import EqPropTrainer, build_dataset
from eqprop_lab.experiments import compare_models as comparing
from eqprop_lab.experiments.compare_models import compare_models
from eqprop_lab.experiments.contenders import contender, scaled, size
from eqprop_lab.experiments.paired import mean_of, paired

DIGITS = build_dataset("digits")
SMALL: dict[str, Any] = {"epochs": 1, "seeds": 2, "learning_rates": (3e-3, 1e-2)}
PAIR = {
    "fa": {
        "model": "BioplausibleModel",
        "params": {"algorithm": "feedback_alignment", "hidden_dims": [16, 8]},
    },
    "mlp": {"model": "BackpropMLP", "params": {"hidden_dim": 9}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, comparing.ModelComparison]:
    path = tmp_path_factory.mktemp("comparison") / "pair.json"
    metrics = ("accuracy", "loss", "cpu_seconds", "alignment")
    return path, compare_models(PAIR, "digits", metrics, seconds=0.4, path=path, **SMALL)


def test_rates_are_chosen_on_validation_and_the_test_is_scored_after(
    made: tuple[Path, comparing.ModelComparison],
) -> None:
    path, found = made
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    tuned = [row for row in rows if row["tuning"]]
    assert len(tuned) == 4 and {row["seed"] for row in tuned} == {1000}
    for name in PAIR:
        own = {r["learning_rate"]: r["validation"] for r in tuned if r["model"] == name}
        best = min(own, key=lambda lr: (-own[lr]["accuracy"], own[lr]["loss"]))
        scored = [row for row in found.rows if row["model"] == name]
        assert [row["learning_rate"] for row in scored] == [best] * 2
        assert [row["seed"] for row in scored] == [0, 1]
    row = next(row for row in found.rows if row["model"] == "mlp")
    entry = scaled(contender("mlp", PAIR["mlp"], DIGITS), found.plan.parameters)
    trainer = EqPropTrainer(entry.build(0), "autograd", lr=row["learning_rate"], progress=False)
    trainer.fit(DIGITS.train.batches(32, shuffle=True, seed=0), 1)
    again = trainer.evaluate(DIGITS.test.batches(1000))
    assert row["epochs"]["accuracy"] == pytest.approx(again["accuracy"], rel=1e-4)


def test_both_budgets_are_kept(made: tuple[Path, comparing.ModelComparison]) -> None:
    _, found = made
    for row in found.rows:
        assert row["trained"]["epochs"] == 1
        assert row["seconds"]["cpu_seconds"] < 0.6 or row["trained"]["seconds"] == 1
        assert row["trained"]["seconds"] >= 1
    assert found.mean("mlp", "alignment").mean == 1.0
    assert -0.5 < found.mean("fa", "alignment").mean < 0.9
    assert math.isfinite(found.paired("fa", "mlp", "loss", "seconds").difference.mean)


def test_models_have_equally_many_parameters(
    made: tuple[Path, comparing.ModelComparison],
) -> None:
    _, found = made
    wanted = 64 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10
    assert found.plan.parameters == wanted
    for row in found.rows:
        assert abs(row["parameters"] / wanted - 1) < 0.05
    every = [contender(name, None, DIGITS) for name in ("backprop", "leq_fa", "ada_fa", "eq_align")]
    sizes = [size(scaled(entry, 6000).build(0)) for entry in every]
    assert max(sizes) / min(sizes) < 1.05
    # feedback weights are learned, but no logit depends on them
    assert sizes[0] == sizes[2]


def test_networks_of_every_kind_take_part() -> None:
    given: dict[str, dict[str, Any]] = {
        "LUTNetwork": {"hidden_dim": [200, 100], "node_input_dim": 4},
        "SmallCNN": {"channels": [8, 16]},
        "ResNetCifar": {"depth": 8, "width": 4},
        "DenseNet3": {"depth": 7, "growth_rate": 4, "bottleneck": False},
        "LoopedMLP": {"hidden_dim": 32},
    }
    for name, params in given.items():
        entry = scaled(contender(name, {"model": name, "params": params}, DIGITS), 5000)
        model = entry.build(0)
        assert abs(size(model) / 5000 - 1) < 0.2, name
        assert entry.source(model) == (None if name == "LoopedMLP" else "autograd")
        assert model(DIGITS.train.x[:3]).shape == (3, 10)
    pair = {
        "tables": {"model": "LUTNetwork", "params": {"hidden_dim": [100, 50]}},
        "cnn": {"model": "SmallCNN", "params": {"channels": [4, 8]}},
    }
    few: dict[str, Any] = {"epochs": 1, "seeds": 1, "learning_rates": (3e-2,)}
    found = compare_models(pair, "digits", ["accuracy"], **few)
    assert found.mean("tables").mean > 0.15 and found.mean("cnn").mean > 0.15


def test_what_is_stored_is_not_made_again_and_what_is_missing_is(
    made: tuple[Path, comparing.ModelComparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = made
    jobs: list[comparing.Job] = []
    real = comparing.train

    def counted(job: comparing.Job, plan: comparing.Plan) -> comparing.Row:
        jobs.append(job)
        return real(job, plan)

    monkeypatch.setattr(comparing, "train", counted)
    how: dict[str, Any] = {"seconds": 0.4, "path": path}
    metrics = first.plan.metrics
    assert compare_models(PAIR, "digits", metrics, **how, **SMALL).rows == first.rows
    assert not jobs
    content = json.loads(path.read_text(encoding="utf-8"))
    content["rows"].pop()
    path.write_text(json.dumps(content), encoding="utf-8")
    again = compare_models(PAIR, "digits", metrics, **how, **SMALL)
    assert [(job.name, job.seed, job.tuning) for job in jobs] == [("mlp", 1, False)]
    assert again.values("mlp") == first.values("mlp")
    with pytest.raises(ValueError, match="a comparison with another epochs"):
        compare_models(PAIR, "digits", metrics, **how, **{**SMALL, "epochs": 2})
    other = {**PAIR, "mlp": {**PAIR["mlp"], "gradient": "autograd"}}
    with pytest.raises(ValueError, match=r"with another models\['mlp'\]"):
        compare_models(other, "digits", metrics, **how, **SMALL)


def test_the_table_is_tidy(made: tuple[Path, comparing.ModelComparison], tmp_path: Path) -> None:
    _, found = made
    file = found.to_csv(tmp_path / "pair.csv")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    # models x seeds x budgets x metrics
    assert len(rows) == 2 * 2 * 2 * 4
    assert {row["torch"] for row in rows} == {torch.__version__.partition("+")[0]}
    for row in rows:
        values = found.values(row["model"], row["metric"], row["budget"])
        assert float(row["value"]) == values[int(row["seed"])]
    assert found.table().splitlines()[0].startswith("model  accuracy, 1 epochs")


def test_two_processes_make_the_same(
    made: tuple[Path, comparing.ModelComparison], tmp_path: Path
) -> None:
    _, first = made
    path = tmp_path / "two.json"
    how: dict[str, Any] = {**SMALL, "learning_rates": (first.rows[0]["learning_rate"],)}
    models = {"fa": PAIR["fa"]}
    found = compare_models(models, "digits", ("accuracy",), path=path, processes=2, **how)
    assert found.values("fa") == first.values("fa")


def test_statistics_are_those_of_the_textbook() -> None:
    a, b = [0.91, 0.95, 0.93, 0.94, 0.96], [0.90, 0.93, 0.935, 0.92, 0.93]
    found = mean_of(a)
    low, high = stats.t.interval(0.95, 4, np.mean(a), stats.sem(a))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    gaps = np.subtract(a, b)
    flips = [abs(np.dot(s, gaps)) for s in itertools.product((1, -1), repeat=5)]
    wanted = np.mean([f >= abs(gaps.sum()) - 1e-12 for f in flips])
    assert paired(a, b).p == wanted == 4 / 32
    assert paired(a, b).difference.mean == pytest.approx(gaps.mean())
    assert paired(a, a).p == 1.0 and math.isnan(mean_of([1.0]).low)
    many = np.random.default_rng(1).normal(0.5, 1, 30)
    wide = stats.wilcoxon(many).pvalue
    assert paired(many.tolist(), [0.0] * 30).p == pytest.approx(wide, abs=0.05)
    with pytest.raises(ValueError, match="pairs, got 5 and 4"):
        paired(a, b[:4])


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([], {}, ValueError, "models must name at least one"),
    (["eqprob"], {}, ValueError, "did you mean 'eqprop'"),
    ({"a": 3}, {}, TypeError, r"models\['a'\] must be a mapping"),
    ({"a": {"modl": "LoopedMLP"}}, {}, ValueError, "did you mean 'model'"),
    ({"a": {"model": "LopedMLP"}}, {}, ValueError, "did you mean 'LoopedMLP'"),
    (["eqprop"], {"metrics": ("acuracy",)}, ValueError, "did you mean 'accuracy'"),
    (["eqprop"], {"metrics": ()}, ValueError, "metrics must not be empty"),
    (["eqprop"], {"processes": 3}, ValueError, "processes must be 1 or 2"),
    (["eqprop"], {"epochs": 0}, ValueError, "epochs must be"),
    (["eqprop"], {"learning_rates": (0.0,)}, ValueError, "learning_rates must be"),
    (["eqprop"], {"optimizer": "adma"}, ValueError, "did you mean 'adam'"),
    (["eqprop"], {"parameters": 20}, ValueError, "within reach of BioplausibleModel, got 20"),
    ({"a": {"model": "LoopedMLP"}}, {}, (TypeError, ValueError), "hidden_dim"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("models", "options", "kind", "message"), REFUSED)
def test_a_comparison_that_cannot_be_is_refused_before_any_training(
    models: Any,
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparing, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(kind, match=message):
        compare_models(models, "digits", **options)

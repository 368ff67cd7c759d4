"""Weights of a stored run of a language model go into the package, and only those of that run."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import EqPropTrainer, load_trained, trained_info
from eqprop_lab.datasets.vocabulary import SHAKESPEARE
from eqprop_lab.files import replace_file
from tests.benchmarks import language_models as runs
from tests.benchmarks.published import RESULTS, Row, read


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    """The run to publish, of an untrained hybrid on a small text; beside it what chooses it."""
    text = "".join(random.Random(0).choices(SHAKESPEARE, k=6000))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(runs, "TEXT", str(tmp_path / "text.txt"))
    monkeypatch.setattr(runs, "WEIGHTS", tmp_path / "weights")
    runs.WEIGHTS.mkdir()
    for lr, loss in zip(runs.RATES, (2.0, 1.9), strict=True):
        store(tmp_path, lr=lr, kind="fast", validation=loss)
    model = runs.build("hybrid", 1)
    trainer = EqPropTrainer(model, **runs.phases("hybrid", "physical"))
    known = {"lr": runs.RATES[1], "kind": "physical", "estimator": "centered"}
    row = store(
        tmp_path, **known, **runs.scored(trainer, "validation"), **runs.scored(trainer, "test")
    )
    replace_file(runs.weights_of(row), partial(torch.save, model.state_dict()))
    return row


def store(folder: Path, **row: Any) -> Row:
    """A run of the hybrid at seed 0, stored."""
    whole = {"variant": "hybrid", "seed": 0, "steps": runs.STEPS} | row
    runs.store(folder / "runs.json", whole)
    return whole


def test_weights_of_the_chosen_run_are_published(row: Row, tmp_path: Path) -> None:
    target = runs.publish(tmp_path / "runs.json", tmp_path / "net.safetensors")
    info, model = trained_info(target), load_trained(target)
    for split in ("validation", "test"):
        assert info[f"{split}_loss"] == row[split]
        assert info[f"{split}_bits_per_character"] == row[f"{split}_bits"]
    assert (info["estimator"], info["seed"], info["recipe"]["lr"]) == ("centered", 0, row["lr"])
    assert info["recipe"]["nudged_steps"] == runs.VARIANTS["hybrid"]["physical"][2]
    assert "".join(model.vocab.symbols) == "".join(sorted(SHAKESPEARE))
    stored = torch.load(runs.weights_of(row), weights_only=True)
    state = model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in stored.items() if k != "_extra_state")


def test_what_cannot_be_published_is_refused(row: Row, tmp_path: Path) -> None:
    path, target = tmp_path / "runs.json", tmp_path / "net.safetensors"
    weights = runs.weights_of(row)
    gone = "hybrid physical at seed 0 is not trained and scored, or its weights are gone"
    with pytest.raises(RuntimeError, match=gone):
        runs.publish(tmp_path / "none.json", target)
    replace_file(weights, partial(torch.save, runs.build("hybrid", 2).state_dict()))
    with pytest.raises(RuntimeError, match=f"{weights.name} has validation loss .* not its weigh"):
        runs.publish(path, target)
    weights.unlink()
    with pytest.raises(RuntimeError, match=gone):
        runs.publish(path, target)
    runs.store(path, {key: value for key, value in row.items() if key != "test"})
    weights.touch()
    with pytest.raises(RuntimeError, match=gone):
        runs.publish(path, target)
    assert not target.exists()


@pytest.mark.skipif(not (RESULTS / f"{runs.NAME}.json").is_file(), reason="runs are not stored")
def test_the_published_network_is_a_stored_run() -> None:
    result = read(RESULTS / f"{runs.NAME}.json")
    assert result is not None
    rows, info = runs.rows_of(result), trained_info("shakespeare_hybrid")
    (stored,) = [
        r
        for r in runs.at(rows, "hybrid", "physical")
        if (r["lr"], r["seed"]) == (runs.chosen(rows, "hybrid"), info["seed"])
    ]
    assert info["recipe"]["lr"] == stored["lr"]
    assert info["validation_loss"] == pytest.approx(stored["validation"], abs=runs.SAME)
    if "test" in stored:
        assert info["test_loss"] == pytest.approx(stored["test"], abs=runs.SAME)

"""Published results are stored run by run, go on after a cut, and never mix runs that were made
otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.datasets import build_dataset
from tests.benchmarks.published import Row, StaleResult, Training, publish, read, shared

RECIPE: dict[str, Any] = {"lr": 0.1, "epochs": 1, "image_size": (8, 8)}
DATA = build_dataset({"name": "xor", "samples": 8})
NETWORKS = {"eqprop": "LoopedMLP", "backprop": "BackpropMLP"}


class Trainer:
    """Makes records and remembers for which seeds."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.seeds: list[int] = []
        self.fails_at = fails_at

    def __call__(self, seed: int) -> Row:
        if seed == self.fails_at:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        return {"test_accuracy": 0.5, "cpu_seconds": 1.0, "val_accuracy": [0.25 + seed]}


def head(**recipe: Any) -> dict[str, Any]:
    return shared(DATA, "centered", NETWORKS, (2, 8, 2), 42, RECIPE | recipe)


def test_a_cut_job_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "result.json"
    eqprop, plain = Trainer(), Trainer(fails_at=1)
    trainings = {"eqprop": Training(eqprop), "backprop": Training(plain)}
    with pytest.raises(KeyboardInterrupt):
        publish(path, head(), trainings, [0, 1])
    result = read(path)
    assert result is not None and result["seeds"] == [0, 1]
    assert [len(result[key]) for key in NETWORKS] == [2, 1]
    plain.fails_at = None
    result = publish(path, head(), trainings, [2, 1, 0])
    assert eqprop.seeds == [0, 1, 2] and plain.seeds == [0, 2, 1]
    assert result == read(path) and result["seeds"] == [0, 1, 2]
    assert all([row["seed"] for row in result[key]] == [0, 1, 2] for key in NETWORKS)
    assert list(result)[:4] == ["device", "versions", "date", "seeds"] and list(result)[
        -2:
    ] == list(NETWORKS)
    said = capsys.readouterr().out
    assert (
        "seed 0 eqprop   is stored already" in said
        and "seed 2 backprop validation 2.2500 test 0.5000" in said
    )


def test_a_network_with_other_settings_is_trained_again(tmp_path: Path) -> None:
    path, one, two = tmp_path / "result.json", Trainer(), Trainer()
    publish(path, head(), {"eqprop": Training(one), "backprop": Training(two)}, [0])
    result = publish(
        path, head(), {"eqprop": Training(one), "backprop": Training(two, {"lr": 0.2})}, [0]
    )
    assert one.seeds == [0] and two.seeds == [0, 0]
    assert [row["lr"] for row in result["backprop"]] == [0.2] and "lr" not in result["eqprop"][0]


def test_two_jobs_may_fill_one_file(tmp_path: Path) -> None:
    path, plain = tmp_path / "result.json", Trainer()

    def meanwhile(seed: int) -> Row:
        publish(path, head(), {"backprop": Training(plain)}, [seed])
        return Trainer()(seed)

    result = publish(
        path, head(), {"eqprop": Training(meanwhile), "backprop": Training(plain)}, [5]
    )
    assert [len(result[key]) for key in NETWORKS] == [1, 1] and plain.seeds == [5]


def test_runs_of_another_recipe_are_kept_apart(tmp_path: Path) -> None:
    path, trainer = tmp_path / "result.json", Trainer()
    training = {"eqprop": Training(trainer)}
    publish(path, head(), training, [0, 1])
    before = path.read_bytes()
    for other, said in (
        (
            head(lr=0.2),
            r"holds runs with recipe {'lr': 0.1}, these have {'lr': 0.2}: --fresh discards",
        ),
        (head() | {"parameters": 7}, "parameters 42, these have 7"),
        (head() | {"device": "CPU, 9 threads"}, "device CPU"),
    ):
        with pytest.raises(StaleResult, match=said):
            publish(path, other, training, [2])
    assert path.read_bytes() == before and trainer.seeds == [0, 1]
    assert publish(path, head(lr=0.2), training, [2], fresh=True)["seeds"] == [2]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_result_is_named_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="result.json (is not valid JSON|must hold a JSON object)"):
        publish(path, head(), {"eqprop": Training(Trainer())}, [0])
    assert path.read_text() == text


def test_only_the_listed_parts_are_shared() -> None:
    stored = json.loads(json.dumps(head()))
    assert stored["recipe"]["image_size"] == [8, 8] and stored["samples"] == {
        "train": 8,
        "validation": 8,
        "test": 8,
    }

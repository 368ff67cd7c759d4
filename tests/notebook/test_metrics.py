from __future__ import annotations

import json
import math
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab.notebook import metrics, provenance, record, setup, stored, stored_names
from eqprop_lab.notebook.metrics import METRICS_MIME, PROVENANCE_MIME, RESULTS_DIR

Outputs = list[tuple[dict[str, Any], dict[str, Any]]]
RESULT = {
    "device": "one GPU",
    "versions": {"torch": "2.13.0"},
    "date": "2026-01-02",
    "seeds": [0, 1],
    "estimator": "centered",
    "accuracy": 0.98,
}


def test_numbers_of_every_kind_are_recorded_and_nothing_is_shown(shown: Outputs) -> None:
    record(count=3, cosine=np.float32(0.5), slope=torch.tensor(2.0), last=np.array(1.5))
    assert shown == [
        ({METRICS_MIME: {"metrics": {"count": 3, "cosine": 0.5, "slope": 2.0, "last": 1.5}}}, {})
    ]
    assert json.loads(json.dumps(shown[0][0]))[METRICS_MIME]["metrics"]["count"] == 3


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (math.nan, ValueError),
        (math.inf, ValueError),
        (torch.tensor(math.nan), ValueError),
        (True, TypeError),
        ("0.5", TypeError),
        (None, TypeError),
        (torch.ones(2), TypeError),
    ],
)
def test_what_is_no_finite_number_is_refused(
    value: Any, error: type[Exception], shown: Outputs
) -> None:
    with pytest.raises(error, match="metric accuracy"):
        record(steps=1, accuracy=value)
    record(steps=1)
    assert len(shown) == 1, "a refused call records none of its metrics"


def test_a_metric_has_one_value_in_a_run(shown: Outputs) -> None:
    setup(0)
    record(accuracy=0.5)
    with pytest.raises(ValueError, match="'accuracy' is already recorded"):
        record(accuracy=0.6)
    setup(0)
    record(accuracy=0.6)
    assert len(shown) == 2


def test_running_the_same_cell_again_is_no_duplicate(
    shown: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = iter([("record(a=1)", 4), ("record(a=1)", 5), ("record(a=2)", 6)])
    monkeypatch.setattr(metrics, "_running_cell", lambda: next(cells))
    record(a=1)
    record(a=1)
    with pytest.raises(ValueError, match="already recorded"):
        record(a=2)
    assert len(shown) == 2


def test_the_running_cell_is_known_by_source_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics._running_cell() == ("", 0), "outside IPython"
    shell = SimpleNamespace(user_ns={"In": ["", "setup(0)", "record(a=1)"]}, execution_count=2)
    monkeypatch.setattr(metrics, "get_ipython", lambda: shell)
    assert metrics._running_cell() == ("record(a=1)", 2)


def test_a_bare_source_tree_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert metrics._own_version() == "from source"


def test_names_and_empty_calls_are_checked() -> None:
    with pytest.raises(ValueError, match="metric 'Final accuracy'"):
        record(**{"Final accuracy": 1.0})
    with pytest.raises(ValueError, match="without a metric"):
        record()


def test_provenance_shows_versions_but_neither_seconds_nor_device(
    shown: Outputs, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(4, "full")
    provenance()
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "seed 4, profile full" in line and "torch" in line
    assert "cpu" not in line
    hidden = shown[0][0][PROVENANCE_MIME]
    assert set(hidden) == {"versions", "seed", "profile", "device", "seconds"}
    assert (
        hidden["device"] == "cpu"
        and hidden["seconds"] >= 0
        and hidden["versions"]["torch"] == torch.__version__
    )


def test_provenance_needs_setup() -> None:
    with pytest.raises(RuntimeError, match="has not run"):
        provenance()


def _project(folder: Path, results: dict[str, str]) -> Path:
    (folder / "data" / "results").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "eqprop-lab"\n')
    for name, text in results.items():
        (folder / "data" / "results" / f"{name}.json").write_text(text)
    return folder / "notebooks"


def test_a_stored_result_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(_project(tmp_path, {"mnist": json.dumps(RESULT)}))
    assert stored("mnist")["accuracy"] == 0.98
    expected = (
        "Stored result 'mnist': one GPU, torch 2.13.0, 2026-01-02, seeds 0, 1, "
        "estimator centered.\n"
    )
    assert capsys.readouterr().out == expected


def test_stored_results_are_listed_by_how_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = _project(tmp_path, dict.fromkeys(("gpu_b", "mnist", "gpu_a"), json.dumps(RESULT)))
    monkeypatch.chdir(project)
    assert stored_names("gpu_") == ["gpu_a", "gpu_b"]
    assert stored_names() == ["gpu_a", "gpu_b", "mnist"] and stored_names("x") == []


def test_a_result_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist.json").write_text(json.dumps(RESULT))
    monkeypatch.setenv(RESULTS_DIR, str(tmp_path))
    assert stored("mnist") == RESULT


@pytest.mark.parametrize("key", metrics.STORED_KEYS)
def test_a_result_of_unknown_origin_is_refused(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist.json").write_text(json.dumps(RESULT | {key: None}))
    monkeypatch.setenv(RESULTS_DIR, str(tmp_path))
    with pytest.raises(ValueError, match=f"data/results/mnist.json says nothing about: {key}$"):
        stored("mnist")


def test_missing_broken_and_misnamed_results_are_clear_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(
        _project(tmp_path, {"broken": "{", "listed": "[1]", "good": json.dumps(RESULT)})
    )
    with pytest.raises(
        FileNotFoundError, match="'mnist' is missing in data/results; there: broken, good, listed"
    ) as e:
        stored("mnist")
    assert str(tmp_path) not in str(e.value)
    with pytest.raises(ValueError, match="data/results/broken.json is not valid JSON"):
        stored("broken")
    with pytest.raises(ValueError, match="says nothing about: device, versions"):
        stored("listed")
    with pytest.raises(ValueError, match="name = '../good'"):
        stored("../good")


def test_outside_a_project_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"or set {RESULTS_DIR}"):
        stored("mnist")

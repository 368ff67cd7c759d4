"""The runner without kernels: executions are faked, everything before and after them is real."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output

from eqprop_lab.regression import runner
from eqprop_lab.regression.execute import Execution, Job
from eqprop_lab.regression.files import FolderError
from eqprop_lab.regression.outputs import METRICS_MIME
from eqprop_lab.regression.parameters import ParameterError
from eqprop_lab.regression.report import NotebookResult
from eqprop_lab.regression.runner import run_notebooks
from tests.regression.tiny import notebook, notebooks_of, options, project, write_baseline

Recorder = Callable[[Job], dict[str, object]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recorder], list[Job]]:
    """Replace the kernels: every job "records" what the given function returns. Gives the list of jobs run."""

    def install(recorder: Recorder) -> list[Job]:
        ran: list[Job] = []

        def execute(
            jobs: Sequence[Job], scratch: Path, at_once: int, done: Callable[[Execution], None], progress: object
        ) -> None:
            for job in jobs:
                ran.append(job)
                nb = nbformat.read(job.notebook, as_version=4)
                payload = {METRICS_MIME: {"metrics": recorder(job)}}
                nb.cells[-1].outputs = [new_output("display_data", data=payload)]
                nbformat.write(nb, job.output)
                done(Execution(job, None, 0.1))

        monkeypatch.setattr(runner, "execute_all", execute)
        return ran

    return install


def one(result: runner.Run) -> NotebookResult:
    assert len(result.results) == 1
    return result.results[0]


@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        ({"a": 1.05}, None),
        ({"a": 1.2}, "metric 'a' = 1.2, expected abs 1 (tol 0.1, source theory)"),
        ({"b": 1.0, "a": 1.0}, "metric 'b' is not in the baseline"),
        ({"a": float("nan")}, "code cell 2: metric 'a' is nan"),
        ({}, "no metric was recorded"),
    ],
)
def test_metrics_decide(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], recorded: dict[str, object], problem: str | None
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    fake(lambda job: recorded)
    result = one(run_notebooks(notebooks_of(root), options(root)))
    assert result.status == ("failed" if problem else "passed")
    assert [p[: len(problem or "")] for p in result.problems] == ([problem] if problem else [])


def test_a_missing_metric_is_red(tmp_path: Path, fake: Callable[[Recorder], list[Job]]) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    entry = {"value": 1.0, "kind": "abs", "tol": 0.1}
    write_baseline(root, {"00_a": {"a": entry, "b": entry}})
    fake(lambda job: {"a": 1.0})
    assert one(run_notebooks(notebooks_of(root), options(root))).problems == ["metric 'b' is missing"]


def test_no_baseline_is_red_unless_outputs_are_updated(tmp_path: Path, fake: Callable[[Recorder], list[Job]]) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    write_baseline(root, {})
    fake(lambda job: {"a": 1.0})
    assert "no baseline for 00_a" in one(run_notebooks(notebooks_of(root), options(root))).problems[0]
    updated = one(run_notebooks(notebooks_of(root), options(root, update=True)))
    assert updated.status == "passed"
    assert "no baseline yet" in updated.notes[0]


def test_values_are_compared_in_the_smoke_profile_with_default_parameters_only(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 9.0})
    paths = notebooks_of(root)
    assert not run_notebooks(paths, options(root)).green
    assert not run_notebooks(paths, options(root, parameters={"seed": "3"})).green
    assert run_notebooks(paths, options(root, parameters={"rate": "0.1"})).green
    assert run_notebooks(paths, options(root, profile="full")).green
    assert [dict(job.parameters) for job in ran] == [
        {"profile": "smoke"},
        {"profile": "smoke", "seed": 3},
        {"profile": "smoke", "rate": 0.1},
        {"profile": "full"},
    ]
    assert [job.limit for job in ran] == [60.0, 60.0, 60.0, 3600.0]


def test_time_limits_come_from_the_notebook_and_the_command_line(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    nb = notebook("x")
    nb.metadata["eqprop"] = {"time_limit": {"smoke": 20}}
    root = project(tmp_path / "p", n00_a=nb)
    ran = fake(lambda job: {"a": 1.0})
    run_notebooks(notebooks_of(root), options(root))
    run_notebooks(notebooks_of(root), options(root, time_limit=5.0))
    assert [job.limit for job in ran] == [20.0, 5.0]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"sed": 1}, "did you mean 'seed'"), ({"seed": "x"}, "takes int"), ({"profile": "full"}, "--profile")],
)
def test_bad_parameters_stop_the_run_before_a_kernel(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], parameters: dict[str, object], reason: str
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    with pytest.raises(ParameterError, match=reason):
        run_notebooks(notebooks_of(root), options(root, parameters=parameters))
    assert ran == []


def test_a_file_that_is_no_notebook_and_an_unwritable_output_stop_the_run(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    (root / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write to the output folder"):
        run_notebooks(notebooks_of(root), options(root, output=root / "file" / "runs"))
    (root / "notebooks" / "00_a.ipynb").write_text("no json")
    with pytest.raises(ParameterError, match="00_a.ipynb: not a notebook"):
        run_notebooks(notebooks_of(root), options(root))
    assert ran == []


@pytest.mark.parametrize("wrong", [{"profile": "full"}, {"parameters": {"seed": 3}}, {"seeds": [0, 1]}])
def test_update_needs_smoke_and_defaults(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], wrong: dict[str, object]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    with pytest.raises(ParameterError, match="--update needs"):
        run_notebooks(notebooks_of(root), options(root, update=True, **wrong))
    assert ran == []


def test_update_leaves_red_notebooks_alone(tmp_path: Path, fake: Callable[[Recorder], list[Job]]) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"), n01_b=notebook("y"))
    before = (root / "notebooks" / "01_b.ipynb").read_text()
    fake(lambda job: {"a": 1.0 if job.key == "00_a" else 5.0})
    run = run_notebooks(notebooks_of(root), options(root, update=True))
    assert [result.status for result in run.results] == ["passed", "failed"]
    assert (root / "notebooks" / "01_b.ipynb").read_text() == before
    assert "source_hash" in (root / "notebooks" / "00_a.ipynb").read_text()


def test_update_never_overwrites_an_edit_made_during_the_run(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    path = notebooks_of(root)[0]
    edited = notebook("x", "edited")

    def record_and_edit(job: Job) -> dict[str, object]:
        nbformat.write(edited, path)
        return {"a": 1.0}

    ran = fake(record_and_edit)
    result = one(run_notebooks([path], options(root, update=True)))
    assert len(ran) == 1
    assert result.problems == ["not updated: the notebook was edited during the run; run it again"]
    assert nbformat.read(path, as_version=4).cells[-1].source == "edited"


def test_a_full_disk_during_update_keeps_the_committed_file(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    before = (root / "notebooks" / "00_a.ipynb").read_text()
    fake(lambda job: {"a": 1.0})
    replace = os.replace

    def full(source: str, target: Path) -> None:
        if Path(target).suffix == ".ipynb":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    result = one(run_notebooks(notebooks_of(root), options(root, update=True)))
    assert result.status == "failed"
    assert "No space left on device" in result.problems[0]
    assert (root / "notebooks" / "00_a.ipynb").read_text() == before


def test_a_report_that_cannot_be_written_loses_no_result(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    fake(lambda job: {"a": 1.0})

    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "write_reports", full)
    run = run_notebooks(notebooks_of(root), options(root))
    assert one(run).status == "passed"
    assert run.error is not None
    assert "No space left on device" in run.error
    assert not run.green


def test_five_seeds_make_a_baseline_that_the_next_run_passes(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    theory = {"value": 1.0, "kind": "min", "tol": 0.0, "source": "theory"}
    write_baseline(root, {"00_a": {"cosine": theory}})
    ran = fake(lambda job: {"a": 2.0 + 0.1 * int(job.parameters.get("seed", 0)), "cosine": 1.0})
    run = run_notebooks(notebooks_of(root), options(root, seeds=[0, 1, 2, 3, 4], rebaseline=True))
    assert run.green
    assert [job.key for job in ran] == [f"00_a-seed{seed}" for seed in range(5)]
    assert all(job.figures is None for job in ran)
    written = json.loads(options(root).baseline.read_text())["00_a"]
    assert written["cosine"] == theory
    assert written["a"]["value"] == pytest.approx(2.2)
    assert run_notebooks(notebooks_of(root), options(root)).green


def test_interruption_keeps_what_has_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"), n01_b=notebook("y"))

    def execute(
        jobs: Sequence[Job], scratch: Path, at_once: int, done: Callable[[Execution], None], progress: object
    ) -> None:
        done(Execution(jobs[0], "cell [1] raised ValueError: x", 0.1))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute_all", execute)
    run = run_notebooks(notebooks_of(root), options(root))
    assert run.interrupted
    assert [result.status for result in run.results] == ["failed", "not run"]
    assert run.report is not None
    assert "interrupted" in run.report.read_text()

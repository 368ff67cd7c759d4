from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from eqprop_lab.commands import run
from eqprop_lab.regression import plan
from eqprop_lab.regression.parameters import ParameterError
from eqprop_lab.regression.plan import Options, find_notebooks, project_root
from eqprop_lab.regression.report import NotebookResult
from eqprop_lab.regression.runner import Run
from tests.regression.tiny import notebook, project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = project(tmp_path / "p", n00_start=notebook("x"), n04_looped_mlp=notebook("x"))
    monkeypatch.chdir(folder / "notebooks")
    return folder


def test_the_project_is_found_from_below_and_its_absence_is_said(
    root: Path, tmp_path: Path
) -> None:
    assert project_root() == root
    with pytest.raises(ParameterError, match="no project here"):
        project_root(tmp_path)


def test_notebooks_by_number_name_and_path(root: Path, tmp_path: Path) -> None:
    series = sorted((root / "notebooks").glob("*.ipynb"))
    assert find_notebooks([], root) == series
    assert find_notebooks(["04", "00_start", "04_looped_mlp.ipynb"], root) == series[::-1]
    other = tmp_path / "probe.ipynb"
    other.write_text("{}")
    assert find_notebooks([str(other)], root) == [other]
    with pytest.raises(ParameterError, match="did you mean 04_looped_mlp"):
        find_notebooks(["04_loped_mpl"], root)
    with pytest.raises(ParameterError, match="known: 00_start, 04_looped_mlp"):
        find_notebooks(["zzzzzz"], root)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--seeds", "1,x"], "--seeds takes integers"),
        (["--seeds", "1,1"], "names a seed twice"),
        (["--rebaseline"], "--rebaseline needs --seeds"),
        (["--seeds", "0,1", "-p", "seed", "3"], "not both"),
        (["--seeds", "0,1", "--rebaseline", "--profile", "full"], "needs the smoke profile"),
        (["--time-limit", "0"], "--time-limit must be above 0"),
        (["--time-limit", "nan"], "--time-limit must be above 0"),
        (
            ["--time-limit", "inf"],
            "--time-limit must be above 0 seconds and at most a week, got inf",
        ),
        (["-p", "seed", "1", "-p", "seed", "2"], "-p sets a parameter twice: seed, seed"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--parameters", "absent.yaml"], "No such file"),
        (["-p", "sed", "3"], "00_start: unknown parameter 'sed'; did you mean 'seed'"),
        (["99"], "no notebook '99'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_with_2(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert run.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert reason in said
    assert said.count("\n") == 1


def test_an_unwritable_output_folder_is_one_line_and_exits_with_2(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert run.main(["00"]) == 2
    said = capsys.readouterr().err
    assert "cannot write to the output folder" in said
    assert "Permission denied" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (Run([NotebookResult("00_start", "00_start", "passed")]), 0),
        (Run([NotebookResult("00_start", "00_start", "failed", problems=["bad"])]), 1),
        (Run([NotebookResult("00_start", "00_start", "not run")], interrupted=True), 130),
        (Run([NotebookResult("00_start", "00_start", "passed")], error="No space left"), 2),
    ],
)
def test_exit_codes_and_the_table(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    done: Run,
    code: int,
) -> None:
    asked: list[Options] = []

    def fake(paths: list[Path], options: Options) -> Run:
        asked.append(options)
        done.report = options.output / "report.html"
        done.lines = ["00_start.a: 1 +- 0.1"]
        return done

    monkeypatch.setattr(run, "run_notebooks", fake)
    assert run.main(["00", "-p", "rate", "0.1", "--jobs", "1"]) == code
    printed = capsys.readouterr().out
    assert done.results[0].status in printed
    assert "00_start.a: 1 +- 0.1" in printed
    assert (f"report: {root / 'runs' / 'report.html'}" in printed) == (done.error is None)
    assert asked[0].parameters == {"rate": "0.1"}
    assert asked[0].output == root / "runs"


def test_an_empty_series_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path / "empty"))
    assert run.main([]) == 2
    assert set(plan.PROFILES) == {"smoke", "full", "cuda"}


def test_a_name_that_means_two_files_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "00_start.ipynb"
    other.write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ParameterError, match="00_start.ipynb is there twice, .*: give the one you mean as a path"
    ):
        find_notebooks(["00_start.ipynb"], root)
    assert find_notebooks(["./00_start.ipynb"], root) == [other]
    assert find_notebooks(["00_start"], root) == [root / "notebooks" / "00_start.ipynb"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_is_an_interruption(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        with run.interruptible():
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored_and_other_threads_change_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with run.interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    seen: list[object] = []

    def elsewhere() -> None:
        with run.interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]

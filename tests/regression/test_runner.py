"""The runner without kernels: executions are faked, everything before and after them is real."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

from eqprop_lab.regression import runner, swap as swapping
from eqprop_lab.regression.baseline import BaselineError
from eqprop_lab.regression.execute import Execution, Job
from eqprop_lab.regression.folders import FolderError
from eqprop_lab.regression.outputs import METRICS_MIME, PROVENANCE_MIME
from eqprop_lab.regression.parameters import ParameterError
from eqprop_lab.regression.report import NotebookResult
from eqprop_lab.regression.runner import run_notebooks
from tests.regression.tiny import notebook, notebooks_of, options, project, write_baseline

Recorder = Callable[[Job], dict[str, object]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recorder], list[Job]]:
    """Replace the kernels: every job "records" what the given function returns. Gives the list of
    jobs run.
    """

    def install(recorder: Recorder) -> list[Job]:
        ran: list[Job] = []

        def execute(
            jobs: Sequence[Job],
            scratch: Path,
            at_once: int,
            done: Callable[[Execution], None],
            progress: object,
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
    tmp_path: Path,
    fake: Callable[[Recorder], list[Job]],
    recorded: dict[str, object],
    problem: str | None,
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
    assert one(run_notebooks(notebooks_of(root), options(root))).problems == [
        "metric 'b' is missing"
    ]


def test_no_baseline_is_red_unless_outputs_are_updated(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    write_baseline(root, {})
    fake(lambda job: {"a": 1.0})
    assert (
        "no baseline for 00_a" in one(run_notebooks(notebooks_of(root), options(root))).problems[0]
    )
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
    [
        ({"sed": 1}, "did you mean 'seed'"),
        ({"seed": "x"}, "takes int"),
        ({"profile": "full"}, "--profile"),
    ],
)
def test_bad_parameters_stop_the_run_before_a_kernel(
    tmp_path: Path,
    fake: Callable[[Recorder], list[Job]],
    parameters: dict[str, object],
    reason: str,
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    with pytest.raises(ParameterError, match=reason):
        run_notebooks(notebooks_of(root), options(root, parameters=parameters))
    assert ran == []


def test_an_unwritable_output_stops_the_run(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    (root / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write to the output folder"):
        run_notebooks(notebooks_of(root), options(root, output=root / "file" / "runs"))
    assert ran == []


def changed(change: Callable[[NotebookNode], object]) -> str:
    nb = notebook("x")
    change(nb)
    return json.dumps(nb)


def time_limit(value: object) -> str:
    return changed(lambda nb: nb.metadata.update(eqprop={"time_limit": value}))


FORMAT_3 = json.dumps(
    {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {},
        "worksheets": [{"cells": [], "metadata": {}}],
    }
)
SPOILT: list[tuple[str, str]] = [
    ("no json", "not a notebook"),
    ("", "not a notebook"),
    ("[1, 2]", "not a notebook"),
    ("{}", "not a notebook"),
    ("[" * 100_000, "not a notebook"),
    ("\x80", "not a notebook: 'utf-8' codec"),
    ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}', "not a notebook"),
    ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}', "not a notebook"),
    (FORMAT_3, "a notebook of format 3, and 4 is needed: save it in JupyterLab"),
    (changed(lambda nb: nb.metadata.pop("kernelspec")), "names no kernel"),
    (changed(lambda nb: nb.metadata.kernelspec.pop("name")), "names no kernel|not a notebook"),
    (changed(lambda nb: nb.cells.pop(1)), "expected one code cell tagged 'parameters', found 0"),
    (changed(lambda nb: nb.cells[1].update(source="seed = 0")), "parameters are lines"),
    (
        changed(lambda nb: nb.cells[1].update(source="seed: int = 0\nseed: int = 1")),
        "sets 'seed' twice",
    ),
    (
        changed(lambda nb: nb.cells[1].update(source="seed: Tensor = 0")),
        "type 'Tensor' of a parameter is not one of",
    ),
    (changed(lambda nb: nb.cells[1].update(source="seed: int = " + "(" * 10_000)), "is not Python"),
    (time_limit({"smoke": "long"}), "eqprop.time_limit in its metadata must be"),
    (time_limit({"smoke": float("nan")}), "eqprop.time_limit in its metadata must be"),
    (time_limit({"smoke": -1}), "eqprop.time_limit in its metadata must be"),
    (time_limit(20), "eqprop.time_limit in its metadata must be"),
    (time_limit({"smoke": True}), "eqprop.time_limit in its metadata must be"),
]


@pytest.mark.parametrize(("text", "problem"), SPOILT, ids=[str(k) for k in range(len(SPOILT))])
def test_a_notebook_that_cannot_be_run_spoils_its_row_and_no_other(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], text: str, problem: str
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"), n01_b=notebook("x"), n02_c=notebook("x"))
    (root / "notebooks" / "01_b.ipynb").write_bytes(text.encode("latin-1"))
    ran = fake(lambda job: {"a": 1.0})
    run = run_notebooks(notebooks_of(root), options(root))
    assert [(row.key, row.status) for row in run.results] == [
        ("00_a", "passed"),
        ("01_b", "failed"),
        ("02_c", "passed"),
    ]
    assert len(run.results[1].problems) == 1 and re.search(
        f"01_b.*({problem})", run.results[1].problems[0]
    )
    assert [job.key for job in ran] == ["00_a", "02_c"] and not run.green and run.report is not None


def test_a_notebook_that_may_not_be_read_is_one_row(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    fake(lambda job: {"a": 1.0})
    missing = root / "notebooks" / "01_gone.ipynb"
    run = run_notebooks([*notebooks_of(root), missing], options(root))
    assert [row.status for row in run.results] == ["passed", "failed"]
    assert run.results[1].problems == ["01_gone.ipynb: No such file or directory"]


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (
            [new_output("display_data", data={METRICS_MIME: {"metric": 1}})],
            "an output of metrics holds no 'metrics'",
        ),
        (
            [new_output("display_data", data={METRICS_MIME: [1]})],
            "an output of metrics holds no 'metrics'",
        ),
        ([new_output("display_data", data={PROVENANCE_MIME: 3})], "no metric was recorded"),
        ([{"output_type": "display_data"}], "cannot be judged|no metric was recorded"),
        ([3], "00_a.ipynb cannot be judged: "),
    ],
)
def test_outputs_of_any_kind_spoil_one_row(
    tmp_path: Path,
    fake: Callable[[Recorder], list[Job]],
    outputs: list[Any],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"), n01_b=notebook("x"))
    fake(lambda job: {"a": 1.0})
    written = nbformat.write

    def write(nb: NotebookNode, path: Path) -> None:
        if path.name == "00_a.ipynb":
            nb.cells[-1].outputs = outputs
        Path(path).write_text(json.dumps(nb), encoding="utf-8")

    monkeypatch.setattr(nbformat, "write", write)
    run = run_notebooks(notebooks_of(root), options(root))
    monkeypatch.setattr(nbformat, "write", written)
    assert [row.status for row in run.results] == ["failed", "passed"]
    assert re.search(problem, run.results[0].problems[0])


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (3, "baseline: 00_a must be {metric: entry}, got 3"),
        ({"a": 3}, "baseline: 00_a.a: an entry must be {value, kind, tol}, got 3"),
        ({"a": {"value": 1.0, "kind": "near"}}, "baseline: 00_a.a: kind must be one of"),
        (
            {"a": {"value": 1.0, "kind": "abs", "tol": float("nan")}},
            "00_a.a: tol must be a finite number, got nan",
        ),
        ({"a": {"value": "1", "kind": "min"}}, "00_a.a: value must be a finite number, got '1'"),
        ({"a": {"value": 1.0, "kind": "abs", "tol": -1.0}}, "00_a.a: tol must not be below 0"),
        ({"a": {"value": 1.0, "kind": None}}, "00_a.a: kind must be one of .*, got None"),
    ],
)
@pytest.mark.parametrize("rebaselined", [False, True])
def test_a_nonsense_baseline_is_one_red_row(
    tmp_path: Path,
    fake: Callable[[Recorder], list[Job]],
    entries: object,
    problem: str,
    rebaselined: bool,
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"), n01_b=notebook("x"))
    sound = {"a": {"value": 1.0, "kind": "abs", "tol": 0.1, "source": "theory"}}
    write_baseline(root, {"00_a": entries, "01_b": sound})
    before = options(root).baseline.read_text()
    fake(lambda job: {"a": 1.0})
    seeds = {"seeds": [0, 1, 2, 3, 4], "rebaseline": True} if rebaselined else {}
    run = run_notebooks(notebooks_of(root), options(root, **seeds))
    assert {(row.notebook, row.status) for row in run.results} == {
        ("00_a", "failed"),
        ("01_b", "passed"),
    }
    assert re.search(problem, run.results[0].problems[0])
    assert options(root).baseline.read_text() == before


def test_a_baseline_that_is_none_at_all_stops_the_run(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    for text in ("{", "[]", '{"00_a": {}, "00_a": {}}'):
        options(root).baseline.write_text(text)
        with pytest.raises(BaselineError, match="baseline.json"):
            run_notebooks(notebooks_of(root), options(root))
    assert ran == []


@pytest.mark.parametrize(
    "wrong", [{"profile": "full"}, {"parameters": {"seed": 3}}, {"seeds": [0, 1]}]
)
def test_update_needs_smoke_and_defaults(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]], wrong: dict[str, object]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    with pytest.raises(ParameterError, match="--update needs"):
        run_notebooks(notebooks_of(root), options(root, update=True, **wrong))
    assert ran == []


def test_update_leaves_red_notebooks_alone(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
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


@pytest.fixture
def drawing(fake: Callable[[Recorder], list[Job]]) -> Callable[..., list[Job]]:
    """The kernels replaced as in `fake`; every job also draws the named figures."""

    def install(*names: str) -> list[Job]:
        def record(job: Job) -> dict[str, object]:
            assert job.figures is not None
            job.figures.mkdir(parents=True)
            for name in names:
                (job.figures / f"{name}.png").write_bytes(b"new")
                (job.figures / f"{name}.svg").write_bytes(b"<new/>")
            index = {name: {"notebook": job.name, "alt": "curve"} for name in names}
            (job.figures / "index.json").write_text(json.dumps(index))
            return {"a": 1.0}

        return fake(record)

    return install


def committed_files(root: Path) -> dict[str, bytes]:
    places = (root / "notebooks", root / "figures")
    return {path.name: path.read_bytes() for place in places for path in sorted(place.glob("*"))}


def with_figures(root: Path, **notebooks: str) -> Path:
    (root / "figures").mkdir()
    for name in notebooks:
        (root / "figures" / f"{name}.png").write_bytes(b"old")
        (root / "figures" / f"{name}.svg").write_bytes(b"<old/>")
    index = {name: {"notebook": notebook} for name, notebook in notebooks.items()}
    (root / "figures" / "index.json").write_text(json.dumps(index))
    return root


def test_update_swaps_a_notebook_with_its_figures(
    tmp_path: Path, drawing: Callable[..., list[Job]]
) -> None:
    root = with_figures(
        project(tmp_path / "p", n00_a=notebook("x")), nb00_old="00_a", nb01_y="01_b"
    )
    drawing("nb00_new")
    assert run_notebooks(notebooks_of(root), options(root, update=True)).green
    after = committed_files(root)
    assert sorted(after) == [
        "00_a.ipynb", "index.json", "nb00_new.png", "nb00_new.svg", "nb01_y.png", "nb01_y.svg",
    ]  # fmt: skip
    assert (
        set(json.loads(after["index.json"])) == {"nb00_new", "nb01_y"}
        and after["nb00_new.png"] == b"new"
    )


@pytest.mark.parametrize("fails_at", ["nb00_new.png", "index.json", "00_a.ipynb", "nb00_old.svg"])
def test_an_update_that_fails_leaves_everything_as_it_was(
    tmp_path: Path,
    drawing: Callable[..., list[Job]],
    monkeypatch: pytest.MonkeyPatch,
    fails_at: str,
) -> None:
    root = with_figures(project(tmp_path / "p", n00_a=notebook("x")), nb00_old="00_a")
    before = committed_files(root)
    drawing("nb00_new")
    replace, unlink = os.replace, Path.unlink

    def full(source: Path, target: Path) -> None:
        if Path(target).name == fails_at and not str(source).endswith(".old"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    def keep(path: Path, missing_ok: bool = False) -> None:
        if path.name == fails_at:
            raise OSError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(Path, "unlink", keep)
    result = one(run_notebooks(notebooks_of(root), options(root, update=True)))
    monkeypatch.undo()
    assert result.status == "failed" and re.search(
        "not updated: .*(No space left|not permitted)", result.problems[0]
    )
    assert committed_files(root) == before


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda root: (root / "figures" / "index.json").write_text("{"),
            "figures/index.json is not JSON",
        ),
        (
            lambda root: (root / "figures" / "index.json").write_text('{"x": 3}'),
            "figures/index.json must be",
        ),
        (
            lambda root: (root / "figures" / "index.json").write_text(
                '{"nb00_new": {"notebook": "01_b"}}'
            ),
            "belongs to",
        ),
    ],
)
def test_a_figures_folder_that_cannot_be_used_is_one_red_row(
    tmp_path: Path, drawing: Callable[..., list[Job]], spoil: Callable[[Path], object], problem: str
) -> None:
    root = with_figures(project(tmp_path / "p", n00_a=notebook("x")), nb00_old="00_a")
    spoil(root)
    before = committed_files(root)
    drawing("nb00_new")
    result = one(run_notebooks(notebooks_of(root), options(root, update=True)))
    assert result.status == "failed" and f"not updated: {problem}" in result.problems[0].replace(
        "figure 'nb00_new' ", ""
    )
    assert committed_files(root) == before
    assert run_notebooks(notebooks_of(root), options(root)).green


def test_a_picture_that_was_promised_and_is_missing_leaves_everything(
    tmp_path: Path, drawing: Callable[..., list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = with_figures(project(tmp_path / "p", n00_a=notebook("x")), nb00_old="00_a")
    before = committed_files(root)
    drawing("nb00_new")
    judge = runner.judge

    def lose(execution: Execution, *rest: Any) -> NotebookResult:
        assert execution.job.figures is not None
        (execution.job.figures / "nb00_new.svg").unlink()
        return judge(execution, *rest)

    monkeypatch.setattr(runner, "judge", lose)
    result = one(run_notebooks(notebooks_of(root), options(root, update=True)))
    assert result.problems[0].startswith("not updated: ") and "nb00_new.svg" in result.problems[0]
    assert committed_files(root) == before


def test_the_next_run_undoes_an_update_that_was_cut_off(
    tmp_path: Path, drawing: Callable[..., list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = with_figures(project(tmp_path / "p", n00_a=notebook("x")), nb00_old="00_a")
    before = committed_files(root)
    drawing("nb00_new")
    replace = os.replace

    def cut(source: Path, target: Path) -> None:
        if Path(target).name == "index.json" and Path(target).parent.name == "figures":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut)
    # A killed process undoes nothing.
    monkeypatch.setattr(swapping, "recover", lambda root: [])
    cut_off = run_notebooks(notebooks_of(root), options(root, update=True))
    assert cut_off.interrupted and one(cut_off).status == "not run"
    monkeypatch.undo()
    assert committed_files(root) != before
    drawing("nb00_new")
    run = run_notebooks(notebooks_of(root), options(root))
    assert committed_files(root) == before
    assert "notebooks/00_a.ipynb: put back, the update was cut off" in run.lines


def test_a_second_run_in_the_same_folder_is_refused(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    paths = notebooks_of(root)
    refused: list[str] = []

    def again(job: Job) -> dict[str, object]:
        if not refused:
            for wanted in (options(root), options(root, output=root / "other", update=True)):
                with pytest.raises(FolderError) as caught:
                    run_notebooks(paths, wanted)
                refused.append(str(caught.value))
            assert run_notebooks(paths, options(root, output=root / "third")).green
        return {"a": 1.0}

    fake(again)
    assert run_notebooks(paths, options(root, update=True)).green
    assert "another run is at work in" in refused[0] and refused[0].endswith(
        "give another --output"
    )
    assert "another run is at work in" in refused[1] and refused[1].endswith("run without --update")
    assert run_notebooks(paths, options(root)).green


def test_a_notebook_is_its_whole_path(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    places = [
        "notebooks/00_a",
        "00_a",
        "drafts/00_a",
        "drafts/exp.v1",
        "drafts/exp.v2",
        "notebooks/old/00_a",
    ]
    outside = tmp_path / "elsewhere" / "00_a.ipynb"
    for place in [root / f"{place}.ipynb" for place in places[1:]] + [outside]:
        place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook("x"), place)
    paths = [root / f"{place}.ipynb" for place in places] + [outside]
    numbers = {path: 1.0 + k for k, path in enumerate(paths)}
    names = ["00_a", "./00_a", *places[2:], outside.with_suffix("").as_posix()]
    entry = {"kind": "exact"}
    write_baseline(
        root,
        {name: {"a": entry | {"value": numbers[p]}} for name, p in zip(names, paths, strict=True)},
    )
    ran = fake(lambda job: {"a": numbers[job.notebook]})
    run = run_notebooks(paths, options(root))
    assert [row.notebook for row in run.results] == names and run.green, [
        row.problems for row in run.results
    ]
    for unique in ("key", "output", "figures", "name"):
        assert len({getattr(job, unique) for job in ran}) == len(paths)
    assert [row.metrics["a"] for row in run.results] == [1.0 + k for k in range(len(paths))]


def test_one_notebook_by_two_paths_is_refused_and_given_twice_runs_once(
    tmp_path: Path, fake: Callable[[Recorder], list[Job]]
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"))
    ran = fake(lambda job: {"a": 1.0})
    path = notebooks_of(root)[0]
    with pytest.raises(ParameterError, match="would share the files of '00_a'"):
        run_notebooks([path, path.parent / "../notebooks" / path.name], options(root))
    assert ran == []
    assert one(run_notebooks([path, path], options(root))).status == "passed" and len(ran) == 1


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


def test_interruption_keeps_what_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("x"), n01_b=notebook("y"))

    def execute(
        jobs: Sequence[Job],
        scratch: Path,
        at_once: int,
        done: Callable[[Execution], None],
        progress: object,
    ) -> None:
        done(Execution(jobs[0], "cell [1] raised ValueError: x", 0.1))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute_all", execute)
    run = run_notebooks(notebooks_of(root), options(root))
    assert run.interrupted
    assert [result.status for result in run.results] == ["failed", "not run"]
    assert run.report is not None
    assert "interrupted" in run.report.read_text()

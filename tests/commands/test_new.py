"""The command `new`: what it writes passes lint and its own tests as it is; nothing is lost."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eqprop_lab.__main__ import main
from eqprop_lab.commands import new
from eqprop_lab.regression.parameters import read_parameters
from eqprop_lab.regression.plan import read_notebook
from tools.anatomy.anatomy import lint_notebook

ROOT = Path(__file__).resolve().parents[2]
CODE = [kind for kind in new.KINDS if kind != "notebook"]
# the rules that ask for the outputs of a run
NOT_RUN = ("stored outputs", "code cells are not numbered")


def call(*arguments: str | Path) -> int:
    return main(["new", *map(str, arguments)])


def run(*command: str | Path, cwd: Path) -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_it_writes_passes_its_own_tests(tmp_path: Path) -> None:
    """All kinds in one process, warnings as errors; a YAML file finds what was imported."""
    for kind in CODE:
        assert call(kind, f"my_{kind}", "--folder", tmp_path) == 0
    (tmp_path / "own.yaml").write_text(
        "model: {name: my_model, params: {hidden_dim: 8}}\n"
        "training: {epochs: 1, gradient: my_estimator}\n"
        "data: {dataset: my_dataset, samples: 40}\n"
    )
    (tmp_path / "test_yaml.py").write_text(
        "from eqprop_lab.__main__ import main\n\n\n"
        "def test_yaml() -> None:\n"
        '    own = ["--import", "my_model", "--import", "my_estimator", "--import", "my_dataset"]\n'
        '    assert main([*own, "train", "own.yaml"]) == 0\n'
    )
    said = run("pytest", "-q", "-p", "no:xdist", "-W", "error", cwd=tmp_path)
    assert "18 passed" in said
    (run_folder,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert list(run_folder.iterdir())


@pytest.mark.parametrize("name", ["my", "a_name_as_long_as_any1"])
def test_what_it_writes_is_formatted_and_sorted(tmp_path: Path, name: str) -> None:
    """By the rules of the project in a checkout; elsewhere by those that ruff begins with, at both
    widths that are usual.
    """
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    checkout.mkdir()
    (checkout / "eqprop_lab").symlink_to(ROOT / "eqprop_lab")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    for number, kind in enumerate(new.KINDS):
        assert call(kind, f"{name}_{number}", "--folder", checkout) == 0
        if kind != "notebook":
            assert call(kind, f"{name}_{number}", "--folder", elsewhere) == 0
    for folder in (checkout, elsewhere):
        files = sorted(path.name for path in folder.glob("*[0-9].*"))
        assert len(files) == 2 * len(CODE) + (folder == checkout)
        run("ruff", "check", *files, cwd=folder)
        run("ruff", "format", "--check", *files, cwd=folder)
    run("ruff", "format", "--check", "--line-length", "100", ".", cwd=elsewhere)


def test_every_function_it_writes_has_types(tmp_path: Path) -> None:
    for kind in CODE:
        for text in new.begin(kind, f"my_{kind}", tmp_path).values():
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    taken = [*node.args.args, *node.args.kwonlyargs]
                    assert node.returns is not None, node.name
                    assert all(a.annotation or a.arg == "self" for a in taken), node.name


def test_a_notebook_keeps_to_the_anatomy(tmp_path: Path) -> None:
    """All that is left to ask for is a run; the number is the first that is free from 50 on."""
    (tmp_path / "50_other.ipynb").write_text("{}")
    assert call("notebook", "my_idea", "--folder", tmp_path) == 0
    path = tmp_path / "51_my_idea.ipynb"
    problems = lint_notebook(path)
    assert len(problems) == len(NOT_RUN)
    assert all(text.startswith(NOT_RUN) for text in problems)
    assert {"seed", "profile"} <= set(read_parameters(read_notebook(path), path.stem))
    ids = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert len(set(ids)) == len(ids) and all(i.startswith("nb51-") for i in ids)
    assert "nb50" not in path.read_text() and "# 51 · My idea" in path.read_text()


@pytest.mark.kernel
def test_a_notebook_runs_under_papermill(tmp_path: Path) -> None:
    assert call("notebook", "my_idea", "--folder", tmp_path) == 0
    options = ["--no-progress-bar", "-p", "seed", "3"]
    run("papermill", "50_my_idea.ipynb", "out.ipynb", *options, cwd=tmp_path)
    outputs = (tmp_path / "out.ipynb").read_text()
    assert "ok: formula against two settled states" in outputs


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("model", "MyModel", "lower case"),
        ("model", "my-model", "lower case"),
        ("model", "../up", "lower case"),
        ("model", "a" * 60, "at most 24"),
        ("model", "lambda", "Python itself"),
        ("dataset", "print", "Python itself"),
        ("rule", "test_rule", "test_"),
        ("estimator", "torch", "module 'torch'"),
        ("estimator", "strength", "'strength' stands for something else"),
        ("model", "tensor", "'Tensor' stands for something else"),
        ("estimator", "centered", "estimator 'centered' already"),
        ("dataset", "digits", "'digits'"),
        ("rule", "ada_fa", "rule 'ada_fa' already"),
        ("model", "densenet3", "model 'densenet3' already"),
    ],
)
def test_names_that_cannot_be(
    kind: str, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(kind, name, "--folder", tmp_path) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["my_model.py", "test_my_model.py"])
def test_nothing_is_overwritten(
    there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / there).symlink_to(tmp_path / "nowhere")
    assert call("model", "my_model", "--folder", tmp_path) == 2
    assert there in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [there]
    (tmp_path / "63_idea.ipynb").write_text("mine")
    assert call("notebook", "idea", "--folder", tmp_path) == 2
    assert (tmp_path / "63_idea.ipynb").read_text() == "mine"


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = new.replace_text

    def full(path: Path, text: str) -> Path:
        if path.name.startswith("test_"):
            raise OSError(28, "No space left on device", str(path))
        return whole(path, text)

    monkeypatch.setattr(new, "replace_text", full)
    assert call("model", "my_model", "--folder", tmp_path) == 2
    assert not list(tmp_path.iterdir())


def test_it_says_what_was_written_and_how_to_use_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("rule", "my_rule", "--folder", tmp_path / "deep" / "folder") == 0
    said = capsys.readouterr().out
    for file in ("my_rule.py", "test_my_rule.py"):
        assert str(tmp_path / "deep" / "folder" / file) in said
        assert (tmp_path / "deep" / "folder" / file).is_file()
    assert "python -m pytest" in said and "algorithm: my_rule" in said
    assert "--import my_rule train" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--import"], "got nothing"),
        (["--import", "own.py/x", "train"], "'own.py/x'"),
        (["--import", "no_such_module_here", "train"], "no_such_module_here"),
    ],
)
def test_an_import_that_cannot_be(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err

"""The set-up files agree with each other, and a wheel of the project works outside the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import eqprop_lab

ROOT = Path(__file__).resolve().parent.parent
CARD = {
    "jupyterlab",
    "torch",
    "torchvision",
    "cupy-cuda12x",
    "matplotlib",
    "ipywidgets",
    "nbval",
    "papermill",
}


def project() -> dict[str, Any]:
    """The [project] table."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    return table


def declared() -> dict[str, Requirement]:
    """Every package pyproject.toml asks for, core and extras, without the project itself."""
    table = project()
    lines = table["dependencies"] + [
        r for extra in table["optional-dependencies"].values() for r in extra
    ]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        found[canonicalize_name(requirement.name)] = requirement
    del found[canonicalize_name(table["name"])]
    return found


def pins() -> dict[str, Version]:
    """The versions of constraints.txt; a line of any other form fails here."""
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line)
        assert match, (
            f"constraints.txt: {line!r} is no plain name==version (no local tags, no paths)"
        )
        name = canonicalize_name(match[1])
        assert name not in found, f"constraints.txt names {name} twice"
        found[name] = Version(match[2])
    return found


def environment() -> dict[str, Any]:
    """environment.yml."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    return loaded


def pip_section() -> list[str]:
    """The lines of the one pip section of environment.yml."""
    sections = [entry["pip"] for entry in environment()["dependencies"] if isinstance(entry, dict)]
    assert len(sections) == 1
    lines: list[str] = sections[0]
    return lines


def test_environment_installs_this_project_from_the_pinned_list() -> None:
    lines = pip_section()
    assert "-c constraints.txt" in lines
    (editable,) = [line for line in lines if line.startswith("-e ")]
    match = re.fullmatch(r"-e \.\[([a-z0-9,]+)\]", editable)
    assert match
    assert set(match[1].split(",")) <= set(project()["optional-dependencies"])


def test_environment_names_the_packages_of_the_card_as_pyproject_does() -> None:
    known = declared()
    named = [Requirement(line) for line in pip_section() if not line.startswith("-")]
    assert {r.name for r in named} >= CARD
    for requirement in named:
        assert requirement.name in known, f"{requirement.name} is not in pyproject.toml"
        assert requirement.extras == known[requirement.name].extras
        assert not requirement.specifier, f"{requirement}: versions stand in constraints.txt only"
    (cupy,) = [r for r in named if r.name == "cupy-cuda12x"]
    assert cupy.marker and cupy.marker.evaluate({"sys_platform": "linux"})
    assert not cupy.marker.evaluate({"sys_platform": "darwin"})


def test_environment_takes_torch_and_cupy_for_one_cuda() -> None:
    """CuPy's CUDA libraries and those of torch are one package at two versions: a mix cannot be
    installed.
    """
    lines = pip_section()
    (index,) = [line for line in lines if line.startswith("--extra-index-url")]
    assert re.findall(r"/cu(\d\d)\d$", index) == re.findall(r"cupy-cuda(\d\d)x", " ".join(lines))


def test_python_range_is_one() -> None:
    (python,) = [
        d for d in environment()["dependencies"] if isinstance(d, str) and d.startswith("python")
    ]
    lowest = project()["requires-python"]
    assert lowest in {str(bound) for bound in Requirement(python).specifier}
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    tested = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert f">={tested[0]}" == lowest
    assert all(Requirement(python).specifier.contains(version) for version in tested)


def test_every_declared_package_is_pinned_within_its_range() -> None:
    known = pins()
    for name, requirement in declared().items():
        assert name in known, f"{name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(known[name]), (
            f"{requirement} excludes its pin {known[name]}"
        )
    assert known["torch"] == Version("2.13.0")
    assert known["torchvision"] == Version("0.28.0")


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "environment.yml", "Makefile", ".github/workflows/ci.yml"]
)
def test_versions_are_pinned_nowhere_else(name: str) -> None:
    assert not re.search(r"[A-Za-z\]]\s*==\s*\d", (ROOT / name).read_text(encoding="utf-8"))


def test_gpu_extras_bring_the_cuda_libraries() -> None:
    extras = project()["optional-dependencies"]
    assert set(extras) == {
        "lab", "test", "datasets", "tracking", "onnx", "sweep", "bench", "gpu", "gpu13",
        "all", "site", "scale", "serve", "dashboard",
    }  # fmt: skip
    for extra, package in (("gpu", "cupy-cuda12x"), ("gpu13", "cupy-cuda13x")):
        (requirement,) = map(Requirement, extras[extra])
        assert (requirement.name, requirement.extras) == (package, {"ctk"})


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the project, installed into an empty folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "eqprop_lab", source / "eqprop_lab", ignore=shutil.ignore_patterns("__pycache__")
    )
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-index",
    ]
    options = ["--no-deps", "--no-build-isolation", "--no-compile", "--target", str(target)]
    done = subprocess.run([*pip, *options, str(source)], capture_output=True, text=True, cwd=source)
    assert done.returncode == 0, done.stderr
    return target


def test_wheel_holds_every_file_of_the_package(installed: Path) -> None:
    def files(folder: Path) -> set[str]:
        found = (
            f
            for f in (folder / "eqprop_lab").rglob("*")
            if f.is_file() and "__pycache__" not in f.parts
        )
        return {f.relative_to(folder).as_posix() for f in found}

    assert files(ROOT) == files(installed)
    assert (installed / "eqprop_lab" / "__init__.py").exists()


OUTSIDE = """
import sys
from importlib.metadata import version
from pathlib import Path
import matplotlib
import eqprop_lab
from importlib.resources import as_file, files
home = Path(eqprop_lab.__file__).resolve()
assert home.is_relative_to(Path(sys.argv[1]).resolve()), home
data = eqprop_lab.build_dataset("digits")
assert len(data.train.x) and len(data.validation.x) and len(data.test.x)
with as_file(files("eqprop_lab.notebook") / "eqprop.mplstyle") as style:
    before = dict(matplotlib.rcParams)
    matplotlib.style.use(style)
    assert dict(matplotlib.rcParams) != before
print(version("eqprop_lab"))
"""


def test_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-P", "-W", "error", "-c", OUTSIDE, str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == eqprop_lab.__version__


def test_every_tool_that_contributing_names_is_installed_by_the_default_extras() -> None:
    """`make` installs lab and test; a first word in backticks that is a program must come with
    them.
    """
    extras = project()["optional-dependencies"]
    installed = {
        canonicalize_name(Requirement(line).name) for line in [*extras["lab"], *extras["test"]]
    }
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    commands = re.findall(r"`((?:\.venv/bin/)?[a-z][a-z-]+) [^`]+`", text)
    programs = {Path(command).name for command in commands} - {"make", "git"}
    assert "pre-commit" in programs and programs <= installed | {"python"}
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][
        0
    ]["hooks"]
    modules = {match[1] for hook in hooks if (match := re.search(r"-m ([a-z]+)", hook["entry"]))}
    assert modules and modules <= installed


@pytest.mark.skipif(shutil.which("git") is None or os.name == "nt", reason="git is not installed")
def test_pre_commit_hooks_run_without_a_network(tmp_path: Path) -> None:
    for name in (".pre-commit-config.yaml", "pyproject.toml", "tools/strip_widget_state.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    # No link: a link would look for the packages beside itself.
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "untidy.py").write_text('"""A module."""\nx=1\n', encoding="utf-8")
    closed = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    environ = {**os.environ, **closed, "PRE_COMMIT_HOME": str(tmp_path / "home"), "SKIP": "mypy"}
    identity = [
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@example.org",
        "-c",
        "init.defaultBranch=main",
    ]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)

    assert run("git", *identity, "init", "--quiet").returncode == 0
    assert run(sys.executable, "-m", "pre_commit", "install").returncode == 0
    assert (
        run(
            "git", "add", "--", ".pre-commit-config.yaml", "pyproject.toml", "tools", "untidy.py"
        ).returncode
        == 0
    )
    refused = run("git", *identity, "commit", "-m", "Untidy")
    assert refused.returncode == 1 and "ruff format" in refused.stderr, refused.stderr
    assert (tmp_path / "untidy.py").read_text(encoding="utf-8") == '"""A module."""\n\nx = 1\n'
    assert run("git", "add", "untidy.py").returncode == 0
    accepted = run("git", *identity, "commit", "-m", "Tidy")
    assert accepted.returncode == 0, accepted.stderr

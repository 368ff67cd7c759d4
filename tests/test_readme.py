"""The README is true: its code runs, its commands exist, its tables and links are those of the
project.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.regression.test_plain_tools import check_seeded

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line for language, code in BLOCKS if language == "console" for line in code.splitlines()
]


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "console"}
    assert len(PYTHON) >= 3 and "make lab" in COMMANDS and "make test" in COMMANDS
    # These two stand for runs that tests/regression/test_plain_tools.py does not repeat.
    for tool in (
        r"papermill notebooks/00\S* out.ipynb -p seed 3",
        r"pytest --nbval-lax notebooks/00",
    ):
        assert re.search(tool, README), tool


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number: int, tmp_path: Path) -> None:
    assert run(sys.executable, "-W", "error", "-c", PYTHON[number], cwd=tmp_path).strip()


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make")])
def test_make_commands_exist(command: str) -> None:
    # A dry run: this test is itself part of one of them.
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    assert run(*shlex.split(command), "--dry-run").strip()


def interpreted(command: str) -> list[str]:
    """A command of the README with this interpreter in the place of the environment's."""
    words = shlex.split(command.replace("\\", "/"))
    for tool in (".venv/bin/python", ".venv/Scripts/python", "python"):
        if words[0] == tool:
            return [sys.executable, *words[1:]]
    assert words[0] == ".venv/bin/papermill", f"a command no test knows: {command}"
    return [sys.executable, "-m", "papermill", *words[1:]]


@pytest.mark.kernel
@pytest.mark.parametrize("command", [line for line in COMMANDS if not line.startswith("make")])
def test_other_commands_work(command: str, tmp_path: Path) -> None:
    words = interpreted(command)
    module, rest = words[2], words[3:]
    if module == "venv":
        run(*words[:3], "--without-pip", str(tmp_path / "env"))
    elif module == "pip":
        run(*words, "--dry-run", "--no-deps", "--no-build-isolation", "--quiet")
    elif module == "jupyterlab":
        assert all((ROOT / word.removeprefix("--config=")).is_file() for word in rest)
        assert run(*words[:3], "--version").strip()
    elif module == "pytest" and not rest:
        assert "test_readme.py" in run(
            *words, "--collect-only", "-q", "tests/test_readme.py", "--no-cov"
        )
    elif module == "eqprop_lab" and rest[0] == "train":
        run(*words, "--runs", str(tmp_path / "runs"))
    elif module == "eqprop_lab" and rest[0] == "run":
        run(*words, "--output", str(tmp_path / "runs"))
    elif module == "papermill":
        out = tmp_path / "out.ipynb"
        said = run(*words[:3], *(str(out) if word == out.name else word for word in rest))
        assert "unknown parameter" not in said
        check_seeded(out)
    elif module == "pytest":
        assert re.search(r"\d+ passed", run(*words))
    else:
        run(*words)


@pytest.mark.kernel
def test_plain_papermill_only_warns_of_a_misspelt_name_and_the_runner_refuses(
    tmp_path: Path,
) -> None:
    notebook, words = str(ROOT / "notebooks" / "00_start_here.ipynb"), ["-p", "sede", "3"]
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--prepare-only",
        notebook,
        str(tmp_path / "out.ipynb"),
        *words,
    ]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=300)
    warning = re.search(r"`(Passed unknown parameter: sede)`", README)
    assert plain.returncode == 0 and warning and warning[1] in plain.stderr
    command = [
        sys.executable,
        "-m",
        "eqprop_lab",
        "run",
        "00",
        "--output",
        str(tmp_path / "runs"),
        *words,
    ]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert refused.returncode != 0 and "sede" in refused.stdout + refused.stderr


def test_start_says_what_the_first_run_costs_and_what_keeps_git_clean() -> None:
    start = README[README.index("## Start") : README.index("## The series")]
    assert re.search(r"first run [^.]*\bminutes\b", start) and re.search(r"\b\d+ MB\b", start)
    assert "`git status` clean" in start and "jupyter/jupyter_server_config.py" in start
    assert "/notebooks/my_*.ipynb" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_tables_are_up_to_date() -> None:
    run(sys.executable, "tools/readme_tables.py", "--check")


def test_links_and_pictures_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r'(?:src|href)="([^"]+)"', README)
    local = [target for target in targets if "://" not in target]
    assert len(local) >= 8
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_every_picture_says_what_is_seen() -> None:
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', README)
    assert len(alts) == README.count("<img ") >= 3 and all(len(alt) >= 20 for alt in alts)

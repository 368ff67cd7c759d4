"""`make` and `.ci/run` with a stand-in for Python: nothing is installed or opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Answers the checks of the Makefile, makes a .venv whose python is itself, and writes down every
# other call.
PYTHON = """#!/bin/sh
case "$*" in
  *ensurepip*) exit {ensurepip} ;;
  *version_info*) exit {too_old} ;;
  *sys.version*) echo 3.9.1 ;;
  "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *) echo "$*" >> calls.txt; echo "$JUPYTER_CONFIG_PATH" > config.txt ;;
esac
"""


def script(path: Path, text: str) -> Path:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what `make` reads."""
    folder = tmp_path / "a checkout"
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/run"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run(checkout: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run in the checkout, without the display and the make variables of whoever runs the tests."""
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    own = {
        "PIP_ARGS",
        "CONSTRAINTS",
        "EXTRAS",
        "LAB_ARGS",
        "DASHBOARD_ARGS",
        "PYTEST_ARGS",
        "NB",
        "PROFILE",
        "UPDATE",
    }
    clean = {k: v for k, v in os.environ.items() if k not in hidden | own}
    return subprocess.run(
        command, cwd=checkout, env=clean | environ, capture_output=True, text=True
    )


def make(
    checkout: Path, *arguments: str, too_old: int = 0, ensurepip: int = 0, **environ: str
) -> list[str]:
    """Run make with the stand-in; what .venv's python was asked to do since."""
    python = script(checkout.parent / "python", PYTHON.format(too_old=too_old, ensurepip=ensurepip))
    (checkout / "calls.txt").write_text("", encoding="utf-8")
    done = run(checkout, "make", f"PYTHON={python}", *arguments, **environ)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return (checkout / "calls.txt").read_text(encoding="utf-8").splitlines()


def test_first_run_installs_and_the_second_reuses(checkout: Path) -> None:
    first = make(checkout, "install", "PIP_ARGS=--extra-index-url wheels")
    assert all(" install --extra-index-url wheels -c constraints.txt " in call for call in first)
    assert [call.split()[-1] for call in first] == ["setuptools", ".[lab,test]"]
    assert make(checkout, "install") == []
    assert make(checkout, "install", "EXTRAS=lab,test,gpu")[-1].endswith("-e .[lab,test,gpu]")


def test_a_changed_list_installs_again(checkout: Path) -> None:
    make(checkout, "install")
    later = time.time() + 5
    os.utime(checkout / "constraints.txt", (later, later))
    assert len(make(checkout, "install")) == 2


def test_canary_installs_without_the_pinned_list(checkout: Path) -> None:
    assert not any("-c " in call for call in make(checkout, "install", "CONSTRAINTS="))


def test_test_measures_coverage_and_uses_all_cores(checkout: Path) -> None:
    shared = "-n auto --no-loadscope-reorder"
    assert make(checkout, "test", "PYTEST_ARGS=-x")[-1] == f"-m pytest --cov=eqprop_lab {shared} -x"
    assert "-n 1 " in make(checkout, "test", "WORKERS=1")[-1]


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ([], "-m eqprop_lab run"),
        (
            ["UPDATE=1", "PROFILE=full", "NB=notebooks/04_looped_mlp.ipynb"],
            "-m eqprop_lab run --update --profile full 04_looped_mlp",
        ),
    ],
)
def test_notebooks_pass_their_variables_on(checkout: Path, arguments: list[str], call: str) -> None:
    assert make(checkout, "notebooks", *arguments)[-1] == call


def test_dashboard_installs_its_extra_and_starts(checkout: Path) -> None:
    first, call = make(checkout, "dashboard", "DASHBOARD_ARGS=--theme light")[-2:]
    assert first.endswith("-e .[dashboard]")
    assert call == "-m eqprop_lab dashboard --theme light"


def test_lab_opens_the_first_notebook_from_the_root(checkout: Path) -> None:
    call = make(checkout, "lab", "LAB_ARGS=--port=9000")[-1]
    assert call.startswith("-m jupyterlab ")
    assert f"--ServerApp.root_dir={checkout}" in call
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in call
    assert call.endswith(" --port=9000")


@pytest.mark.parametrize("own", ["", "/etc/somewhere"])
def test_lab_reads_the_projects_settings_before_the_users(checkout: Path, own: str) -> None:
    make(checkout, "lab", JUPYTER_CONFIG_PATH=own)
    path = (checkout / "config.txt").read_text(encoding="utf-8").strip()
    assert path == f"{checkout}/jupyter{own and ':' + own}"


def test_bench_runs_every_script(checkout: Path) -> None:
    for name in ("bench_latency", "bench_speed", "store"):
        script(checkout / "tests" / "benchmarks" / f"{name}.py", "")
    assert make(checkout, "bench")[-2:] == [
        f"-m tests.benchmarks.bench_{what}" for what in ("latency", "speed")
    ]


@pytest.mark.parametrize(
    ("user", "system", "display", "flags"),
    [
        ("0", "Linux", "", {"--allow-root", "--no-browser"}),
        ("1000", "Linux", "", {"--no-browser"}),
        ("1000", "Linux", ":0", set()),
        ("501", "Darwin", "", set()),
    ],
)
def test_lab_fits_the_machine(
    checkout: Path, user: str, system: str, display: str, flags: set[str]
) -> None:
    script(checkout.parent / "bin" / "id", f"#!/bin/sh\necho {user}\n")
    script(checkout.parent / "bin" / "uname", f"#!/bin/sh\necho {system}\n")
    path = f"{checkout.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    call = make(checkout, "lab", PATH=path, DISPLAY=display)[-1]
    assert {"--allow-root", "--no-browser"} & set(call.split()) == flags


@pytest.mark.parametrize(
    ("answers", "advice"),
    [
        ({"too_old": 1}, "is 3.9.1, and eqprop_lab needs Python 3.11 or newer"),
        ({"ensurepip": 1}, "install its venv module (Debian, Ubuntu: apt install python3-venv)"),
    ],
)
def test_unfit_python_is_one_line_of_advice(
    checkout: Path, answers: dict[str, int], advice: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        make(checkout, "lab", **answers)
    said = [line for line in str(caught.value).splitlines() if not line.startswith("make")]
    assert len(said) == 1 and advice in said[0]
    assert not (checkout / ".venv").exists()


def test_missing_python_is_one_line_of_advice(checkout: Path) -> None:
    done = run(checkout, "make", "test", "PYTHON=no-such-python")
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode and len(said) == 1 and "install Python 3.11 or newer" in said[0]


def test_help_is_the_default_and_names_every_target(checkout: Path) -> None:
    done = run(checkout, "make")
    assert done.returncode == 0
    targets = ("lab", "test", "notebooks", "nbval", "lint", "bench", "clean", "help")
    assert all(f"make {target} " in done.stdout for target in targets)
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("status", [0, 3])
def test_ci_run_is_the_test_command_and_its_verdict(checkout: Path, status: int) -> None:
    tools = checkout.parent / "bin"
    script(tools / "make", f'#!/bin/sh\necho make "$@"\nexit {status}\n')
    script(tools / "chromium", "#!/bin/sh\n")
    done = run(checkout, "bash", ".ci/run", PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (status, "make test\n")


def test_ci_run_goes_on_without_a_browser(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    script(tools / "make", '#!/bin/sh\necho make "$@"\n')
    script(tools / "id", "#!/bin/sh\necho 0\n")
    script(tools / "apt-get", "#!/bin/sh\necho no network >&2\nexit 100\n")
    for name in ("bash", "dirname"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    done = run(checkout, "bash", ".ci/run", PATH=str(tools))
    reason, command = done.stdout.splitlines()
    assert done.returncode == 0 and command == "make test"
    assert reason.startswith("browser tests will be skipped: apt-get could not install chromium")

"""The runner with real kernels on tiny notebooks: every way a notebook can go wrong without
papermill noticing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from eqprop_lab.regression import execute, one_notebook
from eqprop_lab.regression.execute import Job, Running, execute_all, kernel_count
from eqprop_lab.regression.parameters import ParameterError
from eqprop_lab.regression.report import NotebookResult
from eqprop_lab.regression.runner import run_notebooks
from tests.regression.tiny import notebook, notebooks_of, options, project, recording
from tests.waiting import PATIENCE, until
from tools.anatomy.anatomy import RULES
from tools.anatomy.view import View

pytestmark = pytest.mark.kernel

SHOW_ENVIRONMENT = (
    "import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['EQPROP_NOTEBOOK'], profile, rate)"
)
THREAD = """import threading
t = threading.Thread(target=lambda: 1 / 0, name='learner')
t.start()
t.join()"""
SLIDER = """import ipywidgets
@ipywidgets.interact(x=(0, 3))
def draw(x=1):
    raise ValueError("slider broke")"""
ALERT = "import ipywidgets\nipywidgets.HTML('<div role=\"alert\">worker failed</div>')"
ENDLESS = "while True:\n    print('x' * 10_000)"
ENDLESS_PICTURES = """from IPython.display import display
while True:
    display({'image/png': 'A' * 100_000, 'text/plain': ''}, raw=True)"""
CLEARED = """from IPython.display import clear_output
for k in range(30):
    clear_output(wait=True)
    print('x' * 100_000)"""
# does not end by itself while a test waits for its end
SLOW = f"import time\ntime.sleep({10 * PATIENCE})"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookResult]:
    """One run of all tiny notebooks; the slow one brings its own limit of 3 s, and all may put out
    a megabyte.
    """
    good = recording(a="1.0")
    slow = notebook(SLOW, good)
    slow.metadata["eqprop"] = {"time_limit": {"smoke": 3}}
    unknown = notebook("x = 1", good)
    unknown.metadata["kernelspec"] = {
        "name": "julia-9.9",
        "display_name": "Julia",
        "language": "julia",
    }
    root = project(
        tmp_path_factory.mktemp("tiny") / "p",
        n00_ok=notebook(SHOW_ENVIRONMENT, recording(a="2 * rate")),
        n01_raises=notebook("1 / 0", good),
        n02_thread=notebook(THREAD, good),
        n03_slider=notebook(SLIDER, good),
        n04_alert=notebook(ALERT, good),
        n05_slow=slow,
        n06_dies=notebook("import os\nos._exit(1)", good),
        n07_prints=notebook(ENDLESS, good),
        n08_draws=notebook(ENDLESS_PICTURES, good),
        n09_clears=notebook(CLEARED, good),
        n10_kernel=unknown,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "OUTPUT_LIMIT", 10**6)
        run = run_notebooks(notebooks_of(root), options(root, jobs=kernel_count(None)))
    assert run.report is not None
    assert run.report.exists()
    return {result.key: result for result in run.results}


def test_a_sound_notebook_is_green(results: dict[str, NotebookResult]) -> None:
    assert results["00_ok"].status == "passed", results["00_ok"].problems
    assert results["00_ok"].metrics == {"a": 1.0}


def test_output_that_a_notebook_clears_does_not_count(results: dict[str, NotebookResult]) -> None:
    assert results["09_clears"].status == "passed", results["09_clears"].problems


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("01_raises", "cell [3] raised ZeroDivisionError: division by zero"),
        ("02_thread", "exception in thread learner: ZeroDivisionError: division by zero"),
        ("03_slider", "OutputModel: error ValueError: slider broke"),
        ("04_alert", "HTMLModel: alert: worker failed"),
        ("05_slow", "time limit of 3 s reached"),
        ("06_dies", "DeadKernelError: Kernel died"),
        ("07_prints", "cell [3]: more than 1 MB of output, stopped: print less, or to a file"),
        ("08_draws", "cell [3]: more than 1 MB of output, stopped: print less, or to a file"),
        ("10_kernel", "NoSuchKernel: No such kernel named julia-9.9"),
    ],
)
def test_a_broken_notebook_is_red_and_says_why(
    results: dict[str, NotebookResult], key: str, problem: str
) -> None:
    assert results[key].status == "failed"
    assert results[key].problems == [problem]


def test_update_writes_a_clean_copy_and_a_second_update_the_same(tmp_path: Path) -> None:
    root = project(tmp_path / "p", n00_a=notebook(SHOW_ENVIRONMENT, recording(a="1.0")))
    path = notebooks_of(root)[0]
    assert run_notebooks([path], options(root, update=True)).green
    view = View.read(path)
    of_outputs = [rule for rule in RULES if rule.find.__module__ == "tools.anatomy.outputs"]
    assert len(of_outputs) > 5
    assert {rule.name: hits for rule in of_outputs if (hits := [*rule.find(view)])} == {}
    assert view.cells[2].outputs[0].text == "1 00_a smoke 0.5\n"
    assert view.cells[3].outputs == []
    first = path.read_text()
    assert run_notebooks([path], options(root, update=True)).green
    assert path.read_text() == first


def gone(pid: int) -> bool:
    """Whether the process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


MARK = """import os, pathlib
pathlib.Path('pid.part').write_text(f"{os.getpid()} {os.getppid()}")
os.rename('pid.part', 'pid')"""


def pids(root: Path, runner: subprocess.Popen[str]) -> list[int]:
    """Process ids of the kernel and of its worker, as the notebook MARK has written them."""
    file = root / "notebooks" / "pid"
    until(lambda: file.exists() or runner.poll() is not None, "the file pid")
    assert file.exists(), runner.communicate()[0]
    return [int(pid) for pid in file.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_runner_that_is_killed_leaves_no_worker_and_no_kernel(
    tmp_path: Path, number: signal.Signals
) -> None:
    root = project(tmp_path / "p", n00_slow=notebook(MARK, SLOW, recording(a="1.0")))
    command = [sys.executable, "-m", "eqprop_lab", "run", "--jobs", "1"]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    left = pids(root, process)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=PATIENCE)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130 and "00_slow   not run" in printed
    until(lambda: all(map(gone, left)), "the end of worker and kernel")


def test_ctrl_c_keeps_finished_notebooks_and_leaves_no_kernel(tmp_path: Path) -> None:
    root = project(
        tmp_path / "p",
        n00_ok=notebook(recording(a="1.0")),
        n01_slow=notebook(MARK, SLOW, recording(a="1.0")),
    )
    command = [sys.executable, "-m", "eqprop_lab", "run", "--jobs", "1"]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    left = pids(root, process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, printed
    assert "1 of 2 passed" in printed
    assert "01_slow   not run" in printed
    assert "report.html" in printed
    assert (
        nbformat.read(root / "runs" / "notebooks" / "00_ok.ipynb", as_version=4).cells[-1].outputs
    )
    until(lambda: all(map(gone, left)), "the end of worker and kernel")


def test_the_worker_carries_a_job_and_reports_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQPROP_NOTEBOOK", "restored after the test")
    handler = signal.getsignal(signal.SIGTERM)
    root = project(tmp_path / "p", n00_a=notebook("print(rate)"))
    job = {
        "input": str(notebooks_of(root)[0]),
        "output": str(tmp_path / "out.ipynb"),
        "parameters": {"rate": 0.25},
        "env": {"EQPROP_NOTEBOOK": "00_a"},
        "cwd": str(root),
        "limit": PATIENCE,
        "output_limit": 10**6,
        "hook": str(Path(one_notebook.__file__).with_name("thread_hook.py")),
        "progress": str(tmp_path / "progress"),
        "result": str(tmp_path / "result"),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    try:
        assert one_notebook.main(str(tmp_path / "job.json")) == 0
        assert json.loads((tmp_path / "result").read_text())["error"] is None
        executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
        assert executed.cells[-1].outputs[0].text == "0.25\n"
        (tmp_path / "job.json").write_text(
            json.dumps(job | {"input": str(tmp_path / "absent.ipynb")})
        )
        assert one_notebook.main(str(tmp_path / "job.json")) == 0
        assert "No such file" in json.loads((tmp_path / "result").read_text())["error"]
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_a_job_that_cannot_start_is_reported_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Running, job: Job, scratch: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Running, "__init__", full)
    jobs = [
        Job(key, tmp_path / f"{key}.ipynb", tmp_path / "o.ipynb", {}, 1.0) for key in ("a", "b")
    ]
    seen: list[tuple[str, str | None]] = []
    execute_all(
        jobs,
        tmp_path / "logs",
        1,
        lambda execution: seen.append((execution.job.key, execution.error)),
    )
    assert seen == [(key, "cannot start: No space left on device") for key in ("a", "b")]


def test_kernel_count() -> None:
    assert kernel_count(3) == 3
    assert 1 <= kernel_count(None) <= 2
    with pytest.raises(ValueError, match="--jobs must be at least 1, got 0"):
        kernel_count(0)


def test_plain_papermill_runs_on_with_a_misspelt_name_where_the_runner_stops(
    tmp_path: Path,
) -> None:
    root = project(tmp_path / "p", n00_a=notebook("print('seed is', seed)", recording(a="1.0")))
    command = [
        sys.executable,
        "-m",
        "papermill",
        "notebooks/00_a.ipynb",
        "out.ipynb",
        "-p",
        "sed",
        "3",
    ]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0 and "Passed unknown parameter: sed" in done.stdout + done.stderr
    cells = nbformat.read(root / "out.ipynb", as_version=4).cells
    assert [c.outputs[0].text for c in cells if "seed is" in c.source] == ["seed is 0\n"]
    with pytest.raises(ParameterError, match="00_a: unknown parameter 'sed'; did you mean 'seed'"):
        run_notebooks(notebooks_of(root), options(root, parameters={"sed": "3"}))

"""The grader: right, mistaken and hostile submissions, each in a cell of its own."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from eqprop_lab.commands.course import main
from eqprop_lab.course import grading, sandbox
from eqprop_lab.course.classes import class_of
from eqprop_lab.course.grading import Graded, Verdict, _Desk, grade, prepared
from eqprop_lab.course.masters import Master, MasterError
from eqprop_lab.course.memory import watched
from eqprop_lab.course.reading import (
    EVASIVE,
    UnreadableAnswer,
    answer_alone,
    forbidden_in,
    is_open,
    notable_in,
    sets_any,
)
from eqprop_lab.course.remote import Answer, Limits, Stopped, Worker
from eqprop_lab.course.report import feedback, grades_csv, write_reports
from eqprop_lab.course.submissions import LARGEST, Submission, submission
from eqprop_lab.regression.plan import find_notebooks
from tests.course.handed_in import RIGHT, hand_in, tiny_master
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
NO_CELL = sandbox.fault([])
isolated = pytest.mark.skipif(bool(NO_CELL), reason=f"no isolation here: {NO_CELL}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("class")


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Master:
    return tiny_master(tmp_path_factory.mktemp("masters"))


@contextmanager
def desk(master: Master, seconds: float) -> Iterator[Callable[[str, str], Verdict]]:
    """Judge answers one after the other, in one kernel while it lives."""
    ready = prepared(master.path, 3)
    tasks = {task.cells.name: task for task in ready.tasks}
    made = _Desk(ready, 3, Limits(seconds))
    try:
        yield lambda name, source: made.judge(tasks[name], source)
    finally:
        made.close()


PARTLY = {
    "half": "def half(x, y):\n    return x / 2, y",
    "twice": "def twice(x, y):\n    return -2.0 * x",
    "spoils": "def spoils(x, y):\n    y += 0.5\n    return y - 0.5",
    "counts": "def counts(work, x):\n    return work(work(x) / x)",
    "maker": "def maker(a):\n    return lambda x: a * x if x == 2.0 else 7.0",
}


@isolated
@pytest.mark.kernel
def test_right_and_partly_right_answers_get_their_points(master: Master) -> None:
    for seed in (3, 4):  # another seed in between does not change the cases of this one
        prepared(master.path, seed)
    with desk(master, 20) as judge:
        right = {name: judge(name, source) for name, source in RIGHT.items()}
        partly = {name: judge(name, source) for name, source in PARTLY.items()}
    assert {name: v.points for name, v in right.items()} == {n: v.of for n, v in right.items()}
    assert all(v.says.startswith("ok: ") for v in right.values())
    assert partly["half"].points == 0.25 and "the rest is right" in partly["half"].says
    assert partly["twice"].points == 0 and "sign" in partly["twice"].says
    assert "changes its argument 2 in place" in partly["spoils"].says
    assert "2 calls" in partly["counts"].says
    assert "maker: odd" in partly["maker"].says


LOOK = """import os, socket
os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "86487")
seen = [path for path in {paths} if os.path.exists(path)]
seen += [name for name in dir() if "SECRET" in name or name.startswith("check_")]
seen += [name for _, name in socket.if_nameindex() if name != "lo"]
seen += [name for name in os.listdir("/proc") if name.isdecimal() and int(name) > 2000]
for place in (os.path.dirname(nb.__file__), "/usr"):
    try:
        os.mkdir(place + "/mine")
        seen.append(place)
    except OSError:
        pass
def half(x, y):
    raise ValueError(f"seen: {{seen}}")"""
PATCHED = """np.allclose = torch.allclose = torch.equal = lambda *a, **k: True
nb.Exercise.__call__ = lambda *a: print("ok")
torch.Tensor.norm = lambda *a: 0.0
def twice(x, y):
    return x"""


@isolated
@pytest.mark.kernel
def test_hostile_answers_gain_nothing_see_nothing_and_cost_others_nothing(
    master: Master, folder: Path
) -> None:
    victim = hand_in(folder, "ada", master, RIGHT)
    text = victim.read_text("utf-8")
    hidden = [str(path) for path in (master.path, ROOT / "notebooks", ROOT / ".git", victim)]
    with desk(master, 5) as judge:
        look = judge("half", LOOK.format(paths=hidden))
        patched = judge("twice", PATCHED)
        leaves = judge("counts", "def counts(work, x):\n    import os\n    os._exit(0)")
        loops = judge("maker", "def maker(a):\n    while True:\n        pass")
        floods = judge("half", "def half(x, y):\n    while True:\n        display('x' * 10**6)")
    assert "seen: []" in look.says
    assert "twice" in patched.says and "Not yet" in patched.says
    assert "its process ended" in leaves.says and leaves.notes == ("os", "stopped")
    assert "took too long" in loops.says
    assert any(said in floods.says for said in ("print without end", "took too long"))
    assert not any(v.points for v in (look, patched, leaves, loops, floods))
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(b"86487" in line for line in running)
    assert victim.read_text("utf-8") == text


def test_a_kernel_that_fails_twice_is_no_fault_of_a_submission(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    class Broken:
        def __init__(self, limits: Limits) -> None:
            tried.append(limits)

        def run(self, source: str) -> dict[str, object]:
            raise Stopped("its process ended")

        def close(self) -> None: ...

    monkeypatch.setattr(grading, "Worker", Broken)
    with pytest.raises(MasterError, match="99_tiny.ipynb does not start: its process ended"):
        grade(Submission("s", master.path, RIGHT), 3, Limits())
    assert len(tried) == 2


def test_the_command_refuses_where_nothing_isolates(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "TOOLS", ("no-such-tool",))
    (folder / "bo").mkdir()
    (folder / "bo" / "03_two_phases_and_gradients.ipynb").write_text("{}")
    out = folder.parent / "g.csv"
    assert main(["grade", str(folder), "--out", str(out), "--notebooks", "03"]) == 2
    assert "cannot be isolated here: no-such-tool not found" in capsys.readouterr().err
    assert not out.exists()
    assert main(["grade", str(folder), "--out", str(folder / "bo" / "g.csv")]) == 2
    assert "lies among the submissions" in capsys.readouterr().err


@isolated
def test_a_cell_that_shows_what_it_must_hide_is_no_cell() -> None:
    assert "would see" in sandbox.fault([sandbox.PACKAGE])


def test_answers_are_found_by_id_mark_or_name(tmp_path: Path, master: Master) -> None:
    path = hand_in(tmp_path, "ada", master, RIGHT)
    assert submission(tmp_path, "ada", master).answers == RIGHT
    text = path.read_text("utf-8")
    for gone in ('"id": "', '"grade_id": "'):
        text = text.replace(gone, gone[:-1] + '"x')
        path.write_text(text, encoding="utf-8")
        assert submission(tmp_path, "ada", master).answers == RIGHT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"cells": [', "not a notebook"),
        ("[" * 100_000, "not a notebook"),
        ("\x00\xff", "not a notebook"),
        ('{"cells": 3}', "not a notebook"),
        ("", "not a notebook"),
        ("x" * (LARGEST + 1), "has 20 MB"),
    ],
    ids=["truncated", "deep", "binary", "no cells", "empty", "huge"],
)
def test_what_is_no_notebook_is_said(tmp_path: Path, master: Master, text: str, says: str) -> None:
    path = hand_in(tmp_path, "ada", master, {})
    path.write_text(text, encoding="latin-1")
    found = grade(submission(tmp_path, "ada", master), 0, Limits())
    assert found.submission.problem.startswith(says) or says in found.submission.problem
    assert sum(verdict.points for verdict in found.verdicts) == 0


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_links_to_the_work_of_others_are_refused(tmp_path: Path, master: Master, kind: str) -> None:
    path = hand_in(tmp_path, "ada", master, RIGHT)
    (tmp_path / "bo").mkdir()
    (os.symlink if kind == "symbolic" else os.link)(path, tmp_path / "bo" / path.name)
    assert "is a link" in submission(tmp_path, "bo", master).problem
    (tmp_path / "di").symlink_to(tmp_path / "ada")
    assert "is a link" in submission(tmp_path, "di", master).problem
    (tmp_path / "cy").mkdir()
    assert "no file" in submission(tmp_path, "cy", master).problem


def test_an_answer_is_read_before_it_runs() -> None:
    assert is_open('def f(x):\n    """It."""\n    ...', "f") and is_open("g = 1", "f")
    assert not is_open("def f(x):\n    return x", "f")
    used = (
        "from eqprop_lab import relax as r\ndef g(x):\n    return r(x)\ndef f(x):\n    return g(x)"
    )
    assert forbidden_in(used, "f", ("relax", "step")) == ["relax"]
    unused = "import eqprop_lab\ndef f(step):\n    return step\nprint(eqprop_lab.relax)"
    assert forbidden_in(unused, "f", ("relax", "step")) == []
    assert notable_in("import os\nopen('x')\ndef f():\n    return __import__('sys')") == [
        "__import__", "open", "os",
    ]  # fmt: skip
    patch = "from eqprop_lab.kernel import phases\ndef f(x):\n    x.grad = 0\n    phases.step = f"
    assert notable_in(patch) == ["eqprop_lab.kernel", "sets phases.step"]
    for text in ("def f(:", "x" + "+x" * 50_000, "(" * 300):
        with pytest.raises(UnreadableAnswer, match="is not Python"):
            is_open(text, "f")


WAYS_AROUND = {
    "its own name": "relax = ep.relax\ndef f(x):\n    return relax(x)",
    "a part of a thing": "box = {}\nbox[0] = ep.relax\ndef f(x):\n    return box[0](x)",
    "a list": "box = []\nbox.append(ep.relax)\ndef f(x):\n    return box[0](x)",
    "an attribute": "def f(x):\n    return f.g(x)\nf.g = ep.relax",
    "a function that fills": "def fill(b):\n    b[0] = ep.relax\nbox = {}\nfill(box)\n"
    "def f(x):\n    return box[0](x)",
    "a default": "def f(x, g=ep.relax):\n    return g(x)",
    "a semicolon": "a = 1; g = ep.relax\ndef f(x):\n    return g(x)",
    "a form feed": "'\f'\ng = ep.relax\ndef f(x):\n    return g(x)",
    "a text": "def f(x):\n    return getattr(ep, 'relax')(x)",
    "a text in parts": "def f(x):\n    return getattr(ep, 'rel' + 'ax')(x)",
    "getattr as a value": "def f(x):\n    return list(map(getattr, [ep], ['rel' + 'ax']))[0](x)",
    "a pattern": "def f(x):\n    match ep:\n        case object(relax=g):\n            return g(x)",
    "a captured name": "match ep.relax:\n    case g: pass\ndef f(x):\n    return g(x)",
    "a dictionary": "def f(x):\n    return vars(ep)['rel' + 'ax'](x)",
    "a global name": "def f(x):\n    return x\ndef g():\n    global f\n    f = ep.relax\ng()",
    "eval": "def f(x):\n    return eval('ep.rel' + 'ax')(x)",
}


@pytest.mark.parametrize("source", WAYS_AROUND.values(), ids=WAYS_AROUND)
def test_no_way_leads_around_a_forbidden_name(source: str) -> None:
    assert forbidden_in(source, "f", ("relax", *EVASIVE))


def test_what_was_not_read_is_not_run() -> None:
    given = "import math, os\nfrom x import *\nTABLE = {}\ndef fill(t):\n    t[0] = math.pi\n"
    rest = "def f(x):\n    return TABLE[0]\nfill(TABLE)\n"
    compared = (
        "print(f(1) - ep.relax(1))\nassert f(1) == ep.relax(1)\ncheck_f(f)\nf(1) - ep.relax(1)"
    )
    unseen = "def g():\n    h.f = ep.relax\ng()\n"
    alone = answer_alone(given + unseen + rest + compared, "f")
    assert alone.split() == (given + rest).replace("math, os", "math").split()


def test_a_count_is_set_by_nobody_but_the_counter() -> None:
    assert sets_any("def f(g):\n    g.used = 0\n    return g(1)", {"used"}) == "used"
    assert sets_any("def f(g):\n    setattr(g, 'used', 0)", {"used"}) == "setattr"
    assert sets_any("def f(g):\n    f.used = g.used\n    g.other = 1", {"used"}) == ""


def test_helpers_of_a_check_are_not_for_answers() -> None:
    (path,) = (ROOT / "notebooks").glob("08_*.ipynb")
    ready = prepared(path, 0)
    tasks = {task.cells.name: task for task in ready.tasks}
    # each of them is the answer plus or minus a term
    helpers = {"drive_anew", "one_sign", "one_of_two", "without_slopes", "counted"}
    assert helpers <= set(tasks["multiplications"].check.forbidden)
    assert "softmax" not in tasks["train_step"].check.forbidden
    start = "\n".join(ready.start)
    assert "def draw_sizes" in start and "def softmax" in start and "drive_anew" not in start


@pytest.mark.parametrize("number", [path.stem[:2] for path in find_notebooks([], ROOT)])
def test_a_solution_uses_nothing_that_is_forbidden(number: str) -> None:
    (path,) = find_notebooks([number], ROOT)
    for task in prepared(path, 0).tasks:
        whole = Master.read(path).nb.cells[task.cells.solution].source
        name = task.cells.name
        source = whole.partition("\n\n\ncheck_")[0].replace(f"solved_{name}", name)
        assert f"def {name}(" in source and not is_open(source, name)
        assert forbidden_in(source, name, task.check.forbidden) == []
        assert sets_any(source, task.counted) == ""


def test_what_one_exercise_may_use_does_not_wait_for_the_next(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = []

    class Fails:
        """A worker in which every answer's cell raises."""

        def __init__(self, limits: Limits) -> None:
            kernels.append(self)

        def run(self, source: str) -> dict[str, object]:
            return {"error": ["E", "no"]} if "def " in source and "_inside" not in source else {}

        def close(self) -> None: ...

    monkeypatch.setattr(grading, "Worker", Fails)
    with desk(master, 5) as judge:
        judge("half", "def half(x, y):\n    return torch.add(x, y)")
        judge("twice", RIGHT["twice"])
        assert len(kernels) == 1
        judge("half", "def half(x, y):\n    torch.tau = torch.mul\n    return x")
        judge("counts", RIGHT["counts"])
        assert len(kernels) == 2


def test_limits_hold_and_no_lower_one_is_raised() -> None:
    script = """import resource as r
from eqprop_lab.course.worker import limit
r.setrlimit(r.RLIMIT_FSIZE, (1000, 1000))
limit(3000)
print([r.getrlimit(kind) for kind in (r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_NPROC)])"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    memory = 3000 * 2**20
    assert done.stdout.startswith(str([(memory, memory), (1000, 1000)])[:-1])
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    count = 4096 if most == resource.RLIM_INFINITY else min(most, 4096)
    assert done.stdout.strip().endswith(str((count, count)) + "]")


def test_memory_is_seen_from_outside() -> None:
    script = (
        "kept = b'x' * (40 << 20)\nprint('kept', flush=True)\ninput()\n"
        "more = b'x' * (60 << 20)\ninput()"
    )
    command = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as shell:
        assert shell.stdin
        assert shell.stdout
        # The watch begins once all of the first memory is there: begun earlier it counts the rest.
        assert shell.stdout.readline() == "kept\n"
        with watched(shell.pid) as grown:
            shell.stdin.write("\n")
            shell.stdin.flush()
            until(lambda: grown.megabytes > 55)
        shell.stdin.write("\n")
    assert 55 < grown.megabytes < 75


@pytest.mark.parametrize(
    ("said", "grown", "notes"),
    [
        ("", 13.0, ["memory grew by 13 MB, the solution's by 2"]),
        ("", 4.9, []),
        ("it keeps every state", 13.0, []),
    ],
    ids=["forged", "honest", "caught inside"],
)
def test_memory_that_nobody_told_of_is_noted(
    master: Master, monkeypatch: pytest.MonkeyPatch, said: str, grown: float, notes: list[str]
) -> None:
    monkeypatch.setattr(Answer, "examined", lambda *_: (said, grown))
    ready = prepared(master.path, 3)
    task = next(task for task in ready.tasks if task.cells.name == "maker")
    made, found = _Desk(ready, 3, Limits()), list[str]()
    monkeypatch.setattr(made, "_usual", lambda _: 2.0)
    assert made._examined(task, Answer(cast(Worker, None), "maker", ""), found) == said
    assert found == notes


def test_a_text_that_is_no_text_stops_no_report(tmp_path: Path, master: Master) -> None:
    one = Graded(Submission("ada", master.path), (Verdict(1, "half", 0.0, 1, "a\ud800b\ufffe"),))
    write_reports(tmp_path / "g.csv", {"ada": [one]}, {"ada": 0})
    assert "a?b?" in (tmp_path / "feedback" / "ada.md").read_text("utf-8")


def test_a_worker_that_speaks_unasked_is_not_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys\nwhile True:\n    print('{}', flush=True)"
    monkeypatch.setattr(sandbox, "isolated", lambda *_: [sys.executable, "-c", script])
    worker = Worker(Limits())
    try:
        time.sleep(0.5)
        assert worker._lines.qsize() <= 2
    finally:
        worker.close()


def test_reports_hold_no_formula_and_no_control_characters(master: Master) -> None:
    verdict = Verdict(1, "half", 0.25, 1, "```\n\x1b[31mred", ("open",))
    others = tuple(Verdict(n, name, 0.0, 2, "open") for n, name in enumerate(RIGHT, 1))[1:]
    one = Graded(Submission("=1+1", master.path), (verdict, *others))
    (row,) = csv.DictReader(grades_csv({"=1+1": [one]}, {"=1+1": 5}).splitlines())
    assert row["student"] == "'=1+1" and row["99 half"] == "0.25" and row["points"] == "0.25"
    assert row["of"] == "9" and row["look at"] == "half: open" and row["seed"] == "5"
    page = feedback("=1+1", [one], 5)
    assert "\x1b" not in page and page.count("```") == 10 and "0.25 of 9 points" in page


def test_a_class_is_the_roster_or_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a folder for each student"):
        class_of(tmp_path, None)
    (tmp_path / "bo").mkdir()
    assert class_of(tmp_path, None) == {"bo": 0}
    assert class_of(tmp_path, {"ada": 1, "bo": 2}) == {"ada": 1, "bo": 2}
    with pytest.raises(ValueError, match="not on the roster: bo"):
        class_of(tmp_path, {"ada": 1})

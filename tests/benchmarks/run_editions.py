"""The editions of a course, executed as they are handed out: each notebook in the built folder, on
the package of its wheel.

instructor: every cell runs, every check of a solution says ok. student: it runs from top to bottom
with its stubs, every check says that it is open. solved: with the solutions in the stubs, every
check says ok. `python -m tests.benchmarks.run_editions [NN ...] [--kinds solved]`; the folders and
the executed notebooks stay in runs/editions.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from eqprop_lab.course.build import build
from eqprop_lab.course.masters import Master
from eqprop_lab.course.solutions import solution_of
from eqprop_lab.regression.parameters import tags
from eqprop_lab.regression.plan import find_notebooks

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "runs" / "editions"
SECONDS = 600
OK = re.compile(r"^ok: (\w+) is right", re.MULTILINE)
OPEN = re.compile(r"^Still open: write (\w+) ", re.MULTILINE)
FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)


def pasted(master: Master, nb: NotebookNode) -> NotebookNode:
    """The student edition with the solutions where the stubs were."""
    answers = {master.nb.cells[e.stub].id: solution_of(master, e) for e in master.exercises}
    for cell in nb.cells:
        cell.source = answers.get(cell.id, cell.source)
    return nb


def executed(nb: NotebookNode, folder: Path) -> tuple[str, float]:
    """Run a notebook in a folder; what went wrong, and the seconds."""
    env = os.environ | {"PYTHONPATH": str(folder / "package"), "OMP_NUM_THREADS": "1"}
    place = {"metadata": {"path": str(folder / "notebooks")}}
    client = NotebookClient(nb, timeout=SECONDS, resources=place, store_widget_state=False)
    began, problem = time.monotonic(), ""
    try:
        client.execute(env=env)
    except FAILURES as error:
        problem = str(error).strip().splitlines()[-1][:300]
    return problem, time.monotonic() - began


def said(nb: NotebookNode, pattern: re.Pattern[str], tag: str) -> list[str]:
    """Exercises of which the cells with a tag say this."""
    cells = [c for c in nb.cells if c.cell_type == "code" and tag in tags(c)]
    texts = ["".join(o.get("text", "") for o in cell.outputs) for cell in cells]
    return sorted(name for text in texts for name in pattern.findall(text))


KINDS: dict[str, tuple[str, re.Pattern[str], str]] = {
    "instructor": ("instructor", OK, "solution"),
    "student": ("student", OPEN, "exercise-check"),
    "solved": ("student", OK, "exercise-check"),
}


def run(master: Master, kind: str) -> str:
    """Execute one notebook of an edition; prints a line; what is wrong, or ""."""
    edition, pattern, tag = KINDS[kind]
    folder = OUT / edition
    nb = nbformat.read(folder / "notebooks" / master.path.name, as_version=4)
    nb = pasted(master, nb) if kind == "solved" else nb
    problem, seconds = executed(nb, folder)
    names, found = sorted(e.name for e in master.exercises), said(nb, pattern, tag)
    if not problem and found != names:
        problem = f"a check says so of {found}, expected is {names}"
    target = OUT / "executed" / kind / master.path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, target)
    verdict = problem or f"{len(found)} of {len(names)} checks as they should be"
    print(f"{kind:10} {master.path.stem:28} {seconds:5.0f} s  {verdict}", flush=True)
    return problem


def furnished(masters: Sequence[Master]) -> None:
    """Both editions in runs/editions, each with the package of its wheel beside the notebooks."""
    began = time.monotonic()
    for folder in build(ROOT, masters, OUT):
        (wheel,) = folder.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(folder / "package")
    print(f"built in {time.monotonic() - began:.0f} s: {OUT}", flush=True)


def main(argv: Sequence[str]) -> int:
    """Build and run; 1 where a notebook does not do what its edition promises."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run_editions")
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="default: the series")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args(argv)
    masters = [Master.read(path) for path in find_notebooks(arguments.notebooks, ROOT)]
    furnished(masters)
    failed = [run(master, kind) for kind in arguments.kinds for master in masters]
    return 1 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

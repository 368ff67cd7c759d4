"""A class of thirty on notebook 03: how long the grader takes, and what each kind of answer gets.

Right, partly right, open, mistaken and hostile submissions; the report stays in runs/class.
"""

from __future__ import annotations

import argparse
import ast
import csv
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from eqprop_lab.commands.course import main
from eqprop_lab.course.masters import Master
from eqprop_lab.course.wrong_answers import wrong_answers
from tests.course.handed_in import hand_in

ROOT = Path(__file__).resolve().parents[2]
STUDENTS = 30
NOTEBOOK = "03"
HOSTILE = {
    "patched": "import numpy as np\nnp.allclose = torch.allclose = lambda *a, **k: True\n"
    "nb.Exercise.__call__ = lambda *a: print('ok')\n{stub}\n    return 0.01",
    "exit": "import sys\n{stub}\n    sys.exit(0)",
    "killed": "import os\n{stub}\n    os._exit(0)",
    "loop": "{stub}\n    while True:\n        pass",
    "thief": "import os\n{stub}\n"
    "    for place, _, names in os.walk('/'):\n        for name in names:\n"
    f"            if name.startswith('{NOTEBOOK}_') and name.endswith('.ipynb'):\n"
    "                return open(os.path.join(place, name)).read()\n"
    "    raise FileNotFoundError('nothing to steal')",
    "flood": "{stub}\n    while True:\n        print('x' * 10**6)",
    "memory": "{stub}\n    return [bytearray(10**9) for _ in range(50)]",
}


def signature(stub: str) -> str:
    """The head of a stub, up to its colon."""
    (function,) = (n for n in ast.parse(stub).body if isinstance(n, ast.FunctionDef))
    return "\n".join(stub.splitlines()[: function.body[0].lineno - 1])


def answers(master: Master, student: int) -> tuple[str, dict[str, str]]:
    """A kind of student, and what that kind writes."""
    solved = {}
    for exercise in master.exercises:
        source = master.nb.cells[exercise.solution].source
        (function,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef))
        text = ast.get_source_segment(source, function) or ""
        solved[exercise.name] = text.replace("solved_", "")
    first, *others = master.exercises
    if student < 10:
        return "right", solved
    if student < 14:
        return "partly", {e.name: solved[e.name] for e in others[: student - 10]}
    if student < 16:
        return "open", {}
    if student < 20:
        wrong = wrong_answers(ROOT / f"tests/course/wrong_answers/{master.number}.py")
        mine = [answer for answer in wrong if answer.exercise == first.name][student - 16]
        name = ast.parse(mine.source).body[0].name  # type: ignore[attr-defined]
        return "mistaken", solved | {
            first.name: mine.source.replace(f"def {name}(", f"def {first.name}(")
        }
    if student < 27:
        kind = list(HOSTILE)[student - 20]
        head = signature(master.nb.cells[first.stub].source)
        return kind, solved | {first.name: HOSTILE[kind].format(stub=head)}
    return ("truncated", "missing", "huge")[student - 27], solved


def write_class(folder: Path, master: Master) -> dict[str, str]:
    """Thirty folders; student -> kind."""
    kinds = {}
    for student in range(STUDENTS):
        kind, given = answers(master, student)
        name = f"s{student:02}"
        path = hand_in(folder, name, master, given)
        kinds[name] = kind
        if kind == "truncated":
            path.write_text(path.read_text("utf-8")[:-100], encoding="utf-8")
        if kind == "missing":
            path.unlink()
        if kind == "huge":
            path.write_text(" " * 25_000_000 + path.read_text("utf-8"), encoding="utf-8")
    return kinds


def run(arguments: Sequence[str] | None = None) -> int:
    """Write the class, grade it, print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.parse_args(arguments)
    place = ROOT / "runs" / "class"
    shutil.rmtree(place, ignore_errors=True)
    master = Master.read(next((ROOT / "notebooks").glob(f"{NOTEBOOK}_*.ipynb")))
    kinds = write_class(place / "submissions", master)
    began = time.monotonic()
    grades = place / "grades.csv"
    code = main(
        ["grade", str(place / "submissions"), "--out", str(grades), "--notebooks", NOTEBOOK]
    )
    seconds = time.monotonic() - began
    if code:
        return code
    with grades.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            print(f"{kinds[row['student']]:10} {row['points']:>5} of {row['of']}  {row['look at']}")
    print(f"{STUDENTS} submissions with {len(master.exercises)} exercises each: {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(run())

"""A class for the grader: one master, and what right, mistaken and hostile students hand in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import nbformat

from eqprop_lab.course.masters import Master
from eqprop_lab.course.student import student_edition
from tests.regression.tiny import KERNEL, code, prose

LEVELS = {
    "half": "warm-up",
    "twice": "core",
    "spoils": "core",
    "counts": "core",
    "maker": "stretch",
}
SUPPORT = """# Check
SECRET = "only the grader knows"


def draw_{name}(k):
    {draw}


check_{name} = nb.Exercise("{name}", draw_{name}, {how})
check_{name}({name})"""
NUMBERS = "return (torch.randn(3, 2 + k).double(), np.random.randn(2))"
COUNTED = """def work(x):
        work.calls += 1
        return x * x

    work.calls = 0
    return work, 1.0 + k"""
CHECKS = {
    "half": (NUMBERS, "expected=lambda x, y: (x / 2, y / 2)"),
    "twice": (NUMBERS, 'expected=lambda x, y: 2 * x, forbidden=("mul", "multiply")'),
    "spoils": (NUMBERS, "expected=lambda x, y: y"),
    "counts": (
        COUNTED,
        "judge=lambda found, work, x: '' if found == x * x and work.calls == 1 else "
        "f'{work.calls} calls'",
    ),
    "maker": (
        "return (1.0 + k,)",
        "judge=lambda f, a: '' if callable(f) and f(2.0) == a * 2 else 'not a times x', "
        "examine=lambda f: '' if f(1.0)(1.0) == 1.0 else 'odd'",
    ),
}
STUBS = {
    "half": "def half(x: torch.Tensor, y: np.ndarray) -> tuple:",
    "twice": "def twice(x: torch.Tensor, y: np.ndarray) -> torch.Tensor:",
    "spoils": "def spoils(x: torch.Tensor, y: np.ndarray) -> np.ndarray:",
    "counts": "def counts(work: object, x: float) -> float:",
    "maker": "def maker(a: float) -> object:",
}
RIGHT = {
    "half": "def half(x, y):\n    return x / 2, y / 2",
    "twice": "def twice(x, y):\n    return x + x",
    "spoils": "def spoils(x, y):\n    return y.copy()",
    "counts": "def counts(work, x):\n    return work(x)",
    "maker": "def maker(a):\n    return lambda x: a * x",
}


def tiny_master(folder: Path) -> Master:
    """A notebook with five exercises, each of which asks for another way of judging."""
    setup = "import eqprop_lab.notebook as nb\nimport numpy as np\nimport torch"
    cells = [
        prose("# 99 · Tiny"),
        code(setup, "setup"),
        code("seed: int = 0  # of all", "parameters"),
    ]
    for number, (name, level) in enumerate(LEVELS.items(), 1):
        draw, how = CHECKS[name]
        cells += [
            prose(f"### Exercise {number} · {level}: {name}\n\nHint: none.", "exercise"),
            code(f'{STUBS[name]}\n    """What is asked."""\n    ...', "exercise"),
            code(SUPPORT.format(name=name, draw=draw, how=how), "exercise-check"),
            code(
                RIGHT[name].replace(name, f"solved_{name}") + f"\n\n\ncheck_{name}(solved_{name})",
                "solution",
            ),
        ]
    path = folder / "99_tiny.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), path)
    return Master.read(path)


def hand_in(folder: Path, student: str, master: Master, answers: Mapping[str, str]) -> Path:
    """The student's edition with answers in the cells of the exercises; the checks are tampered."""
    nb = student_edition(master)
    stubs = {exercise.name: master.nb.cells[exercise.stub].id for exercise in master.exercises}
    for cell in nb.cells:
        for name, id in stubs.items():
            if cell.id == id and name in answers:
                cell.source = answers[name]
        if "exercise-check" in cell.metadata.get("tags", []):
            cell.source = "print('ok: all is right')"
    path = folder / student / master.path.name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(nb), encoding="utf-8")
    return path

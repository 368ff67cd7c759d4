"""Student editions hold no solution and nothing of one; instructor editions hold everything."""

from __future__ import annotations

import ast
import dis
import json
import re
import subprocess
import sys
import types
import zipfile
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from eqprop_lab.course import build as building
from eqprop_lab.course.build import BuildError, build
from eqprop_lab.course.instructor import instructor_edition
from eqprop_lab.course.masters import Master, MasterError
from eqprop_lab.course.roster import RosterError, read_roster, seed_of
from eqprop_lab.course.statements import needed, statements
from eqprop_lab.course.student import student_edition
from eqprop_lab.course.times import minutes
from eqprop_lab.course.wrong_answers import wrong_answers
from eqprop_lab.regression.parameters import tags
from eqprop_lab.regression.plan import find_notebooks

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = [path.stem[:2] for path in find_notebooks([], ROOT)]
FIGURE = re.compile(r"\d+[.,]\d+|\d{3,}")


@cache
def master(number: str) -> Master:
    (path,) = find_notebooks([number], ROOT)
    return Master.read(path)


@cache
def edition(number: str) -> NotebookNode:
    return student_edition(master(number))


@cache
def written(number: str) -> str:
    """The file of a student."""
    return nbformat.writes(edition(number))


def told(cell: NotebookNode) -> str:
    """Source and outputs of a cell, as one text."""
    outputs = [o.get("text", "") + str(o.get("data", {})) for o in cell.get("outputs", [])]
    return "\n".join([cell.source, *outputs])


def global_names(source: str) -> set[str]:
    """Names that a cell looks up outside its functions."""
    waiting, found = [compile(source, "<cell>", "exec")], set()
    while waiting:
        code = waiting.pop()
        loads = (i for i in dis.get_instructions(code) if i.opname in ("LOAD_NAME", "LOAD_GLOBAL"))
        found |= {str(i.argval) for i in loads}
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return found


def quoted(line: str) -> str:
    """A line as it stands in a notebook file."""
    return json.dumps(line, ensure_ascii=False)[1:-1]


@pytest.mark.parametrize("number", NUMBERS)
def test_no_line_of_a_solution_is_left(number: str) -> None:
    cells = master(number).nb.cells
    others = "\n".join(cell.source for cell in cells if "solution" not in tags(cell))
    lines = [line.strip() for c in cells if "solution" in tags(c) for line in c.source.splitlines()]
    own = [line for line in lines if len(line) > 12 and line not in others]
    assert len(own) > 10
    assert [line for line in own if quoted(line) in written(number)] == []
    assert "solved_" not in written(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_no_number_that_a_solution_computes_or_checks_is_left(number: str) -> None:
    cells = master(number).nb.cells
    others = "\n".join(cell.source for cell in cells if "solution" not in tags(cell))
    found = {n for c in cells if "solution" in tags(c) for n in FIGURE.findall(told(c))}
    own = {n for n in found if n not in others}
    assert found
    whole = re.compile(r"(?<![\d.])(?:" + "|".join(map(re.escape, sorted(own))) + r")(?![\d.])")
    sources = "\n".join(cell.source for cell in edition(number).cells)
    assert not own or whole.findall(sources) == []


@pytest.mark.parametrize("number", NUMBERS)
def test_no_outputs_and_no_metadata_are_left(number: str) -> None:
    nb = edition(number)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert set(nb.metadata) <= {"kernelspec", "language_info"}
    assert {key for cell in nb.cells for key in cell.metadata} <= {"tags", "jupyter", "nbgrader"}


@pytest.mark.parametrize("number", NUMBERS)
def test_every_import_is_used_or_named(number: str) -> None:
    nb = edition(number)
    code = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    names = {
        (alias.asname or alias.name).partition(".")[0]
        for source in code
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {n.id for s in code for n in ast.walk(ast.parse(s)) if isinstance(n, ast.Name)}
    prose = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    assert {name for name in names - used if f"`{name}" not in prose} == set()


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_left_does_not_miss_what_is_gone(number: str) -> None:
    def bound(nb: NotebookNode) -> set[str]:
        code = [cell.source for cell in nb.cells if cell.cell_type == "code"]
        return {name for source in code for s in statements(source) for name in s.binds}

    nb = edition(number)
    used = {n for c in nb.cells if c.cell_type == "code" for n in global_names(c.source)}
    assert used & (bound(master(number).nb) - bound(nb)) == set()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_quiz_keeps_its_other_questions(number: str) -> None:
    nb = edition(number)
    (quiz,) = (cell.source for cell in nb.cells if "quiz" in tags(cell))
    assert "nb.quiz(\n" in quiz and quiz.startswith("# ")
    call = statements(quiz)[-1]
    assert isinstance(call.node, ast.Expr) and isinstance(call.node.value, ast.Call)
    assert len(call.node.value.args) >= 2


def test_answers_and_checks_are_marked_for_nbgrader() -> None:
    nb = edition("03")
    marks = [cell.metadata.nbgrader for cell in nb.cells if "nbgrader" in cell.metadata]
    assert [mark.grade_id for mark in marks[:2]] == ["best_beta", "check_best_beta"]
    assert [mark.get("points") for mark in marks] == [None, 1, None, 2, None, 2, None, 3]
    assert all(mark.locked is mark.grade is not mark.solution for mark in marks)


def test_nbgrader_takes_the_edition_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    nb = edition("06")
    place = tmp_path / "source" / "one" / "06.ipynb"
    place.parent.mkdir(parents=True)
    nbformat.write(nb, place)
    (tmp_path / "nbgrader_config.py").write_text(building.NBGRADER, encoding="utf-8")
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", "one"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    given = nbformat.read(tmp_path / "release" / "one" / "06.ipynb", as_version=4)
    assert [c.source for c in given.cells] == [c.source for c in nb.cells]
    assert sum("checksum" in c.metadata.get("nbgrader", {}) for c in given.cells) == 6


def test_a_seed_stands_in_the_parameters() -> None:
    def line(seed: int | None) -> str:
        cells = student_edition(master("03"), seed).cells
        (cell,) = (cell for cell in cells if "parameters" in tags(cell))
        return str(cell.source).splitlines()[0]

    assert line(None).startswith("seed: int = 0 ")
    assert line(417).startswith("seed: int = 417 ")


def test_the_instructor_edition_adds_texts_alone() -> None:
    whole = master("03")
    wrong = wrong_answers(ROOT / "tests/course/wrong_answers/03.py")
    nb = instructor_edition(whole, "# Three ideas\n\nOne.", wrong)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    assert code == [cell for cell in whole.nb.cells if cell.cell_type == "code"]
    assert nb.cells[1].source == "## Three ideas\n\nOne."
    told = "\n".join(cell.source for cell in nb.cells if "instructor" in tags(cell))
    assert all(answer.says in told and answer.source in told for answer in wrong)
    assert len(wrong) > 12
    marks = [m for cell in nb.cells for m in re.findall(r"\*Minutes (\d+) to (\d+)", cell.source)]
    assert all(end == start for (_, end), (start, _) in zip(marks, marks[1:], strict=False))
    assert len(marks) > 8 and int(marks[-1][1]) == round(minutes(whole.nb.cells))


def test_a_build_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wheel(root: Path, place: Path) -> Path:
        place.mkdir()
        (place / "eqprop_lab-0-py3-none-any.whl").write_bytes(b"")
        return next(place.iterdir())

    monkeypatch.setattr(building, "_wheel", wheel)
    out = tmp_path / "course"
    roster = {"ada": 7, "bo": 8}
    folders = build(ROOT, [master("03")], out, roster)
    assert [folder.name for folder in folders] == ["student", "instructor", "ada", "bo"]
    for folder in folders:
        pip = (folder / "README.md").read_text("utf-8")
        assert (
            './eqprop_lab-0-py3-none-any.whl[lab]"' in pip and "install -c constraints.txt" in pip
        )
        assert (folder / "constraints.txt").is_file() and list(folder.glob("*.whl"))
        assert (folder / "figures" / "nb03_slopes.png").stat().st_size > 1000
        assert list((folder / "data" / "results").glob("*.json"))
        nb = nbformat.read(folder / "notebooks" / master("03").path.name, as_version=4)
        assert any("solution" in tags(cell) for cell in nb.cells) is (folder.name == "instructor")
    (wheel_of_ada,) = folders[2].glob("*.whl")
    assert wheel_of_ada.stat().st_nlink == 1  # a link would let one student change it for all
    texts = [(f / "notebooks" / master("03").path.name).read_text("utf-8") for f in folders[2:]]
    assert "seed: int = 7 " in texts[0] and "seed: int = 8 " in texts[1]
    build(ROOT, [master("03")], out)
    assert not (out / "students").exists()


def test_the_wheel_holds_the_package_and_no_notebook_of_the_series(tmp_path: Path) -> None:
    names = zipfile.ZipFile(building._wheel(ROOT, tmp_path / "wheel")).namelist()
    assert "eqprop_lab/course/build.py" in names and "eqprop_lab/assets/presets.yaml" in names
    app = "eqprop_lab/assets/dashboard/dashboard.ipynb"
    assert [n for n in names if n.endswith(".ipynb") or "wrong_answers/" in n] == [app]


def test_nothing_of_others_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(BuildError, match="not empty"):
        build(ROOT, [master("03")], tmp_path)
    with pytest.raises(BuildError, match="a file of this name"):
        build(ROOT, [master("03")], tmp_path / "thesis.tex")


def test_a_roster_gives_seeds(tmp_path: Path) -> None:
    path = tmp_path / "class.csv"
    path.write_text("student,seed\nada,5\nbo lind,\n", encoding="utf-8")
    assert read_roster(path) == {"ada": 5, "bo lind": seed_of("bo lind")}
    assert len({seed_of(f"student {k}") for k in range(30)}) > 25


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name\nada\n", "a column 'student'"),
        ("student\nada\nada\n", "line 3: 'ada' is there twice"),
        ("student\n../ada\n", "line 2: '../ada'"),
        ("student\n..\n", "line 2: '..'"),
        ("student,seed\nada,-1\n", "seed '-1'"),
        ("", "a column 'student'"),
    ],
)
def test_a_bad_roster_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "class.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RosterError, match=re.escape(says)):
        read_roster(path)


def test_an_exercise_without_a_part_is_named(tmp_path: Path) -> None:
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_markdown_cell("### Exercise 1 · core: x")]
    nb.cells[0].metadata["tags"] = ["exercise"]
    path = tmp_path / "00_x.ipynb"
    nbformat.write(nb, path)
    with pytest.raises(MasterError, match="00_x.ipynb, cell 1: an exercise is"):
        _ = Master.read(path).exercises
    path.write_text("{", encoding="utf-8")
    with pytest.raises(MasterError, match="not a notebook"):
        Master.read(path)


def test_only_what_is_needed_is_taken() -> None:
    functions = "def f():\n    return g(a)\ndef g(x):\n    return math.e\n"
    source = f"import math\nimport os\na = 1\n{functions}b = os"
    texts = [s.text.partition("\n")[0] for s in needed({"f"}, statements(source))]
    assert texts == ["import math", "a = 1", "def f():", "def g(x):"]

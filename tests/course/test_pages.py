"""The lecturer's pages: one a notebook, four parts each, demos that work, honest minutes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from eqprop_lab.course.masters import Master
from eqprop_lab.course.student import POINTS
from eqprop_lab.course.times import MINUTES_AN_EXERCISE, minutes
from eqprop_lab.regression.plan import find_notebooks

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "notebooks" / "course"
SERIES = {path.stem[:2]: path for path in find_notebooks([], ROOT)}
WITH_PAGE = {n: p for n, p in SERIES.items() if (PAGES / f"{p.stem}.md").is_file()}
PARTS = ["Three ideas", "Live demo", "Questions", "What usually goes wrong"]
SLACK = 2
CONTROL = re.compile(r'(?:Slider|Choice|Toggle|_indices)\(\s*"(\w+)"')


def page(number: str) -> str:
    return (PAGES / f"{SERIES[number].stem}.md").read_text("utf-8")


def read_and_do(number: str) -> tuple[int, int]:
    master = Master.read(SERIES[number])
    do = MINUTES_AN_EXERCISE * len(master.exercises)
    return round(minutes(master.nb.cells) - do), do


def code_in(number: str) -> str:
    cells = Master.read(SERIES[number]).nb.cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def controls(code: str) -> set[str]:
    """Names of controls, those included that are made of a prefix and any word (`at_` + factor)."""
    prefixes = {
        prefix
        for constant in re.findall(r"(?:Slider|Choice|Toggle)\(\s*(\w+) \+ ", code)
        for prefix in re.findall(rf'^{constant} = "(\w+)"', code, re.MULTILINE)
    }
    words = set(re.findall(r'"(\w+)"', code))
    return {*CONTROL.findall(code), *(prefix + word for prefix in prefixes for word in words)}


def test_a_page_belongs_to_a_notebook() -> None:
    stems = {file.stem for file in PAGES.glob("*.md")} - {"README"}
    assert stems == {path.stem for path in WITH_PAGE.values()} and len(stems) >= 10


@pytest.mark.parametrize("number", WITH_PAGE)
def test_a_page_has_its_four_parts(number: str) -> None:
    text = page(number)
    assert text.startswith("# For the lecturer: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    parts = dict(zip(PARTS, re.split(r"^## .+$", text, flags=re.MULTILINE)[1:], strict=True))
    assert len(re.findall(r"^\d\. ", parts["Three ideas"], re.MULTILINE)) == 3
    asked = re.findall(r"^\*\*.+?\*\* \S.*$", parts["Questions"], re.MULTILINE)
    assert len(asked) >= 3
    assert len(re.findall(r"^- ", parts["What usually goes wrong"], re.MULTILINE)) >= 4


@pytest.mark.parametrize("number", WITH_PAGE)
def test_a_demo_moves_controls_that_are_there(number: str) -> None:
    code = code_in(number)
    tools = ROOT / "eqprop_lab" / "notebook"
    files = (*(tools / "explorers").glob("*.py"), tools / "dashboard" / "choices.py")
    known = controls("\n".join([code, *(f.read_text("utf-8") for f in files)]))
    blocks = re.findall(r"```python\n(.*?)```", page(number), re.DOTALL)
    calls = [node for node in ast.walk(ast.parse("\n".join(blocks))) if isinstance(node, ast.Call)]
    assert calls
    for call in calls:
        name, _, method = ast.unparse(call.func).partition(".")
        assert method == "set" and re.search(rf"^{name} = ", code, re.MULTILINE)
        assert {keyword.arg for keyword in call.keywords} <= known


@pytest.mark.parametrize("number", WITH_PAGE)
def test_minutes_are_those_of_the_rule(number: str) -> None:
    read, do = read_and_do(number)
    said = re.search(r"^Read (\d+) min, exercises (\d+) min", page(number), re.MULTILINE)
    assert said and abs(int(said[1]) - read) <= SLACK and int(said[2]) == do
    rows = re.findall(
        rf"^\| {number} .+?\| (\d+) \| (\d+) \|", (PAGES / "README.md").read_text("utf-8"), re.M
    )
    assert [int(row[1]) for row in rows] == [do] and abs(int(rows[0][0]) - read) <= SLACK


def test_a_session_is_about_a_notebook_that_is_there_and_reads_as_long() -> None:
    text = (PAGES / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d\d) \| (\D.*)\|$", text, re.MULTILINE)
    found = {number: row for number, row in rows}
    assert len(found) == len(rows) and found.keys() <= SERIES.keys() and "10" in found
    for number, row in found.items():
        told = re.search(r"\bread (\d+)", row)
        assert told is None or abs(int(told[1]) - read_and_do(number)[0]) <= SLACK


def test_the_points_are_counted_rightly() -> None:
    said = re.search(r"00 to (\d\d) have (\d+) together", (PAGES / "README.md").read_text("utf-8"))
    assert said and said[1] in SERIES
    counted = [path for number, path in SERIES.items() if number <= said[1]]
    exercises = [e for path in counted for e in Master.read(path).exercises]
    assert int(said[2]) == sum(POINTS[exercise.level] for exercise in exercises)


def test_links_lead_somewhere() -> None:
    for file in PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8")):
            assert (PAGES / target).exists(), f"{file.name}: {target}"

"""The map of the house leads somewhere: its rooms, files and names are those that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools.import_graph import HEIGHT, draw, room_of

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", TEXT)
PATHS = sorted({code for code in CODE if re.fullmatch(r"[\w./]*[/.]\w*(::[\w.]+)?", code)})


def rows(title: str) -> list[list[str]]:
    """The cells of the table under a heading, its two lines of head left out."""
    section = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    (found,) = (part for part in section if part.startswith(title))
    lines = [line for line in found.splitlines() if line.startswith("|")]
    return [line.strip("|").split("|") for line in lines[2:]]


def names_in(file: Path) -> set[str]:
    """Names that a file defines or, being the face of a room, shows; `Class.method` for methods."""

    def inside(body: list[ast.stmt], prefix: str) -> set[str]:
        found: set[str] = set()
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ImportFrom) and file.name == "__init__.py":
                found |= {alias.name for alias in node.names}
            if isinstance(node, ast.ClassDef):
                found |= inside(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
            found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
        return found

    return inside(ast.parse(file.read_text(encoding="utf-8")).body, "")


@pytest.mark.parametrize("named", PATHS)
def test_every_path_and_every_name_exists(named: str) -> None:
    path, _, name = named.partition("::")
    places = [place for place in (ROOT / path, ROOT / "eqprop_lab" / path) if place.exists()]
    assert places, f"{path} does not exist"
    assert not name or name in names_in(places[-1])


def test_the_map_names_many() -> None:
    assert len(PATHS) > 30
    assert sum("::" in path for path in PATHS) > 12


def test_every_room_has_its_line_and_they_stand_floor_by_floor() -> None:
    told = [room for head, _ in rows("The house") for room in re.findall(r"`(\w+)`", head)]
    assert set(told) == {room_of(file) for file in draw(ROOT / "eqprop_lab")}
    heights = [HEIGHT[room] for room in told]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("row", rows("Where is"), ids=lambda row: row[0].strip())
def test_an_answer_is_in_two_files_at_most(row: list[str]) -> None:
    named = {code.partition("::")[0] for code in re.findall(r"`([^`]+)`", row[1])}
    files = {name for name in named if name in {path.partition("::")[0] for path in PATHS}}
    assert 1 <= len({name for name in files if not name.endswith("/")}) <= 2

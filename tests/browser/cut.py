"""A notebook cut down to its explorers: the cells they need, found by the names that cells give and
take.

Every cell of the series is executed by the runner (tests/regression/test_series.py), and notebook
00 runs as a whole in the browser too; a second training of every other network would show nothing.
"""

from __future__ import annotations

import dis
from pathlib import Path
from types import CodeType

import nbformat

KEPT = {"setup", "parameters", "explorer"}
LOADS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}


def names(source: str) -> tuple[set[str], set[str]]:
    """(what a cell defines, what it takes from cells before it): what it loads before it has stored
    it. A loop's variable is its own; the compiler knows what is local to a function.
    """
    given: set[str] = set()
    taken: set[str] = set()

    def read(code: CodeType, top: bool = False) -> None:
        for step in dis.get_instructions(code):
            if step.opname in LOADS and step.argval not in given:
                taken.add(step.argval)
            elif top and step.opname == "STORE_NAME":
                given.add(step.argval)
            elif isinstance(step.argval, CodeType):
                read(step.argval)

    read(compile(source, "<cell>", "exec"), top=True)
    return given, taken


def needed(sources: list[str], wanted: set[int]) -> set[int]:
    """Places of the wanted cells and, again and again, for each name they take of the last cell
    before them that defines it.
    """
    known = [names(source) for source in sources]
    found: set[int] = set()
    while new := wanted - found:
        found |= new
        wanted = {
            before
            for place in new
            for name in known[place][1]
            for before in [b for b in range(place) if name in known[b][0]][-1:]
        }
    return found


def cut_to_explorers(path: Path) -> None:
    """Rewrite a notebook without the code cells that no explorer needs."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    wanted = {place for place, cell in enumerate(code) if KEPT & set(cell.metadata.get("tags", ()))}
    kept = {code[place].id for place in needed([cell.source for cell in code], wanted)}
    notebook.cells = [
        cell for cell in notebook.cells if cell.cell_type != "code" or cell.id in kept
    ]
    nbformat.write(notebook, path)

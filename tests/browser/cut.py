"""A notebook cut down to its explorers: the cells they need, found by the names that cells give and
take.

Every cell of the series is executed by the runner (tests/regression/test_series.py), and notebook
00 runs as a whole in the browser too; a second training of every other network would show nothing.
"""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat

KEPT = {"setup", "parameters", "explorer"}


def names(source: str) -> tuple[set[str], set[str]]:
    """(what a cell defines, what it mentions)."""
    given: set[str] = set()
    taken: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (given if isinstance(node.ctx, ast.Store) else taken).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            given.add(node.name)
        elif isinstance(node, ast.alias):
            given.add((node.asname or node.name).partition(".")[0])
    return given, taken


def needed(sources: list[str], wanted: set[int]) -> set[int]:
    """Places of the wanted cells and, again and again, of those before them that define what they
    mention.
    """
    known = [names(source) for source in sources]
    found: set[int] = set()
    while new := wanted - found:
        found |= new
        wanted = {
            before for place in new for before in range(place) if known[before][0] & known[place][1]
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

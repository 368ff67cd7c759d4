"""One notebook as the anatomy rules look at it: cells by tag, code as syntax trees, prose without
code blocks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from eqprop_lab.regression.parameters import tags

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class View:
    """A notebook with its path; `series` are the paths of all numbered notebooks, in order."""

    path: Path
    nb: NotebookNode
    series: tuple[Path, ...] = ()

    @classmethod
    def read(cls, path: Path, series: tuple[Path, ...] = ()) -> View:
        """Read and validate the file. Raises what nbformat raises for a file that is no notebook."""
        return cls(path, nbformat.read(path, as_version=4), series)

    @property
    def cells(self) -> list[NotebookNode]:
        """All cells in order."""
        return list(self.nb.cells)

    @property
    def code(self) -> list[tuple[int, NotebookNode]]:
        """(index, cell) of the code cells."""
        return [(i, cell) for i, cell in enumerate(self.nb.cells) if cell.cell_type == "code"]

    @property
    def prose(self) -> list[tuple[int, NotebookNode]]:
        """(index, cell) of the markdown cells."""
        return [(i, cell) for i, cell in enumerate(self.nb.cells) if cell.cell_type == "markdown"]

    def tagged(self, tag: str, kind: str | None = None) -> list[int]:
        """Indices of the cells with a tag, of one cell type if given."""
        return [
            i
            for i, cell in enumerate(self.nb.cells)
            if tag in tags(cell) and kind in (None, cell.cell_type)
        ]

    def neighbour(self, index: int, step: int) -> str:
        """Source of the nearest markdown cell before (step -1) or after (step +1) a cell; '' when
        there is none.
        """
        i = index + step
        while 0 <= i < len(self.nb.cells):
            if self.nb.cells[i].cell_type == "markdown":
                return str(self.nb.cells[i].source)
            i += step
        return ""


def where(index: int) -> str:
    """How a problem names a cell (counted from 1, as in JupyterLab's status line)."""
    return f"cell {index + 1}"


def parse(source: str) -> ast.Module | None:
    """Syntax tree of a cell; None for magics and other text that is not Python."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """(last part of the called name, call) for every call in a cell."""
    tree = parse(source)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call):
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            yield name, node


def called(source: str) -> set[str]:
    """Names called in a cell."""
    return {name for name, _ in calls(source)}


def text_of(markdown: str) -> str:
    """Markdown without fenced code blocks."""
    return FENCE.sub("", markdown)

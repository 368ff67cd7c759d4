"""One notebook as the rules look at it: cells by tag, code as syntax trees, prose without code."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from eqprop_lab.course import times
from eqprop_lab.regression.parameters import tags

FENCE = re.compile(times.FENCE, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class View:
    """A notebook with its path; `series` are the paths of all numbered notebooks, in order."""

    path: Path
    nb: NotebookNode
    series: tuple[Path, ...] = ()

    @classmethod
    def read(cls, path: Path, series: tuple[Path, ...] = ()) -> View:
        """Read and validate the file. Raises what nbformat raises for anything else."""
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

    def headed(self, text: str) -> list[int]:
        """Indices of the markdown cells that have a heading with `text`."""
        heading = re.compile(rf"^#+ .*{text}", re.MULTILINE)
        return [i for i, cell in self.prose if heading.search(cell.source)]

    def neighbour(self, index: int, step: int) -> str:
        """Source of the nearest markdown cell before (step -1) or after (step 1) a cell, or ''."""
        places = range(index + step, len(self.nb.cells) if step > 0 else -1, step)
        cells = (self.nb.cells[i] for i in places)
        return next((str(cell.source) for cell in cells if cell.cell_type == "markdown"), "")


class Hit(NamedTuple):
    """One place where a rule is broken: the index of the cell, and what its message says of it."""

    cell: int | None
    said: dict[str, object]


Find = Callable[[View], Iterator[Hit]]


def at(cell: int | None = None, **said: object) -> Hit:
    """A hit in a cell, or (None) in the notebook as a whole."""
    return Hit(cell, said)


def one(tag: str, kind: str) -> Find:
    """Hit unless exactly one cell of a kind has the tag."""

    def find(view: View) -> Iterator[Hit]:
        found = len(view.tagged(tag, kind))
        if found != 1:
            yield at(kind=kind, tag=tag, found=found)

    return find


def some(tag: str, kind: str) -> Find:
    """Hit where no cell of a kind has the tag."""

    def find(view: View) -> Iterator[Hit]:
        if not view.tagged(tag, kind):
            yield at(kind=kind, tag=tag)

    return find


def each(tag: str, kind: str, wrong: Callable[[View, int], bool]) -> Find:
    """Hit in every cell of a kind with the tag for which `wrong` holds."""

    def find(view: View) -> Iterator[Hit]:
        yield from (at(index) for index in view.tagged(tag, kind) if wrong(view, index))

    return find


def parse(source: str) -> ast.Module | None:
    """Syntax tree of a cell; None for magics and other text that is not Python."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def nodes(source: str) -> Iterator[ast.AST]:
    """Every node of the syntax tree of a cell; none of what is not Python."""
    tree = parse(source)
    yield from ast.walk(tree) if tree else ()


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """(last part of the called name, call) for every call in a cell."""
    for node in nodes(source):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2], node


def called(source: str) -> set[str]:
    """Names called in a cell."""
    return {name for name, _ in calls(source)}


def text_of(markdown: str) -> str:
    """Markdown without fenced code blocks."""
    return FENCE.sub("", markdown)


def words(view: View) -> int:
    """Words of the prose: no code blocks, no equations, no tags, no link targets."""
    return sum(times.words(cell.source) for _, cell in view.prose)

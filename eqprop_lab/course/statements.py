"""The statements of cells, and which of them rest on which: names bound, names used."""

from __future__ import annotations

import ast
import copy
import re
import symtable
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Statement:
    """One top-level statement with its text, comments between it and the one before included."""

    node: ast.stmt
    text: str

    @cached_property
    def binds(self) -> frozenset[str]:
        """Names that exist after it."""
        return frozenset(
            symbol.get_name()
            for symbol, top in self._symbols
            if (symbol.is_assigned() or symbol.is_imported())
            and (top or symbol.is_declared_global())
        )

    @cached_property
    def uses(self) -> frozenset[str]:
        """Names that it looks up outside its own functions."""
        return frozenset(
            symbol.get_name()
            for symbol, top in self._symbols
            if symbol.is_referenced() and (top or symbol.is_global())
        )

    @cached_property
    def _symbols(self) -> list[tuple[symtable.Symbol, bool]]:
        return list(_symbols_of(symtable.symtable(self.text, "<cell>", "exec")))

    @property
    def is_import(self) -> bool:
        """Whether it imports and does nothing else."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)


def _symbols_of(scope: symtable.SymbolTable) -> Iterator[tuple[symtable.Symbol, bool]]:
    """Symbols of a scope and of those inside it, each with whether its scope is the cell's."""
    top = scope.get_type() == "module"
    for symbol in scope.get_symbols():
        yield symbol, top
    for inner in scope.get_children():
        yield from _symbols_of(inner)


def names_read(node: ast.AST) -> frozenset[str]:
    """Names that are read anywhere in a syntax tree."""
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return frozenset(n.id for n in names if isinstance(n.ctx, ast.Load))


def statements(source: str) -> list[Statement]:
    """The top-level statements of a cell. Raises SyntaxError for what is not Python."""
    # Not splitlines, which ends a line where Python does not (at a form feed, for example).
    lines, begin, found = re.split(r"\r\n|\r|\n", source), 0, []
    for node in ast.parse(source).body:
        end = node.end_lineno or node.lineno
        found.append(Statement(node, "\n".join(lines[begin:end]).strip("\n")))
        begin = end
    return found


def fewer_names(statement: Statement, used: Collection[str]) -> Statement | None:
    """An import without the names that are of no use, None where all are; others as they are."""
    node = statement.node
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return statement
    names = [a for a in node.names if (a.asname or a.name).partition(".")[0] in {*used, "*"}]
    future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    if future or len(names) == len(node.names):
        return statement
    if not names:
        return None
    fewer = copy.copy(node)
    fewer.names = names
    return Statement(fewer, ast.unparse(fewer))


def needed(names: Iterable[str], among: Sequence[Statement]) -> list[Statement]:
    """Those statements on which names rest, directly or through others, in their order."""
    wanted, kept = set(names), set[int]()
    while True:
        new = {i for i, s in enumerate(among) if i not in kept and s.binds & wanted}
        if not new:
            return [among[i] for i in sorted(kept)]
        kept |= new
        wanted |= {name for i in new for name in among[i].uses}


def without(gone: Collection[str], among: Sequence[Statement]) -> tuple[list[Statement], set[str]]:
    """The statements that rest on none of the names, and all names that are gone with the others.

    A call at the end of a cell that is given several things (a quiz) is not looked into here.
    """
    lost, kept = set(gone), []
    for statement in among:
        if statement.uses & lost:
            lost |= statement.binds
        else:
            kept.append(statement)
    return kept, lost


def joined(kept: Sequence[Statement]) -> str:
    """The text of a cell of these statements, with two blank lines around functions."""
    text = ""
    for before, statement in zip([None, *kept], kept, strict=False):
        wide = any(s and not s.is_import and _is_block(s) for s in (before, statement))
        text += ("" if before is None else "\n\n\n" if wide else "\n") + statement.text
    return text


def _is_block(statement: Statement) -> bool:
    return isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)

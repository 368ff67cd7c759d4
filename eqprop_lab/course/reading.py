"""What an answer says without being run: whether it is open, what it rests on, which names it uses.

What is run is what was read: statements that the answer does not rest on stay out of its kernel.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Collection, Iterator

from eqprop_lab.course.statements import (
    Statement,
    fewer_names,
    joined,
    names_read,
    needed,
    statements,
)

EVASIVE = frozenset(
    "eval exec compile __import__ importlib import_module globals locals vars builtins inspect gc "
    " ctypes pickle pkgutil pydoc runpy __globals__ __code__ __closure__ __subclasses__ __dict__ "
    "__builtins__ __getattr__ __getattribute__ attrgetter methodcaller modules setattr delattr "
    "_inside _kept get_ipython".split()
)
"""Names by which something is reached whose own name is not read."""
NOTABLE = EVASIVE | frozenset(
    "open os sys subprocess socket shutil pathlib signal threading multiprocessing getattr".split()
)
TOO_DEEP = (SyntaxError, ValueError, RecursionError, MemoryError)
SHOWS = ("print", "display")
ONLY_BINDS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom


class UnreadableAnswer(ValueError):
    """An answer that is not Python; the message says where."""


def is_open(source: str, name: str) -> bool:
    """Whether the function is missing, or its body nothing but a docstring and `...`."""
    functions = [n for n in _tree(source).body if isinstance(n, ast.FunctionDef) and n.name == name]
    return not functions or all(_is_nothing(s) for s in functions[-1].body)


def _is_nothing(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def answer_alone(source: str, name: str) -> str:
    """The statements of a cell on which a function rests, and those that change one of these.

    What only shows or compares is left out: print, assert, an expression at the end, the check.
    """
    _tree(source)
    among = statements(source)
    if among and isinstance(among[-1].node, ast.Expr):
        among = among[:-1]
    always = [s for s in among if _is_for_all(s)]
    own: list[Statement] = []
    wanted = {name}
    while True:
        changing = [s for s in among if _changed_by(s.node) & wanted]
        wanted |= {n for s in changing for n in s.uses}
        now = needed(wanted, among)
        kept = [s for s in among if s in now or s in changing or s in always]
        wanted |= {n for s in kept for n in s.uses}
        if len(kept) == len(own):
            return joined([s for part in kept if (s := fewer_names(part, wanted))])
        own = kept


def _is_for_all(statement: Statement) -> bool:
    """`from __future__ import`, `from x import *`: what they bind cannot be read."""
    node = statement.node
    return isinstance(node, ast.ImportFrom) and (
        node.module == "__future__" or any(alias.name == "*" for alias in node.names)
    )


def _changed_by(node: ast.stmt) -> set[str]:
    """Names of things that a statement may change: it sets a part, or calls something on them."""
    if isinstance(node, ONLY_BINDS):
        return set()
    found = set[str]()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
            found.add(_root(part))
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            called = _root(part.value.func)
            if called not in SHOWS and not called.startswith("check_"):
                found |= names_read(part)
    return found


def _root(node: ast.AST) -> str:
    while not isinstance(node, ast.Name):
        inner = getattr(node, "value", None) or getattr(node, "func", None)
        if not isinstance(inner, ast.AST):
            return ""
        node = inner
    return node.id


def forbidden_in(source: str, name: str, forbidden: Collection[str]) -> list[str]:
    """Names that a function must not use and does, itself or through what its cell defines.

    A helper's own name counts as well: it may have been given to what is forbidden.
    """
    return sorted(all_names(answer_alone(source, name)) & set(forbidden))


def notable_in(source: str) -> list[str]:
    """At what in an answer a person should look: files, processes, the interpreter; the package's
    rooms it imports; what it sets on things that are not its own."""
    tree = _tree(source)
    return sorted({*(all_names(source) & NOTABLE), *_rooms(tree), *_patched(tree)})


def _rooms(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eqprop_lab"):
            yield f"{node.module}"
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("eqprop_lab"))


def _patched(tree: ast.Module) -> Iterator[str]:
    """Attributes that are set on what is imported, or comes from outside the cell."""
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name | ast.arg)]
    stored = [n for n in names if isinstance(n, ast.arg) or not isinstance(n.ctx, ast.Load)]
    own = {n.arg if isinstance(n, ast.arg) else n.id for n in stored}
    own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    yield from (f"sets {_root(n)}.{n.attr}" for n in _set_in(tree) if _root(n) not in own)


def _set_in(tree: ast.Module) -> list[ast.Attribute]:
    parts = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute))
    return [n for n in parts if not isinstance(n.ctx, ast.Load)]


def sets_any(source: str, attributes: Collection[str]) -> str:
    """The first of some attributes that an answer sets on things that are not its own, or a way to
    do so unseen; "" for none."""
    if not attributes:
        return ""
    tree = _tree(source)
    own = {"self", *(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))}
    found = {part.attr for part in _set_in(tree) if _root(part) not in own} & set(attributes)
    return next(iter(sorted(found | (all_names(source) & EVASIVE))), "")


def _tree(source: str) -> ast.Module:
    try:
        tree = ast.parse(source)
        compile(tree, "<answer>", "exec")
    except TOO_DEEP as error:
        at = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        said = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise UnreadableAnswer(f"the cell is not Python{at}: {said}") from error
    return tree


def all_names(source: str) -> set[str]:
    """Names of variables, attributes and modules in a text, local variables left out."""
    tree = _tree(source)
    waiting, found = [compile(tree, "<answer>", "exec")], set(_written(tree))
    while waiting:
        code = waiting.pop()
        found |= {part for name in code.co_names for part in name.split(".")}
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return found


def _written(tree: ast.Module) -> Iterator[str]:
    """Names that stand as texts: in `getattr`, which without a text is a way around, in `match`."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.MatchClass):
            yield from node.kwd_attrs
        if isinstance(node, ast.Call) and _root(node.func) in ("getattr", "hasattr"):
            text = node.args[1] if len(node.args) > 1 else None
            yield str(text.value) if isinstance(text, ast.Constant) else "__getattr__"
        elif isinstance(node, ast.Name) and node.id == "getattr" and id(node) not in called:
            yield "__getattr__"

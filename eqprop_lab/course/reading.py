"""What an answer says without being run: whether it is open, which names it uses."""

from __future__ import annotations

import ast
import types
from collections.abc import Collection

from eqprop_lab.course.statements import needed, statements

NOTABLE = frozenset(
    "open eval exec compile __import__ importlib globals builtins os sys subprocess socket ctypes "
    "inspect gc shutil pathlib signal threading multiprocessing get_ipython __globals__ __code__ "
    "__closure__ __subclasses__ _kept".split()
)
TOO_DEEP = (SyntaxError, ValueError, RecursionError, MemoryError)


class UnreadableAnswer(ValueError):
    """An answer that is not Python; the message says where."""


def is_open(source: str, name: str) -> bool:
    """Whether the function is missing, or its body nothing but a docstring and `...`."""
    functions = [n for n in _tree(source).body if isinstance(n, ast.FunctionDef) and n.name == name]
    return not functions or all(_is_nothing(s) for s in functions[-1].body)


def _is_nothing(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def forbidden_in(source: str, name: str, forbidden: Collection[str]) -> list[str]:
    """Names that a function must not use and does, itself or through what its cell defines."""
    _tree(source)
    own = needed({name}, statements(source))
    bound = {n for s in own if not s.is_import for n in s.binds}
    return sorted((_names("\n".join(s.text for s in own)) - bound) & set(forbidden))


def notable_in(source: str) -> list[str]:
    """Names in an answer at which a person should look: files, processes, the interpreter."""
    return sorted(_names(source) & NOTABLE)


def _tree(source: str) -> ast.Module:
    try:
        tree = ast.parse(source)
        compile(tree, "<answer>", "exec")
    except TOO_DEEP as error:
        at = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        said = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise UnreadableAnswer(f"the cell is not Python{at}: {said}") from error
    return tree


def _names(source: str) -> set[str]:
    """Names of variables, attributes and modules in a text, local variables left out."""
    waiting, found = [compile(_tree(source), "<answer>", "exec")], set[str]()
    while waiting:
        code = waiting.pop()
        found |= {part for name in code.co_names for part in name.split(".")}
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return found

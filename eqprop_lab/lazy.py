"""What is loaded when it is asked for: names of packages (PEP 562), and packages of extras.

    __getattr__, __dir__, __all__ = attach(__name__)

A stub beside `__init__.py` says where each public name lives (from home import name as name), for
type checkers and editors as well as for Python; modules and rooms are found in the folder.
"""

from __future__ import annotations

import ast
import difflib
import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """(__getattr__, __dir__, __all__) of a package, called from its `__init__.py`.

    Nothing is kept: every look-up asks the home of the name. An unknown name raises AttributeError
    with the nearest known one.
    """
    folders = import_module(package).__path__
    stub = Path(folders[0], "__init__.pyi")
    tree = ast.parse(stub.read_text(encoding="utf-8") if stub.exists() else "")
    homes = {
        alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def known() -> list[str]:
        files = (module.name for module in pkgutil.iter_modules(folders))
        return sorted({*homes, *(name for name in files if name != "__main__")})

    def find(name: str) -> Any:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        if name in (names := known()):
            return import_module(f"{package}.{name}")
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")

    return find, known, sorted(homes)


def optional(module: str, user: str, install: str, package: str = "") -> ModuleType:
    """A module that is not there with every installation.

    user: who needs it. install: what pip is told. package: what is said to be missing (default:
    what the import misses). Raises ImportError that says all of this.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = package or error.name or module
        raise ImportError(f"{user} needs the package {missing}: pip install {install}") from error

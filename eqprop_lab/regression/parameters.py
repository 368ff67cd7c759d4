"""The tagged `parameters` cell: what a notebook accepts, checked before a kernel starts.

Papermill only warns about an unknown name, runs with the defaults and exits 0: here that is an
error.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from eqprop_lab.validation import shown
from eqprop_lab.yaml_files import StrictLoader

PLAIN_TYPES: dict[str, type] = {
    kind.__name__: kind for kind in (int, float, str, bool, list, tuple, dict)
}
_WORDS = {"true": "True", "false": "False", "null": "None", "none": "None"}
# What ast raises for text that is no Python, or nests too deeply.
_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


class ParameterError(ValueError):
    """A value that a notebook does not accept, or a file of values that cannot be read."""


class NotebookError(ParameterError):
    """A notebook that cannot be run: no notebook, no parameters cell, no kernel."""


@dataclass(frozen=True)
class Parameter:
    """One line `name: annotation = default  # help` of the parameters cell."""

    name: str
    annotation: str
    default: Any
    help: str = ""


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell (empty list when it has none)."""
    return list(cell.get("metadata", {}).get("tags", []))


def parameters_cell(nb: NotebookNode, notebook: str) -> NotebookNode:
    """The one code cell tagged `parameters`. Raises NotebookError for none, and for more."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if len(cells) != 1:
        raise NotebookError(
            f"{notebook}: expected one code cell tagged 'parameters', found {len(cells)}"
        )
    return cells[0]


def read_parameters(nb: NotebookNode, notebook: str = "notebook") -> dict[str, Parameter]:
    """Name -> Parameter, in the order of the cell. Raises NotebookError for all but literals."""
    source = parameters_cell(nb, notebook).source
    try:
        statements = ast.parse(source).body
    except _NO_LITERAL as error:
        raise NotebookError(f"{notebook}: the parameters cell is not Python: {error}") from error
    found: dict[str, Parameter] = {}
    lines = source.splitlines()
    for node in statements:
        line = lines[node.lineno - 1]
        if (
            not isinstance(node, ast.AnnAssign)
            or not isinstance(node.target, ast.Name)
            or node.value is None
        ):
            raise NotebookError(
                f"{notebook}: parameters are lines 'name: type = literal  # what it is', "
                f"got {line!r}"
            )
        if node.target.id in found:
            raise NotebookError(f"{notebook}: the parameters cell sets {node.target.id!r} twice")
        try:
            default = ast.literal_eval(node.value)
        except _NO_LITERAL as error:
            raise NotebookError(
                f"{notebook}: the default in {line!r} is not a plain literal"
            ) from error
        rest = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :]
        comment = rest.lstrip(" #").strip()
        parameter = Parameter(node.target.id, ast.unparse(node.annotation), default, comment)
        try:
            fits = matches(default, parameter.annotation)
        except ParameterError as error:
            raise NotebookError(f"{notebook}: {error}") from error
        if not fits:
            raise NotebookError(
                f"{notebook}: the default in {line!r} is not of type {parameter.annotation}"
            )
        found[parameter.name] = parameter
    return found


def matches(value: Any, annotation: str) -> bool:
    """True when `value` is of the type: plain, `list[T]`, `T | None`; a bool is no int here."""
    return _matches(value, ast.parse(annotation, mode="eval").body)


def _matches(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _matches(value, node.left) or _matches(value, node.right)
    if isinstance(node, ast.Constant):
        return value is node.value if node.value is None else matches(value, str(node.value))
    if isinstance(node, ast.Subscript):
        kinds = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _matches(value, node.value) and _inside(value, kinds)
    name = ast.unparse(node)
    if name not in PLAIN_TYPES:
        raise ParameterError(f"type {name!r} of a parameter is not one of {', '.join(PLAIN_TYPES)}")
    kind = PLAIN_TYPES[name]
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, (int, float)) if kind is float else isinstance(value, kind)


def _inside(value: Any, kinds: list[ast.expr]) -> bool:
    """The parts of a list[T], dict[K, V], tuple[T, ...] or tuple[A, B]."""
    if isinstance(value, dict):
        return all(
            _matches(key, kinds[0]) and _matches(part, kinds[-1]) for key, part in value.items()
        )
    if len(kinds) > 1 and ast.unparse(kinds[-1]) != "...":
        return len(value) == len(kinds) and all(map(_matches, value, kinds))
    return all(_matches(part, kinds[0]) for part in value)


def coerce(parameter: Parameter, value: Any, notebook: str) -> Any:
    """`value` as the annotated type, or ParameterError naming parameter, value and type.

    Text (from the command line or from YAML, where 1e-3 is text) is read as a literal unless text
    is asked for.
    """
    result = value
    if isinstance(value, str) and not matches(value, parameter.annotation):
        with suppress(*_NO_LITERAL):
            result = ast.literal_eval(_WORDS.get(value.lower(), value))
    if not matches(result, parameter.annotation):
        raise ParameterError(
            f"{notebook}: parameter {parameter.name!r} takes {parameter.annotation} (default "
            f"{parameter.default!r}), got {shown(value)} ({type(value).__name__})"
        )
    if not _finite(result):
        raise ParameterError(
            f"{notebook}: parameter {parameter.name!r} must be finite, got {shown(value)}"
        )
    only_float = "float" in parameter.annotation and "int" not in parameter.annotation
    return float(result) if type(result) is int and only_float else result


def _finite(value: Any) -> bool:
    """No NaN and no infinity at any depth, and no integer beyond every float."""
    if isinstance(value, dict):
        return all(_finite(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, (int, float)) or abs(value) <= sys.float_info.max


def check_parameters(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], notebook: str
) -> dict[str, Any]:
    """The given values, typed. Raises ParameterError for a wrong type and for an unknown name."""
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(declared)}"
            raise ParameterError(f"{notebook}: unknown parameter {name!r}; {hint}")
    return {name: coerce(declared[name], value, notebook) for name, value in given.items()}


class _Loader(StrictLoader):
    """Strict YAML without aliases, whose plain words stay text (yes, off, dates)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not read", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)


_TEXT = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in _TEXT]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF")
)


def load_parameters(path: Path) -> dict[str, Any]:
    """The mapping name -> value of a YAML file, read safely. Raises ParameterError for all else."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ParameterError(f"--parameters {path.name}: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ParameterError(
            f"--parameters {path.name}: not plain YAML: {line}{error.problem}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ParameterError(
            f"--parameters {path.name}: not plain YAML: {first_line(error)}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(
            f"--parameters {path.name}: expected lines 'name: value', got {shown(content)}"
        )
    return content


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

"""The tagged `parameters` cell: what a notebook accepts, checked before a kernel starts.

Papermill only warns about an unknown name and exits 0, and YAML reads `1e-3` as text. Both are errors here.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

PLAIN_TYPES: dict[str, type] = {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "tuple": tuple, "dict": dict,
}  # fmt: skip


class ParameterError(ValueError):
    """A parameters cell that cannot be read, or a value that a notebook does not accept."""


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
    """The one code cell tagged `parameters`. Raises ParameterError when there is none or more than one."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ParameterError(f"{notebook}: expected one code cell tagged 'parameters', found {len(cells)}")
    return cells[0]


def read_parameters(nb: NotebookNode, notebook: str = "notebook") -> dict[str, Parameter]:
    """Name -> Parameter, in the order of the cell. Only annotated literals are accepted (ParameterError)."""
    source = parameters_cell(nb, notebook).source
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(f"{notebook}: the parameters cell is not Python: {error}") from error
    found: dict[str, Parameter] = {}
    lines = source.splitlines()
    for node in statements:
        line = lines[node.lineno - 1]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise ParameterError(f"{notebook}: parameters are lines 'name: type = literal  # what it is', got {line!r}")
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise ParameterError(f"{notebook}: the default in {line!r} is not a plain literal") from error
        comment = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :].lstrip(" #").strip()
        parameter = Parameter(node.target.id, ast.unparse(node.annotation), default, comment)
        if not matches(default, parameter.annotation):
            raise ParameterError(f"{notebook}: the default in {line!r} is not of type {parameter.annotation}")
        found[parameter.name] = parameter
    return found


def matches(value: Any, annotation: str) -> bool:
    """True when `value` is of the annotated type: plain types, `list[T]`, `T | None`. A bool is no int here."""
    return _matches(value, ast.parse(annotation, mode="eval").body)


def _matches(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _matches(value, node.left) or _matches(value, node.right)
    if isinstance(node, ast.Constant):
        return value is node.value if node.value is None else matches(value, str(node.value))
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
        return _matches(value, node.value) and (isinstance(value, dict) or all(_matches(v, inner) for v in value))
    name = ast.unparse(node)
    if name not in PLAIN_TYPES:
        raise ParameterError(f"type {name!r} of a parameter is not one of {', '.join(PLAIN_TYPES)}")
    kind = PLAIN_TYPES[name]
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, (int, float)) if kind is float else isinstance(value, kind)


def coerce(parameter: Parameter, value: Any, notebook: str) -> Any:
    """`value` as the annotated type, or ParameterError naming parameter, value and type.

    Text (from the command line or from YAML, where 1e-3 is text) is read as a literal unless text is asked for.
    """
    result = value
    if isinstance(value, str) and not matches(value, parameter.annotation):
        text = {"true": "True", "false": "False", "null": "None", "none": "None"}.get(value.lower(), value)
        try:
            result = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            result = value
    if not matches(result, parameter.annotation):
        raise ParameterError(
            f"{notebook}: parameter {parameter.name!r} takes {parameter.annotation} (default "
            f"{parameter.default!r}), got {value!r} ({type(value).__name__})"
        )
    if type(result) is int and "float" in parameter.annotation and "int" not in parameter.annotation:
        result = float(result)
    if isinstance(result, float) and not math.isfinite(result):
        raise ParameterError(f"{notebook}: parameter {parameter.name!r} must be finite, got {value!r}")
    return result


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    """The given values, typed. Raises ParameterError for an unknown name (with the nearest known) or a wrong type."""
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(declared)}"
            raise ParameterError(f"{notebook}: unknown parameter {name!r}; {hint}")
    return {name: coerce(declared[name], value, notebook) for name, value in given.items()}


def load_parameters(path: Path) -> dict[str, Any]:
    """The mapping name -> value of a YAML file, read safely. Raises ParameterError when it is anything else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"--parameters {path.name}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise ParameterError(f"--parameters {path.name}: not plain YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(f"--parameters {path.name}: expected lines 'name: value', got {type(content).__name__}")
    return content

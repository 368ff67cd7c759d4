"""The floors at the bottom know nothing of those above: data, files and devices can be read without
the physics.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import eqprop_lab

PACKAGE = Path(eqprop_lab.__file__).parent
GROUND = {"devices", "files", "seeding", "validation", "yaml_files"}
DATA = {
    "augmentation",
    "datasets",
    "image_files",
    "image_folder",
    "image_tree",
    "splits",
    "vision_compat",
    "vision_sets",
}
RUNNER = {f"regression.{file.stem}" for file in (PACKAGE / "regression").glob("*.py")} | {
    "regression"
}


def imported(module: str) -> set[str]:
    """Modules of the package that one of them names in an import, wherever that stands in it."""
    path = PACKAGE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.removeprefix("eqprop_lab.") for name in names if name.startswith("eqprop_lab")}


@pytest.mark.parametrize(
    ("floor", "below"),
    [(GROUND, set()), (DATA, GROUND), (RUNNER, {"files", "validation", "yaml_files"})],
    ids=["ground", "data", "runner"],
)
def test_a_floor_imports_from_itself_and_from_those_below(floor: set[str], below: set[str]) -> None:
    found = {module: imported(module) for module in sorted(floor)}
    assert any(found.values())
    assert not {module: up for module, names in found.items() if (up := names - floor - below)}

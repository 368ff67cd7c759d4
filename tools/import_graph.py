"""Who imports whom in the package: `python tools/import_graph.py [folder of the checkout]`.

Prints the rooms floor by floor with the rooms they import, then every circle of files and every
arrow that is not allowed; exits 1 when there is one. Every import counts: at the top of a file,
inside a function, under TYPE_CHECKING, `importlib.import_module` with the name written out, and the
stub beside a lazy `__init__`, which says where its names live.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# From the top down: a room imports only from floors below its own. `__init__` is the public face.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("commands",),
    ("__init__",),
    ("gpu", "course"),
    ("notebook", "regression"),
    ("deploy",),
    ("experiments",),
    ("utils",),
    ("instruments",),
    ("training",),
    ("acceleration",),
    ("algorithms",),
    ("models",),
    ("lut", "kernel"),
    ("equilibrium",),
    ("datasets",),
    ("devices", "files", "modules", "seeding", "tables", "yaml_files"),
    ("lazy", "quick_tanh", "validation", "version"),
)
HEIGHT = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Rooms that stand apart import these and no others, whatever lies below them. The runner needs no
# torch: of the package it takes the writing of files, the reading of YAML, and how both show a bad
# value, which a second copy of each would have to follow.
APART = {
    "regression": {"files", "validation", "yaml_files", "tables"},
    "kernel": {"quick_tanh", "validation"},
}

Graph = Mapping[str, set[str]]


def room_of(file: str) -> str:
    """The room of a file of the package (path relative to it): its folder, or its own name."""
    return file.partition("/")[0].removesuffix(".py")


def draw(package: Path) -> dict[str, set[str]]:
    """The files of a package, each with the files it imports; paths are relative to the package."""
    files = {file.relative_to(package).as_posix(): file for file in sorted(package.rglob("*.py"))}
    modules = {_module(package.name, file): file for file in files}
    graph = {}
    for name, path in files.items():
        module = _module(package.name, name)
        inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
        texts = [f.read_text("utf-8") for f in (path, path.with_suffix(".pyi")) if f.exists()]
        asked = [name for text in texts for name in _imported(ast.parse(text), inside)]
        found = {_longest(name, modules) for name in asked}
        graph[name] = {modules[module] for module in found if module} - {name}
    return graph


def _module(package: str, file: str) -> str:
    parts = [package, *file.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _longest(asked: str, modules: Mapping[str, str]) -> str:
    """The module that is asked for, or in which the name lies; '' for one of another package."""
    if asked in modules:
        return asked
    parent = asked.rpartition(".")[0]
    return parent if parent in modules else ""


def _imported(tree: ast.Module, inside: str) -> Iterator[str]:
    """Dotted names a file imports: modules, and whatever is taken from one (it may be a module)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), inside)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def forbidden(graph: Graph) -> list[str]:
    """Every arrow `file -> file` that runs up, or to another room of its floor, or is not among
    those of a room that stands apart.

    Raises ValueError for a room without a floor.
    """
    rooms = {room_of(file) for file in graph}
    if homeless := sorted(rooms - HEIGHT.keys()):
        raise ValueError(f"rooms without a floor in tools/import_graph.py: {', '.join(homeless)}")
    return [
        f"{file} -> {other}"
        for file, others in graph.items()
        for other in sorted(others)
        if not _allowed(room_of(file), room_of(other))
    ]


def _allowed(room: str, other: str) -> bool:
    if room == other:
        return True
    return HEIGHT[other] < HEIGHT[room] and other in APART.get(room, {other})


def circles(graph: Graph) -> list[list[str]]:
    """One circle [a, b, ..., a] for each group of files that import each other."""
    reach = {file: _reached(graph, file) for file in graph}
    groups = {
        frozenset(other for other in reach[file] if file in reach[other])
        for file in graph
        if file in reach[file]
    }
    return [_circle({file: graph[file] & group for file in sorted(group)}) for group in groups]


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _circle(group: Graph) -> list[str]:
    try:
        TopologicalSorter(group).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    raise AssertionError(f"no circle among {sorted(group)}")


def picture(graph: Graph) -> str:
    """The rooms from the top down, a line each: its files, and the rooms it imports."""
    below: dict[str, set[str]] = {room_of(file): set() for file in graph}
    for file, others in graph.items():
        below[room_of(file)] |= {room_of(other) for other in others}
    files = Counter(map(room_of, graph))
    lines = ["floor room         files  imports"]
    for room, height in HEIGHT.items():
        if room in below:
            names = sorted(below[room] - {room}, key=HEIGHT.__getitem__, reverse=True)
            floor = len(FLOORS) - 1 + height
            lines.append(f"{floor:5} {room:13}{files[room]:4}  {' '.join(names)}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the picture, then circles and offenders; 1 when there is any."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    graph = draw(root / "eqprop_lab")
    wrong = forbidden(graph)
    rings = circles(graph)
    print(picture(graph))
    arrows = sum(map(len, graph.values()))
    print(f"{len(graph)} files, {arrows} arrows, {len(rings)} circles, {len(wrong)} not allowed")
    for ring in rings:
        print(f"circle: {' -> '.join(ring)}")
    for arrow in wrong:
        print(f"not allowed: {arrow}")
    return 1 if rings or wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

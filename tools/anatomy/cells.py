"""What the rules look for in the cells: title, links, parameters, exercises, figures, code, ..."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from eqprop_lab.regression.parameters import (
    Parameter,
    ParameterError,
    parameters_cell,
    read_parameters,
    tags,
)
from tools.anatomy.view import Hit, View, at, called, calls, nodes, parse, text_of

TAGS = {
    "goals", "setup", "parameters", "predict", "explorer", "check", "figure", "summary", "metrics",
    "exercise", "exercise-context", "exercise-check", "solution", "quiz",
    "nbval-check-output", "nbval-ignore-output", "hide-input", "slide", "subslide", "skip",
}  # fmt: skip
# What a notebook takes for granted: school mathematics; linear algebra and gradients; papers.
LEVELS = ("introductory", "undergraduate", "graduate")
SETUP_LINES = 6
CELL_LINES = 25
FUNCTION_LINES = 20
ALT_LENGTH = 20
FILE_NAME = re.compile(r"\d\d_[a-z0-9]+(?:_[a-z0-9]+)*\.ipynb")
FACTS = re.compile(r"Time:.+·\s*Needs:.+·\s*Level:\s*(.*)")
INSTALL = re.compile(r"^\s*[!%]\s*(?:pip|conda|mamba)\b|pip install", re.MULTILINE)
SOURCE = re.compile(
    r"10\.\d{4,9}/\S+|arxiv\.org/abs/|arXiv:\s?\d{4}\.\d{4,5}|arXiv:\s?[a-z-]+/\d{7}",
    re.IGNORECASE,
)


def file_name(view: View) -> Iterator[Hit]:
    if not FILE_NAME.fullmatch(view.path.name):
        yield at()


def unknown_tags(view: View) -> Iterator[Hit]:
    for index, cell in enumerate(view.cells):
        yield from (at(index, tag=tag) for tag in sorted(set(tags(cell)) - TAGS))


def order(view: View) -> Iterator[Hit]:
    places = {tag: view.tagged(tag) for tag in ("goals", "setup", "parameters", "summary")}
    places |= {"references": view.headed("References"), "metrics": view.tagged("metrics")}
    present = [(name, found[0]) for name, found in places.items() if found]
    for (first, a), (second, b) in pairwise(present):
        if a > b:
            yield at(first=first, second=second)


def _title(view: View) -> str | None:
    first = view.cells[0] if view.cells else None
    return first.source if first is not None and first.cell_type == "markdown" else None


def no_title(view: View) -> Iterator[Hit]:
    if _title(view) is None:
        yield at()


def number(view: View) -> Iterator[Hit]:
    own = view.path.stem[:2]
    title = _title(view)
    if title is not None and not re.match(rf"# {re.escape(own)} · \S", title):
        yield at(number=own)


def _facts(view: View) -> re.Match[str] | None:
    return FACTS.search(re.sub(r"[*_]", "", _title(view) or ""))


def no_facts(view: View) -> Iterator[Hit]:
    if _title(view) is not None and not _facts(view):
        yield at()


def level(view: View) -> Iterator[Hit]:
    facts = _facts(view)
    if facts and facts.group(1).strip(" .") not in LEVELS:
        yield at(level=facts.group(1), levels=", ".join(LEVELS))


def neighbours(view: View) -> Iterator[Hit]:
    names = [path.name for path in view.series]
    title = _title(view)
    if title is not None and view.path.name in names:
        here = names.index(view.path.name)
        beside = names[max(0, here - 1) : here] + names[here + 1 : here + 2]
        yield from (at(name=name) for name in beside if name not in title)


def _links(view: View) -> Iterator[tuple[int, str, str]]:
    """(cell, text, target) of the links to notebooks of this folder."""
    for index, cell in view.prose:
        for text, target in re.findall(r"\[([^\]]*)\]\(([^)#\s]+\.ipynb)", cell.source):
            if "://" not in target:
                yield index, text, target


def dead_links(view: View) -> Iterator[Hit]:
    for index, _, target in _links(view):
        if not (view.path.parent / target).exists():
            yield at(index, target=target)


def other_titles(view: View) -> Iterator[Hit]:
    for index, text, target in _links(view):
        path = view.path.parent / target
        if re.match(r"\d\d · ", text) and path.exists() and text != (title := _title_of(path)):
            yield at(index, text=text, title=title)


def _title_of(path: Path) -> str:
    """`NN · title` from the first line of a notebook, or ''. Plain JSON: validating is slow."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = "".join(cells[0]["source"]) if cells else ""
    return first.partition("\n")[0].removeprefix("# ").strip()


def goals(view: View) -> Iterator[Hit]:
    found = view.tagged("goals", "markdown")
    source = view.cells[found[0]].source if len(found) == 1 else ""
    items = len(re.findall(r"^\s*(?:[-*]|\d+\.)\s+\S", source, re.MULTILINE))
    if source and ("After this notebook you can" not in source or not 3 <= items <= 5):
        yield at(found[0], items=items)


def setup_lines(view: View) -> Iterator[Hit]:
    for index in view.tagged("setup", "code"):
        lines = len(view.cells[index].source.splitlines())
        if lines > SETUP_LINES:
            yield at(index, lines=lines, most=SETUP_LINES)


def installs(view: View) -> Iterator[Hit]:
    yield from (at(index) for index, cell in view.code if INSTALL.search(cell.source))


def unreadable(view: View) -> Iterator[Hit]:
    try:
        read_parameters(view.nb, view.path.stem)
    except ParameterError as error:
        yield at(error=error)


def _parameters(view: View) -> tuple[dict[str, Parameter], list[str]]:
    """What the parameters cell declares, and its lines of code; nothing where it is unreadable."""
    if any(unreadable(view)):
        return {}, []
    source = parameters_cell(view.nb, view.path.stem).source
    lines = [line for line in source.splitlines() if not re.match(r"\s*(#|$)", line)]
    return read_parameters(view.nb, view.path.stem), lines


def parameter_lines(view: View) -> Iterator[Hit]:
    declared, lines = _parameters(view)
    if len(lines) != len(declared):
        yield at()


def no_comment(view: View) -> Iterator[Hit]:
    yield from (at(line=line) for line in _parameters(view)[1] if not re.search(r"\s#\s*\S", line))


def two_equals(view: View) -> Iterator[Hit]:
    yield from (at(line=line) for line in _parameters(view)[1] if line.count("=") != 1)


def no_seed(view: View) -> Iterator[Hit]:
    if not any(unreadable(view)) and "seed" not in _parameters(view)[0]:
        yield at()


def no_profile(view: View) -> Iterator[Hit]:
    profile = _parameters(view)[0].get("profile")
    if not any(unreadable(view)) and (profile is None or profile.default != "smoke"):
        yield at()


def unvalidated(view: View) -> Iterator[Hit]:
    found = view.tagged("parameters", "code")
    after = [cell.source for index, cell in view.code if found and index > found[0]]
    if not after or not called(after[0]) & {"setup", "require"}:
        yield at()


def shows_nothing(view: View, index: int) -> bool:
    tree = parse(view.cells[index].source)
    return tree is None or not tree.body or not isinstance(tree.body[-1], ast.Expr)


def asks_too_little(view: View, index: int) -> bool:
    return view.neighbour(index, -1).count("?") < 2


def answers_nothing(view: View, index: int) -> bool:
    return "<details" not in view.neighbour(index, 1)


def asks_nothing(view: View, index: int) -> bool:
    return "?" not in view.cells[index].source


def checks_nothing(view: View, index: int) -> bool:
    return not any(name.startswith("check") for name in called(view.cells[index].source))


def exercise_cells(view: View) -> Iterator[range]:
    """The cells of each exercise, from its task up to the next one."""
    starts = view.tagged("exercise", "markdown")
    yield from (range(start, end) for start, end in pairwise([*starts, len(view.cells)]))


def exercise_gaps(view: View) -> Iterator[Hit]:
    for cells in exercise_cells(view):
        for tag in ("exercise", "exercise-check", "solution"):
            if not set(view.tagged(tag, "code")) & set(cells):
                yield at(cells[0], tag=tag)


def no_hint(view: View) -> Iterator[Hit]:
    for cells in exercise_cells(view):
        told = [view.cells[index].source for index in view.tagged("exercise") if index in cells]
        if not any("hint" in source.lower() for source in told):
            yield at(cells[0])


def _shown(source: str) -> list[dict[str, ast.expr]]:
    """The arguments by name of every show(...) in a cell that is given some."""
    return [
        dict(zip(("fig", "name", "alt", "caption"), call.args, strict=False))
        | {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        for name, call in calls(source)
        if name == "show" and (call.args or call.keywords)
    ]


def figure_tags(view: View) -> Iterator[Hit]:
    tagged = view.tagged("figure")
    for index, cell in view.code:
        if bool(_shown(cell.source)) != (index in tagged):
            yield at(index)


def figure_arguments(view: View) -> Iterator[Hit]:
    for index, cell in view.code:
        for given in _shown(cell.source):
            yield from (
                at(index, key=key) for key in ("name", "alt", "caption") if key not in given
            )


def _constants(view: View, key: str) -> Iterator[tuple[int, object]]:
    """(cell, value) of an argument of show(...) wherever it is written out."""
    for index, cell in view.code:
        for given in _shown(cell.source):
            value = given.get(key)
            if isinstance(value, ast.Constant):
                yield index, value.value


def figure_names(view: View) -> Iterator[Hit]:
    pattern = rf"nb{view.path.stem[:2]}_[a-z0-9_]+"
    for index, name in _constants(view, "name"):
        if not re.fullmatch(pattern, str(name)):
            yield at(index, name=name, pattern=pattern)


def short_alt(view: View) -> Iterator[Hit]:
    for index, alt in _constants(view, "alt"):
        if len(str(alt)) < ALT_LENGTH:
            yield at(index, least=ALT_LENGTH)


def reference_cells(view: View) -> Iterator[Hit]:
    found = len(view.headed("References"))
    if found != 1:
        yield at(found=found)


def _references(view: View) -> list[tuple[int, str]]:
    """(cell, text) of the numbered items of the references."""
    found = view.headed("References")
    if len(found) != 1:
        return []
    items = re.findall(
        r"^\d+\.\s+(.*(?:\n(?!\d+\.\s).*)*)", view.cells[found[0]].source, re.MULTILINE
    )
    return [(found[0], item) for item in items]


def no_references(view: View) -> Iterator[Hit]:
    if len(view.headed("References")) == 1 and not _references(view):
        yield at()


def no_identifier(view: View) -> Iterator[Hit]:
    for count, (index, item) in enumerate(_references(view), 1):
        if not SOURCE.search(item):
            yield at(index, count=count)


def metrics_place(view: View) -> Iterator[Hit]:
    if view.tagged("metrics", "code") != [index for index, _ in view.code[-1:]]:
        yield at()


def metrics_calls(view: View) -> Iterator[Hit]:
    for index in view.tagged("metrics", "code"):
        missing = {"record", "provenance"} - called(view.cells[index].source)
        yield from (at(index, name=name) for name in sorted(missing))


def _levels(view: View) -> list[int]:
    return [
        len(match)
        for _, cell in view.prose
        for match in re.findall(r"^(#{1,6}) \S", text_of(cell.source), re.MULTILINE)
    ]


def top_heading(view: View) -> Iterator[Hit]:
    levels = _levels(view)
    if levels.count(1) != 1 or levels[0] != 1:
        yield at(found=levels.count(1))


def skipped_levels(view: View) -> Iterator[Hit]:
    for above, below in pairwise(_levels(view)):
        if below > above + 1:
            yield at(above=above, below=below)


def long_cells(view: View) -> Iterator[Hit]:
    for index, cell in view.code:
        lines = len(cell.source.splitlines())
        if lines > CELL_LINES:
            yield at(index, lines=lines, most=CELL_LINES)


def long_functions(view: View) -> Iterator[Hit]:
    for index, cell in view.code:
        for node in nodes(cell.source):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    yield at(index, name=node.name, lines=lines, most=FUNCTION_LINES)

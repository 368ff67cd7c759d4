"""The anatomy lint: does a notebook keep to the conventions of the series? `python -m eqprop_lab
lint-notebooks`.
"""

from __future__ import annotations

import argparse
import ast
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from eqprop_lab.regression.parameters import ParameterError, tags
from eqprop_lab.regression.plan import find_notebooks, project_root
from tools.anatomy import cells as cells
from tools.anatomy import outputs as outputs
from tools.anatomy.view import View, parse, text_of, where

CELL_LINES, FUNCTION_LINES, MEDIAN_LINES = 25, 20, 10
CODE_CELLS = (15, 45)
WORDS = (800, 2500)
FILE_NAME = re.compile(r"\d\d_[a-z0-9]+(?:_[a-z0-9]+)*\.ipynb")
TAGS = {
    "goals", "setup", "parameters", "predict", "explorer", "check", "exercise", "exercise-check", "solution",
    "figure", "summary", "metrics", "nbval-check-output", "nbval-ignore-output", "hide-input",
}  # fmt: skip


def file_name(view: View) -> Iterator[str]:
    """`NN_topic.ipynb`, lower case."""
    if not FILE_NAME.fullmatch(view.path.name):
        yield "the file name is not NN_topic.ipynb"


def known_tags(view: View) -> Iterator[str]:
    """Only tags of the anatomy: a misspelt tag would switch a rule off."""
    for index, cell in enumerate(view.cells):
        for tag in sorted(set(tags(cell)) - TAGS):
            yield f"{where(index)}: unknown tag {tag!r}"


def order(view: View) -> Iterator[str]:
    """Title, goals, setup, parameters, ..., summary, references, metrics; one summary."""
    summaries = view.tagged("summary", "markdown")
    if len(summaries) != 1:
        yield f"expected one markdown cell tagged 'summary', found {len(summaries)}"
    sources = [
        i for i, cell in view.prose if re.search(r"^#+ .*References", cell.source, re.MULTILINE)
    ]
    places = {tag: view.tagged(tag) for tag in ("goals", "setup", "parameters", "summary")}
    places |= {"references": sources, "metrics": view.tagged("metrics")}
    present = [(name, found[0]) for name, found in places.items() if found]
    for (first, a), (second, b) in pairwise(present):
        if a > b:
            yield f"{second} comes before {first}"


def budgets(view: View) -> Iterator[str]:
    """Lines of a cell and of a function, median cell, number of code cells, words."""
    lengths = [len(cell.source.splitlines()) for _, cell in view.code]
    for (index, cell), lines in zip(view.code, lengths, strict=True):
        if lines > CELL_LINES:
            yield f"{where(index)}: {lines} lines of code (at most {CELL_LINES})"
        tree = parse(cell.source)
        for node in ast.walk(tree) if tree else ():
            if (
                isinstance(node, ast.FunctionDef)
                and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
            ):
                length = (node.end_lineno or 0) - node.lineno + 1
                yield f"{where(index)}: function {node.name} has {length} lines (at most {FUNCTION_LINES})"
    if lengths and statistics.median(lengths) > MEDIAN_LINES:
        yield f"the median code cell has {statistics.median(lengths):g} lines (at most {MEDIAN_LINES})"
    if not CODE_CELLS[0] <= len(lengths) <= CODE_CELLS[1]:
        yield f"{len(lengths)} code cells ({CODE_CELLS[0]} to {CODE_CELLS[1]})"
    words = word_count(view)
    if not WORDS[0] <= words <= WORDS[1]:
        yield f"{words} words ({WORDS[0]} to {WORDS[1]})"


def word_count(view: View) -> int:
    """Words of the prose: no code blocks, no equations, no tags, no link targets."""
    text = "\n".join(text_of(cell.source) for _, cell in view.prose)
    for pattern in (r"\$\$.*?\$\$", r"\$[^$\n]*\$", r"<[^>]*>", r"\]\([^)]*\)", r"`[^`\n]*`"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return len(re.findall(r"[^\W\d_][\w'-]*", text))


def headings(view: View) -> Iterator[str]:
    """One `#` heading, the first; no level is skipped (the table of contents is made from them)."""
    levels = [
        len(match)
        for _, cell in view.prose
        for match in re.findall(r"^(#{1,6}) \S", text_of(cell.source), re.MULTILINE)
    ]
    if levels.count(1) != 1 or levels[:1] != [1]:
        yield f"expected one # heading, the first; found {levels.count(1)}"
    for above, below in pairwise(levels):
        if below > above + 1:
            yield f"a heading of level {below} follows one of level {above}"


RULES: tuple[Callable[[View], Iterator[str]], ...] = (
    file_name, known_tags, order, cells.title, cells.links, cells.goals, cells.setup, cells.parameters,
    cells.derived, cells.explorers, cells.predictions, cells.checks, cells.exercises, cells.figures,
    cells.references, cells.metrics, headings, budgets, outputs.metadata, outputs.stored, outputs.errors,
    outputs.text, outputs.sizes,
)  # fmt: skip


def lint_notebook(path: Path, series: Sequence[Path] = ()) -> list[str]:
    """Every broken rule of one notebook, as one line each; empty when it keeps to the anatomy."""
    view = View.read(path, tuple(series))
    return [problem for rule in RULES for problem in rule(view)]


def main(argv: Sequence[str]) -> int:
    """Lint the named notebooks (default: the series); 1 when a rule is broken."""
    parser = argparse.ArgumentParser(prog="python -m eqprop_lab lint-notebooks")
    parser.add_argument(
        "notebooks", nargs="*", metavar="notebook", help="number, name or path; default: all"
    )
    arguments = parser.parse_args(argv)
    try:
        root = project_root()
        series = find_notebooks([], root)
        paths = find_notebooks(arguments.notebooks, root)
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    broken = 0
    for path in paths:
        problems = lint_notebook(path, series)
        broken += len(problems)
        print(f"{path.stem}: {f'{len(problems)} problems' if problems else 'ok'}")
        for problem in problems:
            print(f"    {problem}")
    return 1 if broken else 0

"""Anatomy rules about the kinds of cells: title, goals, setup, parameters, explorer, exercise,
figure, metrics.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from eqprop_lab.regression.parameters import ParameterError, parameters_cell, read_parameters
from tools.anatomy.view import View, called, calls, parse, where

TITLE = re.compile(r"^# (\d\d) · \S")
FACTS = re.compile(r"Time:.+·\s*Needs:.+·\s*Level:\s*(.*)")
LEVELS = ("introductory", "undergraduate", "graduate")
"""What a notebook takes for granted: school mathematics; linear algebra and gradients; the pace of a paper."""
SOURCE = re.compile(
    r"10\.\d{4,9}/\S+|arxiv\.org/abs/|arXiv:\s?\d{4}\.\d{4,5}|arXiv:\s?[a-z-]+/\d{7}", re.IGNORECASE
)
SETUP_LINES = 6
ALT_LENGTH = 20


def title(view: View) -> Iterator[str]:
    """First cell: `# NN · ...` with the number of the file, the facts line, links to the neighbours
    in the series.
    """
    first = view.cells[0] if view.cells else None
    if first is None or first.cell_type != "markdown":
        yield "the first cell is not a markdown title"
        return
    match = TITLE.match(first.source)
    if not match or match.group(1) != view.path.stem[:2]:
        yield f"the title is not '# {view.path.stem[:2]} · ...'"
    facts = FACTS.search(re.sub(r"[*_]", "", first.source))
    if not facts:
        yield "the title cell lacks the line 'Time: ... · Needs: ... · Level: ...'"
    elif facts.group(1).strip(" .") not in LEVELS:
        yield f"the level {facts.group(1)!r} tells a reader nothing; one of {', '.join(LEVELS)}"
    names = [path.name for path in view.series]
    if view.path.name in names:
        here = names.index(view.path.name)
        for other in names[max(0, here - 1) : here] + names[here + 1 : here + 2]:
            if other not in first.source:
                yield f"the title cell does not link its neighbour {other}"


def links(view: View) -> Iterator[str]:
    """Links to notebooks point at files that exist; one that says a number and a title says those
    of its target.
    """
    for index, cell in view.prose:
        for text, target in re.findall(r"\[([^\]]*)\]\(([^)#\s]+\.ipynb)", cell.source):
            path = view.path.parent / target
            if "://" in target:
                continue
            if not path.exists():
                yield f"{where(index)}: link to {target}, which does not exist"
            elif re.match(r"\d\d · ", text) and text != (called := _title_of(path)):
                yield f"{where(index)}: the link {text!r} leads to {called!r}"


def _title_of(path: Path) -> str:
    """`NN · title` as the first line of a notebook has it; '' when it has none. Plain JSON:
    validation is slow.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = "".join(cells[0]["source"]) if cells else ""
    return first.partition("\n")[0].removeprefix("# ").strip()


def goals(view: View) -> Iterator[str]:
    """One `goals` cell: "After this notebook you can" and 3 to 5 items."""
    found = view.tagged("goals", "markdown")
    if len(found) != 1:
        yield f"expected one markdown cell tagged 'goals', found {len(found)}"
        return
    source = view.cells[found[0]].source
    items = len(re.findall(r"^\s*(?:[-*]|\d+\.)\s+\S", source, re.MULTILINE))
    if "After this notebook you can" not in source or not 3 <= items <= 5:
        yield f"goals: 'After this notebook you can ...' with 3 to 5 items, found {items}"


def setup(view: View) -> Iterator[str]:
    """One `setup` code cell of at most six lines that installs nothing."""
    found = view.tagged("setup", "code")
    if len(found) != 1:
        yield f"expected one code cell tagged 'setup', found {len(found)}"
    for index in found:
        source = view.cells[index].source
        lines = len(source.splitlines())
        if lines > SETUP_LINES:
            yield f"setup: {lines} lines (at most {SETUP_LINES})"
    for index, cell in view.code:
        if re.search(r"^\s*[!%]\s*(?:pip|conda|mamba)\b|pip install", cell.source, re.MULTILINE):
            yield f"{where(index)}: installs packages"


def parameters(view: View) -> Iterator[str]:
    """One `parameters` cell papermill can read: a line each, annotated, commented, with seed and
    profile.
    """
    try:
        declared = read_parameters(view.nb, view.path.stem)
    except ParameterError as error:
        yield str(error)
        return
    source = parameters_cell(view.nb, view.path.stem).source
    lines = [
        line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    if len(lines) != len(declared):
        yield "parameters: one per line"
    for line in lines:
        if not re.search(r"\s#\s*\S", line):
            yield f"parameters: no comment in {line!r}"
        if line.count("=") != 1:
            yield f"parameters: one '=' in a line, papermill skips {line!r}"
    if "seed" not in declared:
        yield "parameters: 'seed' is missing"
    if "profile" not in declared or declared["profile"].default != "smoke":
        yield 'parameters: profile: str = "smoke" is missing'


def derived(view: View) -> Iterator[str]:
    """The code cell after the parameters validates them (`setup`, `require`)."""
    found = view.tagged("parameters", "code")
    after = [cell for index, cell in view.code if found and index > found[0]]
    if not after or not called(after[0].source) & {"setup", "require"}:
        yield "the code cell after the parameters does not validate them with setup(...) or require(...)"


def explorers(view: View) -> Iterator[str]:
    """An explorer cell shows one object, with two questions before and collapsed answers after."""
    found = view.tagged("explorer", "code")
    if not found:
        yield "no code cell tagged 'explorer'"
    for index in found:
        tree = parse(view.cells[index].source)
        if tree is None or not tree.body or not isinstance(tree.body[-1], ast.Expr):
            yield f"{where(index)}: an explorer cell ends with the object it shows"
        if view.neighbour(index, -1).count("?") < 2:
            yield f"{where(index)}: two questions are asked before an explorer"
        if "<details" not in view.neighbour(index, +1):
            yield f"{where(index)}: collapsed answers (<details>) follow an explorer"


def predictions(view: View) -> Iterator[str]:
    """`predict` cells ask something, and there is at least one."""
    found = view.tagged("predict", "markdown")
    if not found:
        yield "no markdown cell tagged 'predict'"
    for index in found:
        if "?" not in view.cells[index].source:
            yield f"{where(index)}: tagged 'predict' but asks no question"


def checks(view: View) -> Iterator[str]:
    """`check` cells call a check, and there is at least one."""
    found = view.tagged("check", "code")
    if not found:
        yield "no code cell tagged 'check'"
    for index in found:
        if not any(name.startswith("check") for name in called(view.cells[index].source)):
            yield f"{where(index)}: tagged 'check' but calls no check_..."


def exercises(view: View) -> Iterator[str]:
    """Each exercise: text, a stub with a hint, an `exercise-check`, a `solution`."""
    starts = view.tagged("exercise", "markdown")
    if not starts:
        yield "no markdown cell tagged 'exercise'"
    for start, end in pairwise([*starts, len(view.cells)]):
        inside = range(start, end)
        for tag in ("exercise", "exercise-check", "solution"):
            if not any(index in inside for index in view.tagged(tag, "code")):
                yield f"{where(start)}: exercise without a code cell tagged '{tag}'"
        told = [view.cells[i].source.lower() for i in view.tagged("exercise") if i in inside]
        if not any("hint" in source for source in told):
            yield f"{where(start)}: exercise without a hint"


def figures(view: View) -> Iterator[str]:
    """`figure` cells and calls of show(...) belong together; each call names figure, alt text and
    caption.
    """
    if not view.tagged("figure", "code"):
        yield "no code cell tagged 'figure'"
    for index, cell in view.code:
        shown = [
            call
            for name, call in calls(cell.source)
            if name == "show" and (call.args or call.keywords)
        ]
        if bool(shown) != (index in view.tagged("figure")):
            yield f"{where(index)}: the tag 'figure' and a call of show(...) go together"
        for call in shown:
            given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
            given |= dict(zip(("fig", "name", "alt", "caption"), call.args, strict=False))
            for key in ("name", "alt", "caption"):
                if key not in given:
                    yield f"{where(index)}: show(...) without {key}"
            name, alt = (given.get(key) for key in ("name", "alt"))
            pattern = rf"nb{view.path.stem[:2]}_[a-z0-9_]+"
            if isinstance(name, ast.Constant) and not re.fullmatch(pattern, str(name.value)):
                yield f"{where(index)}: figure name {name.value!r} does not match {pattern}"
            if isinstance(alt, ast.Constant) and len(str(alt.value)) < ALT_LENGTH:
                yield f"{where(index)}: alt text of fewer than {ALT_LENGTH} characters"


def references(view: View) -> Iterator[str]:
    """A numbered list under a heading References; every item has a DOI or an arXiv id."""
    found = [
        cell.source
        for _, cell in view.prose
        if re.search(r"^#+ .*References", cell.source, re.MULTILINE)
    ]
    if len(found) != 1:
        yield f"expected one markdown cell with a heading 'References', found {len(found)}"
        return
    items = re.findall(r"^\d+\.\s+(.*(?:\n(?!\d+\.\s).*)*)", found[0], re.MULTILINE)
    if not items:
        yield "references: no numbered items"
    for number, item in enumerate(items, 1):
        if not SOURCE.search(item):
            yield f"references: item {number} has neither a DOI nor an arXiv id"


def metrics(view: View) -> Iterator[str]:
    """The last code cell is tagged `metrics` and calls record(...) and provenance()."""
    found = view.tagged("metrics", "code")
    if len(found) != 1 or found[0] != (view.code[-1][0] if view.code else -1):
        yield "the last code cell, and no other, is tagged 'metrics'"
    for index in found:
        for name in sorted({"record", "provenance"} - called(view.cells[index].source)):
            yield f"{where(index)}: the metrics cell does not call {name}(...)"

"""What the rules look for in the form of a notebook: exercises, quiz, rhythm, papers, honest time.

The form is described in `eqprop_lab.notebook.exercises`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from eqprop_lab.course import times
from eqprop_lab.course.masters import HEADING, PARTS
from eqprop_lab.regression.parameters import tags
from tools.anatomy.cells import SOURCE, exercise_cells
from tools.anatomy.view import Hit, View, at, calls, parse

NEEDS = re.compile(r"^You need: sections? (.+)$", re.MULTILINE)
FOLDED = {"exercise-check", "exercise-context", "solution", "figure", "quiz"}
EXERCISES, QUESTIONS, IN_A_ROW, WIDTH = 3, range(3, 6), 2, 100
# Of an entry of `papers`: what it needs, where ours is read from (one of them), what may follow
# (see tools/papers.py, which makes a page of them).
PAPER = {"paper", "where", "value"}
OURS = {"metric", "stored"}
FURTHER = {"function", "differs", "by"}
WANTED = "paper, where, value and metric or stored"
SLACK = 0.15


def _heading(view: View, index: int) -> re.Match[str] | None:
    return HEADING.match(view.cells[index].source)


def too_few(view: View) -> Iterator[Hit]:
    found = len(view.tagged("exercise", "markdown"))
    if found < EXERCISES:
        yield at(found=found, least=EXERCISES)


def headings(view: View) -> Iterator[Hit]:
    for count, index in enumerate(view.tagged("exercise", "markdown"), 1):
        heading = _heading(view, index)
        if not heading or int(heading["number"]) != count:
            yield at(index, count=count)


def ideas(view: View) -> Iterator[Hit]:
    headed = (_heading(view, index) for index in view.tagged("exercise", "markdown"))
    found = sum(bool(heading and heading["idea"]) for heading in headed)
    if found != 1:
        yield at(found=found)


def needs(view: View) -> Iterator[Hit]:
    """Who jumps to the idea has to know which sections to read first."""
    headings = {
        title.strip()
        for _, cell in view.prose
        for title in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
    }
    for index in view.tagged("exercise", "markdown"):
        heading = _heading(view, index)
        if heading and heading["idea"]:
            said = NEEDS.search(view.cells[index].source)
            sections = re.findall(r"\*(.+?)\*", said[1]) if said else []
            if not sections or not headings.issuperset(sections):
                yield at(index, unknown=[name for name in sections if name not in headings])


def parts(view: View) -> Iterator[Hit]:
    """Task, stub, check and solution, one after the other."""
    for cells in exercise_cells(view):
        wanted = [(tag, "code") for tag in PARTS]
        after = view.cells[cells[0] + 1 : cells[0] + 1 + len(PARTS)]
        found = [(next(iter(set(tags(c)) & set(PARTS)), ""), c.cell_type) for c in after]
        if found != wanted:
            yield at(cells[0])


def _stub(view: View, index: int) -> ast.FunctionDef | None:
    """The function of a stub, if a cell holds nothing else but imports."""
    tree = parse(view.cells[index].source)
    body = [n for n in tree.body if not isinstance(n, (ast.Import, ast.ImportFrom))] if tree else []
    return body[0] if len(body) == 1 and isinstance(body[0], ast.FunctionDef) else None


def no_stub(view: View, index: int) -> bool:
    """Whether a stub is not one function with types and a docstring, and `...` for a body."""
    function = _stub(view, index)
    if function is None or ast.get_docstring(function) is None or function.returns is None:
        return True
    arguments = function.args.args + function.args.kwonlyargs
    rest = [ast.unparse(statement) for statement in function.body[1:]]
    return rest != ["..."] or any(argument.annotation is None for argument in arguments)


def other_checks(view: View) -> Iterator[Hit]:
    """Check and solution call the same `check_NAME`, on `NAME` and on `solved_NAME`."""
    for cells in exercise_cells(view):
        inside = {tag: [i for i in view.tagged(tag, "code") if i in cells] for tag in PARTS}
        stubs = [stub for i in inside["exercise"] if (stub := _stub(view, i))]
        if len(stubs) == 1:
            name = stubs[0].name
            for tag, given in (("exercise-check", name), ("solution", f"solved_{name}")):
                call = f"check_{name}({given})"
                for index in inside[tag]:
                    source = view.cells[index].source
                    if call not in {ast.unparse(node) for _, node in calls(source)}:
                        yield at(index, call=call)


def unfolded(view: View) -> Iterator[Hit]:
    for index, cell in view.code:
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield from (at(index, tag=tag) for tag in sorted(FOLDED & set(tags(cell))))


def unlabelled(view: View) -> Iterator[Hit]:
    """A folded cell shows its first line; figures are known by their picture."""
    for index, cell in view.code:
        if (FOLDED - {"figure"}) & set(tags(cell)) and not cell.source.startswith("# "):
            yield at(index)


def _questions(source: str) -> list[ast.expr]:
    return [pair for name, call in calls(source) if name == "quiz" for pair in call.args]


def questions(view: View) -> Iterator[Hit]:
    for index in view.tagged("quiz", "code"):
        found = len(_questions(view.cells[index].source))
        if found not in QUESTIONS:
            yield at(index, found=found)


def asks_no_number(view: View, index: int) -> bool:
    """Whether no text of a quiz has a value of the run in it."""
    pairs = _questions(view.cells[index].source)
    return not any(isinstance(n, ast.FormattedValue) for p in pairs for n in ast.walk(p))


def code_in_a_row(view: View) -> Iterator[Hit]:
    """Stub, check and solution have their task before them and do not count."""
    row = 0
    for index, cell in enumerate(view.cells):
        ours = {*PARTS, "exercise-context"} & set(tags(cell))
        row = 0 if cell.cell_type != "code" or ours else row + 1
        if row == IN_A_ROW + 1:
            yield at(index, most=IN_A_ROW)


def wide_lines(view: View) -> Iterator[Hit]:
    for index, cell in view.code:
        widest = max(map(len, cell.source.splitlines()), default=0)
        if widest > WIDTH:
            yield at(index, widest=widest, most=WIDTH)


def papers(view: View) -> Iterator[Hit]:
    entries = view.nb.metadata.get("eqprop", {}).get("papers", [])
    if not entries:
        yield at(problem="there is none; an entry has " + WANTED)
    recorded = {
        keyword.arg
        for index in view.tagged("metrics", "code")
        for name, call in calls(view.cells[index].source)
        if name == "record"
        for keyword in call.keywords
    }
    for entry in entries:
        if not (PAPER <= set(entry) <= PAPER | OURS | FURTHER and OURS & set(entry)):
            yield at(problem=f"an entry has {WANTED}, not {sorted(entry)}")
        elif not SOURCE.search(entry["paper"]):
            yield at(problem=f"{entry['paper']!r} is neither a DOI nor an arXiv id")
        elif entry.get("metric", next(iter(recorded), "")) not in recorded:
            yield at(problem=f"the metric {entry['metric']!r} is not recorded")


def minutes(view: View) -> tuple[int | None, int]:
    """What the header says, and what `eqprop_lab.course.times` says."""
    said = re.search(r"Time:\D*?(\d+) min", view.cells[0].source if view.cells else "")
    return int(said[1]) if said else None, round(times.minutes(view.cells))


def dishonest_time(view: View) -> Iterator[Hit]:
    said, needed = minutes(view)
    if said is None or abs(said - needed) > max(2, SLACK * needed):
        yield at(0, said=said, needed=needed)

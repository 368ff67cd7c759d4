"""Does a notebook keep to the conventions of the series? `python -m eqprop_lab lint-notebooks`.

A rule is a row of RULES: its name, what is asked, what finds the places where it is broken, and
what is said of each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eqprop_lab.regression.parameters import ParameterError
from eqprop_lab.regression.plan import find_notebooks, project_root
from tools.anatomy import cells, form, outputs
from tools.anatomy.view import Find, View, each, one, some, words

RENEW = "run make notebooks UPDATE=1"
ONE = "expected one {kind} cell tagged {tag!r}, found {found}"
NONE = "no {kind} cell tagged {tag!r}"


class Rule(NamedTuple):
    """One thing that is asked of every notebook."""

    name: str
    asked: str
    find: Find
    message: str


FORM = tuple(
    Rule(*row)
    for row in (
        ("exercise-three", "there are three exercises", form.too_few,
         "{found} exercises (at least {least})"),
        ("exercise-heading", "an exercise has number, level and title", form.headings,
         "an exercise begins '### Exercise {count} · warm-up|core|stretch: title', or '... · core "
         "· write the idea: title'"),
        ("exercise-idea", "one exercise writes the idea", form.ideas,
         "{found} exercises '· write the idea:' (one is needed)"),
        ("exercise-needs", "the idea says which sections it needs", form.needs,
         "'You need: sections *title* and *title*' with titles of this notebook; unknown: "
         "{unknown}"),
        ("exercise-parts", "task, stub, check, solution follow each other", form.parts,
         "this task is not followed by stub, check and solution, a cell each"),
        ("exercise-stub", "a stub is a typed function with a docstring",
         each("exercise", "code", form.no_stub),
         "a stub is one function with types, a docstring and the body ..."),
        ("exercise-calls", "check and solution call the same check", form.other_checks,
         "does not call {call}"),
        ("folded", "checks, solutions, figures and the quiz are folded", form.unfolded,
         "tagged {tag!r} but not folded (metadata jupyter: source_hidden)"),
        ("folded-label", "a folded cell begins with a comment that says what it is",
         form.unlabelled, "a folded cell shows its first line: begin with a comment"),
        ("quiz", "there is one quiz", one("quiz", "code"), ONE),
        ("quiz-questions", "a quiz has three to five questions", form.questions,
         "{found} questions in the quiz (3 to 5)"),
        ("quiz-number", "a quiz asks for a number of the run",
         each("quiz", "code", form.asks_no_number), "no answer has a number of the run in it"),
        ("rhythm", "at most two code cells without a sentence", form.code_in_a_row,
         "more than {most} code cells in a row: say what is seen, or what comes"),
        ("width", "code lines fit on a page", form.wide_lines,
         "a line of {widest} characters (at most {most})"),
        ("papers", "the metadata say which published numbers stand here", form.papers,
         "papers: {problem}"),
        ("time", "the time in the header is honest", form.dishonest_time,
         "the header says {said} min; words, code lines and exercises need {needed}"),
    )
)  # fmt: skip
RULES = FORM + tuple(
    Rule(*row)
    for row in (
        ("file-name", "the file is called NN_topic.ipynb, in lower case", cells.file_name,
         "the file name is not NN_topic.ipynb"),
        ("tags", "only known tags: a misspelt one would switch a rule off", cells.unknown_tags,
         "unknown tag {tag!r}"),
        ("summary", "there is one summary", one("summary", "markdown"), ONE),
        ("order", "goals, setup, parameters, summary, references, metrics: in this order",
         cells.order, "{second} comes before {first}"),
        ("title", "the first cell is the title", cells.no_title,
         "the first cell is not a markdown title"),
        ("title-number", "the title has the number of the file", cells.number,
         "the title is not '# {number} · ...'"),
        ("title-facts", "the title cell says time, needs and level", cells.no_facts,
         "the title cell lacks the line 'Time: ... · Needs: ... · Level: ...'"),
        ("level", "the level is one of three", cells.level,
         "the level {level!r} tells a reader nothing; one of {levels}"),
        ("neighbours", "the title cell links the notebooks before and after", cells.neighbours,
         "the title cell does not link its neighbour {name}"),
        ("links", "links lead to notebooks that exist", cells.dead_links,
         "link to {target}, which does not exist"),
        ("link-titles", "a link that says number and title says those of its target",
         cells.other_titles, "the link {text!r} leads to {title!r}"),
        ("goals", "there is one cell of goals", one("goals", "markdown"), ONE),
        ("goals-items", "'After this notebook you can', and three to five items", cells.goals,
         "goals: 'After this notebook you can ...' with 3 to 5 items, found {items}"),
        ("setup", "there is one setup cell", one("setup", "code"), ONE),
        ("setup-lines", "the setup cell is short", cells.setup_lines,
         "setup: {lines} lines (at most {most})"),
        ("installs", "no cell installs packages", cells.installs, "installs packages"),
        ("parameters", "there is one parameters cell that papermill can set", cells.unreadable,
         "{error}"),
        ("parameters-lines", "a line for each parameter", cells.parameter_lines,
         "parameters: one per line"),
        ("parameters-comments", "every parameter is explained", cells.no_comment,
         "parameters: no comment in {line!r}"),
        ("parameters-equals", "one '=' in a line", cells.two_equals,
         "parameters: one '=' in a line, papermill skips {line!r}"),
        ("seed", "there is a parameter seed", cells.no_seed, "parameters: 'seed' is missing"),
        ("profile", "there is a parameter profile, smoke by default", cells.no_profile,
         'parameters: profile: str = "smoke" is missing'),
        ("validated", "the code cell after the parameters validates them", cells.unvalidated,
         "the code cell after the parameters does not validate them with setup(...) or "
         "require(...)"),
        ("explorer", "there is an explorer", some("explorer", "code"), NONE),
        ("explorer-object", "an explorer cell ends with the object it shows",
         each("explorer", "code", cells.shows_nothing),
         "an explorer cell ends with the object it shows"),
        ("explorer-questions", "two questions before an explorer",
         each("explorer", "code", cells.asks_too_little),
         "two questions are asked before an explorer"),
        ("explorer-answers", "collapsed answers after an explorer",
         each("explorer", "code", cells.answers_nothing),
         "collapsed answers (<details>) follow an explorer"),
        ("predict", "the reader is asked to predict", some("predict", "markdown"), NONE),
        ("predict-question", "a cell that asks to predict asks",
         each("predict", "markdown", cells.asks_nothing), "tagged 'predict' but asks no question"),
        ("check", "something is checked", some("check", "code"), NONE),
        ("check-calls", "a check cell calls a check", each("check", "code", cells.checks_nothing),
         "tagged 'check' but calls no check_..."),
        ("exercise", "there is an exercise", some("exercise", "markdown"), NONE),
        ("exercise-cells", "an exercise has a stub, a check and a solution", cells.exercise_gaps,
         "exercise without a code cell tagged {tag!r}"),
        ("exercise-hint", "an exercise has a hint", cells.no_hint, "exercise without a hint"),
        ("figure", "there is a figure", some("figure", "code"), NONE),
        ("figure-show", "the tag 'figure' is where show(...) is called", cells.figure_tags,
         "the tag 'figure' and a call of show(...) go together"),
        ("figure-arguments", "show(...) is given name, alt text and caption",
         cells.figure_arguments, "show(...) without {key}"),
        ("figure-name", "a figure is named after its notebook", cells.figure_names,
         "figure name {name!r} does not match {pattern}"),
        ("alt-text", "an alt text says what is seen", cells.short_alt,
         "alt text of fewer than {least} characters"),
        ("references", "there is one list of references", cells.reference_cells,
         "expected one markdown cell with a heading 'References', found {found}"),
        ("references-items", "references are numbered", cells.no_references,
         "references: no numbered items"),
        ("references-id", "a reference has a DOI or an arXiv id", cells.no_identifier,
         "references: item {count} has neither a DOI nor an arXiv id"),
        ("metrics", "metrics are recorded in the last code cell", cells.metrics_place,
         "the last code cell, and no other, is tagged 'metrics'"),
        ("metrics-calls", "the metrics cell calls record and provenance", cells.metrics_calls,
         "the metrics cell does not call {name}(...)"),
        ("heading", "there is one # heading, the first", cells.top_heading,
         "expected one # heading, the first; found {found}"),
        ("heading-levels", "no level of headings is skipped", cells.skipped_levels,
         "a heading of level {below} follows one of level {above}"),
        ("cell-lines", "a code cell is one look", cells.long_cells,
         "{lines} lines of code (at most {most})"),
        ("function-lines", "a function is one look", cells.long_functions,
         "function {name} has {lines} lines (at most {most})"),
        ("kernel", "the kernel is python3", outputs.kernel, "the kernel name is not python3"),
        ("notebook-traces", "no traces of a run in the metadata", outputs.notebook_traces,
         f"notebook metadata holds {{key!r}}; {RENEW}"),
        ("cell-traces", "no traces of a run in a cell", outputs.cell_traces,
         f"metadata of a run; {RENEW}"),
        ("ids", "every cell has an id", outputs.no_id, "no cell id"),
        ("stored", "the stored outputs are those of these sources", outputs.older_outputs,
         f"stored outputs do not belong to these sources; {RENEW}"),
        ("numbering", "every code cell was run, in order", outputs.numbering,
         f"code cells are not numbered 1 to {{count}}; {RENEW}"),
        ("errors", "no error is stored, and no alert", outputs.errors, "{problem}"),
        ("source-paths", "no source names a place of one machine", outputs.source_paths,
         "absolute path {path} in the source"),
        ("output-paths", "no output names a place of one machine", outputs.output_paths,
         "absolute path {path} in an output"),
        ("stderr", "nothing on stderr is stored", outputs.warnings, "text on stderr: {line}"),
        ("progress", "no progress bar is stored", outputs.progress_bars,
         "a progress bar is stored"),
        ("private", "what only the runner reads is not stored", outputs.private,
         f"{{mime}} is stored; {RENEW}"),
        ("png-size", "a picture is small", outputs.pictures,
         "a PNG of {size} KB (at most {most} KB)"),
        ("file-size", "a code host shows the file", outputs.file_size,
         "the file has {size} KB (at most {most} KB)"),
    )
)  # fmt: skip


def lint_notebook(path: Path, series: Sequence[Path] = ()) -> list[str]:
    """Every broken rule of one notebook, a line each, cell by cell; empty when it keeps to all.

    Cells are counted from 1, as in JupyterLab's status line; what concerns the whole comes first.
    """
    return _problems(View.read(path, tuple(series)))


def _problems(view: View) -> list[str]:
    found = [
        (hit.cell, rule.message.format(**hit.said)) for rule in RULES for hit in rule.find(view)
    ]
    found.sort(key=lambda problem: -1 if problem[0] is None else problem[0])
    return [text if cell is None else f"cell {cell + 1}: {text}" for cell, text in found]


def facts(view: View) -> str:
    """What nobody has to fit, and everybody may want to know: cells, lines of code, words."""
    lines = sum(len(cell.source.splitlines()) for _, cell in view.code)
    said, needed = form.minutes(view)
    time = f"{said} min said, {needed} needed"
    return f"{len(view.code)} code cells, {lines} lines of code, {words(view)} words, {time}"


def main(argv: Sequence[str]) -> int:
    """Lint the named notebooks (default: the series); 1 when a rule is broken."""
    parser = argparse.ArgumentParser(prog="python -m eqprop_lab lint-notebooks")
    parser.add_argument(
        "notebooks", nargs="*", metavar="notebook", help="number, name or path; default: all"
    )
    parser.add_argument("--rules", action="store_true", help="list what is asked, and stop")
    arguments = parser.parse_args(argv)
    if arguments.rules:
        print("\n".join(f"{rule.name:<20} {rule.asked}" for rule in RULES))
        return 0
    try:
        root = project_root()
        series = find_notebooks([], root)
        paths = find_notebooks(arguments.notebooks, root)
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    broken = 0
    for path in paths:
        view = View.read(path, tuple(series))
        problems = _problems(view)
        broken += len(problems)
        verdict = f"{len(problems)} problems" if problems else "ok"
        print(f"{path.stem}: {verdict} ({facts(view)})")
        for problem in problems:
            print(f"    {problem}")
    return 1 if broken else 0

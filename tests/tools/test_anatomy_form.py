"""The form of exercises, quiz and rhythm: a notebook in it passes, every departure is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tests.regression.tiny import code, prose
from tests.tools.test_anatomy import finish, lint, sound, tagged

STUB = 'def {name}(x: float) -> float:\n    """Half of x."""\n    ...'
NEEDS = "You need: sections *Theory* and *Exercises*."
QUIZ = '# Quiz\nnb.quiz(("a?", f"{1 + 1}"), ("b?", "2"), ("c?", "3"))'
PAPER = {"paper": "arXiv:1905.13633", "where": "figure 1", "value": 2.0, "metric": "slope"}
Change = Callable[[NotebookNode], None]


def folded(cell: NotebookNode) -> NotebookNode:
    cell.metadata["jupyter"] = {"source_hidden": True}
    return cell


def exercise(number: int, level: str) -> list[NotebookNode]:
    name = f"half_{number}"
    check = (
        f"# Check\ncheck_{name} = nb.Exercise('{name}', draw, expected=half)\ncheck_{name}({name})"
    )
    solution = (
        f"# Solution\ndef solved_{name}(x):\n    return x / 2\n\n\ncheck_{name}(solved_{name})"
    )
    return [
        prose(f"### Exercise {number} · {level}: halve\n\n{NEEDS}\n\nHint: divide.", "exercise"),
        code(STUB.format(name=name), "exercise"),
        folded(code(check, "exercise-check")),
        folded(code(solution, "solution")),
    ]


def formed() -> NotebookNode:
    """A smallest notebook in the form, number 03."""
    nb = sound()
    others = [c for c in nb.cells if not {"exercise", "exercise-check", "solution"} & _tags(c)]
    place = next(i for i, cell in enumerate(others) if "summary" in _tags(cell))
    others[place:place] = [
        prose("## Exercises"),
        folded(code("# Context\nfrom math import pi", "exercise-context")),
        *exercise(1, "warm-up"),
        *exercise(2, "core · write the idea"),
        *exercise(3, "stretch"),
        prose("## Check yourself"),
        folded(code(QUIZ, "quiz")),
    ]
    nb.cells = others
    nb.cells.insert(3, prose("The parameters."))
    nb.cells[0].source = nb.cells[0].source.replace("5 min read", "19 min")
    folded(tagged(nb, "figure"))
    return finished(nb)


def finished(nb: NotebookNode) -> NotebookNode:
    papers = nb.metadata.get("eqprop", {}).get("papers", [PAPER])
    finish(nb)
    nb.metadata["eqprop"]["papers"] = papers
    return nb


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def replaced(tag: str, old: str, new: str, kind: str = "code") -> Change:
    def change(nb: NotebookNode) -> None:
        cell = tagged(nb, tag, kind)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def idea(old: str, new: str) -> Change:
    def change(nb: NotebookNode) -> None:
        (cell,) = (cell for cell in nb.cells if "write the idea" in cell.source)
        cell.source = cell.source.replace(old, new)

    return change


def opened(tag: str) -> Change:
    return lambda nb: tagged(nb, tag).metadata.pop("jupyter")


def without(tag: str, kind: str = "code") -> Change:
    return lambda nb: nb.cells.remove(tagged(nb, tag, kind))


def paper(**other: object) -> Change:
    return lambda nb: nb.metadata["eqprop"].update(papers=[PAPER | other])


def last_exercise_gone(nb: NotebookNode) -> None:
    start = next(i for i, cell in enumerate(nb.cells) if "Exercise 3" in cell.source)
    del nb.cells[start : start + 4]


def solution_first(nb: NotebookNode) -> None:
    place = nb.cells.index(tagged(nb, "solution"))
    nb.cells[place - 1], nb.cells[place] = nb.cells[place], nb.cells[place - 1]


BREACHES: list[tuple[Change, str]] = [
    (last_exercise_gone, "2 exercises (at least 3)"),
    (replaced("exercise", "warm-up", "easy", "markdown"), "an exercise begins '### Exercise 1 ·"),
    (replaced("exercise", "Exercise 1", "Exercise 2", "markdown"), "begins '### Exercise 1 ·"),
    (
        replaced("exercise", "warm-up", "core · write the idea", "markdown"),
        "2 exercises '· write the idea:'",
    ),
    (idea("*Theory*", "*Practice*"), "with titles of this notebook; unknown: ['Practice']"),
    (idea("*Theory* and *Exercises*", "two"), "'You need: sections *title* and *title*'"),
    (idea(NEEDS, ""), "'You need: sections *title* and *title*'"),
    (solution_first, "not followed by stub, check and solution"),
    (without("exercise-check"), "not followed by stub, check and solution"),
    (replaced("exercise", "x: float", "x"), "a stub is one function with types"),
    (replaced("exercise", " -> float", ""), "a stub is one function with types"),
    (replaced("exercise", "...", "return x / 2"), "a stub is one function with types"),
    (replaced("exercise", '"""Half of x."""', "x"), "a stub is one function with types"),
    (replaced("exercise-check", "(half_1)", "(half_2)"), "does not call check_half_1(half_1)"),
    (
        replaced("solution", "check_half_1(", "print("),
        "does not call check_half_1(solved_half_1)",
    ),
    (opened("solution"), "tagged 'solution' but not folded"),
    (replaced("solution", "# Solution\n", ""), "begin with a comment"),
    (opened("exercise-check"), "tagged 'exercise-check' but not folded"),
    (opened("exercise-context"), "tagged 'exercise-context' but not folded"),
    (opened("figure"), "tagged 'figure' but not folded"),
    (opened("quiz"), "tagged 'quiz' but not folded"),
    (without("quiz"), "expected one code cell tagged 'quiz', found 0"),
    (replaced("quiz", ', ("c?", "3")', ""), "2 questions in the quiz (3 to 5)"),
    (replaced("quiz", 'f"{1 + 1}"', '"2"'), "no answer has a number of the run in it"),
    (lambda nb: nb.cells.pop(3), "more than 2 code cells in a row"),
    (replaced("check", "'slope'", "'slope'" + " " * 100), "a line of"),
    (lambda nb: nb.metadata["eqprop"].update(papers=[]), "papers: there is none"),
    (paper(paper="a book"), "papers: 'a book' is neither a DOI nor an arXiv id"),
    (paper(metric="cosine"), "papers: the metric 'cosine' is not recorded"),
    (paper(page=3), "papers: an entry has paper, where, value and metric or stored, not"),
    (lambda nb: nb.metadata["eqprop"]["papers"][0].pop("metric"), "and metric or stored, not"),
    (paper(stored={}, metric="cosine"), "papers: the metric 'cosine' is not recorded"),
    (
        lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("19 min", "5 min")),
        "the header says 5 min; words, code lines and exercises need 19",
    ),
]


def test_a_notebook_in_the_form_passes(tmp_path: Path) -> None:
    assert lint(formed(), tmp_path) == []


@pytest.mark.parametrize(("change", "problem"), BREACHES, ids=[problem for _, problem in BREACHES])
def test_every_breach_is_named(tmp_path: Path, change: Change, problem: str) -> None:
    nb = formed()
    change(nb)
    assert any(problem in line for line in lint(finished(nb), tmp_path))

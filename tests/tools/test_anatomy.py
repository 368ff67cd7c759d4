"""The anatomy lint: a notebook that keeps to it passes, and every single departure is named."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_notebook, new_output

from eqprop_lab.regression.clean import source_hash
from eqprop_lab.regression.outputs import METRICS_MIME
from tests.regression.tiny import KERNEL, code, project, prose
from tools.anatomy import anatomy
from tools.anatomy.anatomy import RULES, lint_notebook
from tools.anatomy.view import View, words

PARAMETERS = (
    'seed: int = 0  # seed of everything random\nprofile: str = "smoke"  # size of the experiment'
)
SHOW = 'show(figure, name="nb03_beta", alt="error falls with the square of beta", caption="Error.")'
EXERCISE = "## Exercise\n\nChange beta. <details><summary>Hint</summary>Halve it.</details>"
SENTENCE = (
    "The free phase settles where the force vanishes and the nudged phase moves away from there. "
)


@pytest.fixture(autouse=True)
def _without_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form of exercises has tests of its own."""
    monkeypatch.setattr(anatomy, "RULES", [rule for rule in RULES if rule not in anatomy.FORM])


def sound() -> NotebookNode:
    """A smallest notebook that breaks no rule, number 03."""
    cells = [
        prose(
            "# 03 · Two phases\n\nTwo phases give a gradient.\n\n"
            "Time: 5 min read, 4 s run · Needs: 01 · Level: graduate"
        ),
        prose("After this notebook you can:\n\n- derive it\n- compute it\n- check it", "goals"),
        code("import torch\nfrom eqprop_lab.notebook import setup", "setup"),
        code(PARAMETERS, "parameters"),
        code("settings = setup(seed, profile)"),
        prose("## Theory\n\n" + SENTENCE),
        prose("What happens when beta is halved?", "predict"),
        code("check_close('slope', 2.0, 2.0, 0.1)", "check"),
        code(SHOW, "figure"),
        prose("## Play\n\nWhere does it bend? Why there?"),
        code("explorer = Landscape()\nexplorer", "explorer"),
        prose("<details><summary>Answers</summary>Near one.</details>"),
        prose(EXERCISE, "exercise"),
        code("beta = 0.1", "exercise"),
        code("check_equal('beta', beta, 0.1)", "exercise-check"),
        code("beta = 0.05", "solution"),
        prose("## Summary\n\nIt works.", "summary"),
        prose(
            "## References\n\n"
            "1. Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024\n2. A, arXiv:1905.13633"
        ),
        code("record(slope=2.0)\nprovenance()", "metrics"),
    ]
    nb = new_notebook(cells=cells, metadata=copy.deepcopy(KERNEL))
    return finish(nb)


def finish(nb: NotebookNode) -> NotebookNode:
    """What the runner leaves: numbered cells and the hash of the sources."""
    for count, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
    nb.metadata["eqprop"] = {"source_hash": source_hash(nb)}
    return nb


def tagged(nb: NotebookNode, tag: str, kind: str = "code") -> NotebookNode:
    return next(c for c in nb.cells if c.cell_type == kind and tag in c.metadata.get("tags", []))


def lint(nb: NotebookNode, folder: Path, name: str = "03_two_phases.ipynb") -> list[str]:
    nbformat.write(nb, folder / name)
    return lint_notebook(folder / name)


def test_a_sound_notebook_passes(tmp_path: Path) -> None:
    assert lint(sound(), tmp_path) == []


def source(tag: str, text: str, kind: str = "code") -> Callable[[NotebookNode], None]:
    def change(nb: NotebookNode) -> None:
        tagged(nb, tag, kind).source = text

    return change


def untag(tag: str, kind: str = "code") -> Callable[[NotebookNode], None]:
    def change(nb: NotebookNode) -> None:
        tagged(nb, tag, kind).metadata["tags"] = []

    return change


def prose_containing(text: str, new: str) -> Callable[[NotebookNode], None]:
    def change(nb: NotebookNode) -> None:
        cell = next(c for c in nb.cells if c.cell_type == "markdown" and text in c.source)
        cell.source = cell.source.replace(text, new)

    return change


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * 20
BREACHES: list[tuple[Callable[[NotebookNode], None], str]] = [
    (prose_containing("# 03", "# 04"), "the title is not '# 03 · ...'"),
    (prose_containing("Level: graduate", ""), "lacks the line 'Time"),
    (
        prose_containing("Level: graduate", "Level: core"),
        "level 'core' tells a reader nothing; one of introductory,",
    ),
    (
        prose_containing("Level: graduate", "Level: under graduates"),
        "level 'under graduates' tells a reader nothing",
    ),
    (lambda nb: nb.cells.insert(0, nb.cells.pop(2)), "the first cell is not a markdown title"),
    (
        prose_containing("It works.", "[next](99_absent.ipynb)"),
        "link to 99_absent.ipynb, which does not exist",
    ),
    (prose_containing("- check it", ""), "3 to 5 items, found 2"),
    (untag("goals", "markdown"), "expected one markdown cell tagged 'goals', found 0"),
    (source("setup", "import a\n" * 7), "setup: 7 lines (at most 6)"),
    (source("setup", "!pip install torch"), "installs packages"),
    (untag("setup"), "expected one code cell tagged 'setup'"),
    (untag("parameters"), "expected one code cell tagged 'parameters', found 0"),
    (
        source("parameters", PARAMETERS.replace("  # seed of everything random", "")),
        "no comment in",
    ),
    (
        source("parameters", PARAMETERS + "\nrate: float = 0.1  # beta=0.1 is usual"),
        "one '=' in a line",
    ),
    (source("parameters", "seed: int = 0  # s"), 'profile: str = "smoke" is missing'),
    (source("parameters", 'profile: str = "smoke"  # p'), "'seed' is missing"),
    (source("parameters", 'seed: int = 0; profile: str = "smoke"  # p'), "one per line"),
    (lambda nb: nb.cells.pop(4), "does not validate them"),
    (source("explorer", "explorer = Landscape()"), "ends with the object it shows"),
    (untag("explorer"), "no code cell tagged 'explorer'"),
    (prose_containing("Why there?", ""), "two questions are asked before"),
    (prose_containing("<details><summary>Answers", "<p>Answers"), "collapsed answers"),
    (prose_containing("is halved?", "is halved."), "asks no question"),
    (untag("predict", "markdown"), "no markdown cell tagged 'predict'"),
    (source("check", "print(1)"), "calls no check_"),
    (untag("check"), "no code cell tagged 'check'"),
    (untag("solution"), "exercise without a code cell tagged 'solution'"),
    (untag("exercise-check"), "exercise without a code cell tagged 'exercise-check'"),
    (prose_containing("Hint", "Help"), "exercise without a hint"),
    (untag("exercise", "markdown"), "no markdown cell tagged 'exercise'"),
    (untag("figure"), "no code cell tagged 'figure'"),
    (source("figure", "x = 1"), "go together"),
    (source("figure", SHOW.replace(', caption="Error."', "")), "show(...) without caption"),
    (source("figure", SHOW.replace("nb03_beta", "nb04_beta")), "does not match nb03_"),
    (
        source("figure", SHOW.replace("error falls with the square of beta", "error")),
        "alt text of fewer than 20",
    ),
    (
        prose_containing("doi:10.3389/fncom.2017.00024", "a book"),
        "item 1 has neither a DOI nor an arXiv id",
    ),
    (prose_containing("## References", "## Sources"), "heading 'References', found 0"),
    (source("metrics", "record(slope=2.0)"), "does not call provenance"),
    (
        lambda nb: nb.cells.append(code("late = 1")),
        "the last code cell, and no other, is tagged 'metrics'",
    ),
    (prose_containing("## Theory", "# Theory"), "expected one # heading"),
    (prose_containing("## Theory", "### Theory"), "a heading of level 3 follows one of level 1"),
    (source("solution", "x = 1\n" * 26), "26 lines of code (at most 25)"),
    (source("solution", LONG_FUNCTION), "function f has 21 lines (at most 20)"),
    (lambda nb: nb.cells.insert(2, nb.cells.pop()), "metrics comes before references"),
    (untag("summary", "markdown"), "tagged 'summary', found 0"),
    (lambda nb: tagged(nb, "check").metadata.update(tags=["chekc"]), "unknown tag 'chekc'"),
    (lambda nb: nb.metadata.kernelspec.update(name="venv"), "the kernel name is not python3"),
    (lambda nb: nb.metadata.update(widgets={}), "notebook metadata holds 'widgets'"),
    (lambda nb: nb.cells[2].metadata.update(papermill={}), "metadata of a run"),
    (source("solution", "open('/home/me/x.txt')"), "absolute path /home/me/x.txt in the source"),
]


@pytest.mark.parametrize(("change", "problem"), BREACHES, ids=[problem for _, problem in BREACHES])
def test_every_breach_is_named(
    tmp_path: Path, change: Callable[[NotebookNode], None], problem: str
) -> None:
    nb = sound()
    change(nb)
    assert any(problem in line for line in lint(finish(nb), tmp_path))


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (new_output("error", ename="ValueError", evalue="x", traceback=[]), "error ValueError: x"),
        (
            new_output("stream", name="stdout", text="in /tmp/x/y"),
            "absolute path /tmp/x/y in an output",
        ),
        (
            new_output("stream", name="stderr", text="UserWarning: x"),
            "text on stderr: UserWarning: x",
        ),
        (new_output("stream", name="stdout", text="10%|#  | 1/9"), "a progress bar is stored"),
        (
            new_output("display_data", data={METRICS_MIME: {"metrics": {}}}),
            "is stored; run make notebooks",
        ),
        (
            new_output(
                "display_data", data={"image/png": base64.b64encode(b"x" * 90_000).decode()}
            ),
            "a PNG of 87 KB",
        ),
        (new_output("stream", name="stdout", text="z" * 600_000), "the file has"),
    ],
)
def test_every_unclean_output_is_named(tmp_path: Path, output: NotebookNode, problem: str) -> None:
    nb = sound()
    tagged(nb, "check").outputs = [output]
    assert any(problem in line for line in lint(nb, tmp_path))


def test_problems_come_cell_by_cell_and_what_concerns_the_whole_first(tmp_path: Path) -> None:
    nb = sound()
    tagged(nb, "solution").source = "x = 1\n" * 26
    tagged(nb, "check").source = "print(1)"
    nb.metadata.kernelspec.name = "venv"
    nb.cells[2].metadata["tags"].append("stup")
    assert lint(finish(nb), tmp_path) == [
        "the kernel name is not python3",
        "cell 3: unknown tag 'stup'",
        "cell 8: tagged 'check' but calls no check_...",
        "cell 16: 26 lines of code (at most 25)",
    ]


def test_rules_have_names_of_their_own_and_the_command_lists_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert anatomy.main(["--rules"]) == 0
    assert "explorer-questions   two questions before an explorer\n" in capsys.readouterr().out


@pytest.mark.parametrize("filler", ["x = 1", "word " * 100])
def test_neither_cells_nor_words_are_counted(tmp_path: Path, filler: str) -> None:
    nb = sound()
    cells = [prose(filler) if "word" in filler else code(filler) for _ in range(60)]
    nb.cells[6:6] = cells
    assert lint(finish(nb), tmp_path) == []


def test_stored_outputs_of_older_sources_are_named(tmp_path: Path) -> None:
    nb = sound()
    tagged(nb, "solution").source = "beta = 0.06"
    assert lint(nb, tmp_path) == [
        "stored outputs do not belong to these sources; run make notebooks UPDATE=1"
    ]
    nb = sound()
    tagged(nb, "solution").execution_count = 99
    assert "not numbered 1 to 10" in lint(nb, tmp_path)[0]


def test_the_file_name_and_the_neighbours_are_checked(tmp_path: Path) -> None:
    assert "the file name is not NN_topic.ipynb" in lint(sound(), tmp_path, "03-Two.ipynb")
    nbformat.write(sound(), tmp_path / "03_two_phases.ipynb")
    series = [
        tmp_path / name
        for name in ("02_norm.ipynb", "03_two_phases.ipynb", "04_mlp.ipynb", "05_conv.ipynb")
    ]
    assert lint_notebook(series[1], series) == [
        "the title cell does not link its neighbour 02_norm.ipynb",
        "the title cell does not link its neighbour 04_mlp.ipynb",
    ]


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[02 · Norm, and more](02_norm.ipynb)", None),
        ("[02](02_norm.ipynb) and [the norm](02_norm.ipynb)", None),
        ("[02 · Norm](02_norm.ipynb)", "'02 · Norm' leads to '02 · Norm, and more'"),
        (
            "[03 · Norm, and more](02_norm.ipynb)",
            "'03 · Norm, and more' leads to '02 · Norm, and more'",
        ),
        (
            "[02 · norm, and more](02_norm.ipynb#proof)",
            "'02 · norm, and more' leads to '02 · Norm, and more'",
        ),
        ("[02 · Norm](./02_norm.ipynb)", "'02 · Norm' leads to '02 · Norm, and more'"),
    ],
)
@pytest.mark.parametrize("place", ["Two phases give a gradient.", "It works."])
def test_a_link_calls_a_notebook_by_its_title(
    tmp_path: Path, link: str, said: str | None, place: str
) -> None:
    nbformat.write(
        new_notebook(cells=[prose("# 02 · Norm, and more\n\nText.")]), tmp_path / "02_norm.ipynb"
    )
    nb = sound()
    prose_containing(place, f"{place}\n\n{link}")(nb)
    problems = lint(finish(nb), tmp_path)
    assert [problem.split(": ", 1)[1] for problem in problems] == (
        [f"the link {said}"] if said else []
    )


def test_code_equations_and_link_targets_are_no_words(tmp_path: Path) -> None:
    nb = new_notebook(
        cells=[
            prose("Two words $a b$ [link](a b) `c d`\n\n```\ncode here\n```\n<b>end</b> $$x y$$")
        ]
    )
    assert words(View(tmp_path, nb)) == 4


def test_the_command_prints_a_line_per_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path / "p", n03_two_phases=sound())
    monkeypatch.chdir(root)
    assert anatomy.main([]) == 0
    assert capsys.readouterr().out == (
        "03_two_phases: ok (10 code cells, 14 lines of code, 76 words, 5 min said, 7 needed)\n"
    )
    nb = sound()
    tagged(nb, "solution").source = "beta = 0.06"
    nbformat.write(nb, root / "notebooks" / "03_two_phases.ipynb")
    assert anatomy.main(["03"]) == 1
    assert "do not belong to these sources" in capsys.readouterr().out
    assert anatomy.main(["77"]) == 2

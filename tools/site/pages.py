"""The sources of the web edition: notebooks without solutions, course pages, a page to begin."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from eqprop_lab.course.masters import Master
from eqprop_lab.course.student import student_edition
from eqprop_lab.files import replace_text
from eqprop_lab.notebook.series import entry
from eqprop_lab.regression.parameters import tags
from tools.site.deck import to_pages
from tools.site.hosts import repository, run_elsewhere

HIDDEN = {"figure", "exercise-check", "exercise-context", "quiz"}
HEAD = """# Equilibrium Propagation: the notebooks

A network that settles twice has its gradient: once freely, once with its output pulled gently
towards the target. This series shows it, measures it against the exact gradient, and says where it
is slower or worse than backpropagation. Here are the pages to read; sliders and exercises need the
notebooks themselves.
"""


def write_sources(root: Path, masters: Sequence[Master], mathjax: Path, folder: Path) -> None:
    """Fill an empty folder with what Sphinx needs."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "_static").mkdir(parents=True)
    shutil.copytree(mathjax, folder / "_static" / "mathjax")
    shutil.copy(Path(__file__).with_name("conf.py"), folder)
    shutil.copy(Path(__file__).with_name("pictures.css"), folder / "_static")
    place = repository(root / "pyproject.toml")
    for master in masters:
        nb = readable(master, masters)
        nb.cells[0].source += f"\n\n{run_elsewhere(place, master.path.name)}" if place else ""
        text = nbformat.writes(nb)
        replace_text(folder / "notebooks" / master.path.name, text)
    papers = (root / "notebooks" / "papers.md").read_text("utf-8")
    there = {master.path.name for master in masters}
    replace_text(folder / "notebooks" / "papers.md", _links_that_lead(papers, there))
    pages = sorted((root / "notebooks" / "course").glob("[0-9][0-9]_*.md"))
    if pages:
        shutil.copytree(root / "notebooks" / "course", folder / "course")
    replace_text(folder / "index.md", _index(masters, [page.stem for page in pages]))


def readable(master: Master, masters: Sequence[Master]) -> NotebookNode:
    """A notebook as a page: outputs where the code is the master's, folded cells hidden."""
    nb = student_edition(master)
    stored = {cell.id: cell for cell in master.nb.cells}
    there = {other.path.name for other in masters}
    for cell in nb.cells:
        own = stored[cell.id]
        if cell.cell_type == "markdown":
            cell.source = _links_that_lead(cell.source, there)
        elif cell.source == own.source:
            cell.outputs = [_leading(output, there) for output in own.outputs]
            cell.execution_count = own.execution_count
        if cell.cell_type == "code" and HIDDEN & set(tags(cell)):
            cell.metadata["tags"] = [*tags(cell), "hide-input"]
    return nb


def _links_that_lead(text: str, there: set[str]) -> str:
    """Links to notebooks that have no page become plain text."""

    def kept(found: re.Match[str]) -> str:
        return found[0] if found[2] in there else found[1]

    return re.sub(r"\[([^\]]+)\]\((\d\d_\w+\.ipynb)(?:#[^)]*)?\)", kept, text)


def _leading(output: NotebookNode, there: set[str]) -> NotebookNode:
    """An output whose links lead to pages: Sphinx knows those of texts, not those of outputs."""
    output = copy.deepcopy(output)
    if text := output.get("data", {}).get("text/markdown"):
        output.data["text/markdown"] = to_pages(_links_that_lead("".join(text), there))
    return output


def _index(masters: Sequence[Master], pages: Sequence[str]) -> str:
    told = [entry(master.path) for master in masters]
    rows = [f"- [{e.number} · {e.title}](notebooks/{e.path.name}): {e.claim}" for e in told]
    rows.append("- [Papers](notebooks/papers.md): their published figures beside ours.")
    names = "\n".join([*(f"notebooks/{m.path.stem}" for m in masters), "notebooks/papers"])
    series = "```{toctree}\n:hidden:\n:caption: The series\n\n" + names + "\n```\n"
    listed = "\n".join(["course/README", *(f"course/{page}" for page in pages)])
    course = "```{toctree}\n:hidden:\n:caption: For a lecturer\n\n" + listed + "\n```\n"
    return "\n".join([HEAD, *rows, "", series, course if pages else ""])

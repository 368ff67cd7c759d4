"""The instructor edition: solutions, wrong answers with hints, a clock, the lecturer's page.

Only texts are added: the code and its stored outputs are those of the series.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from eqprop_lab.course.masters import Master
from eqprop_lab.course.times import minutes
from eqprop_lab.course.wrong_answers import WrongAnswer

SECTION = re.compile(r"^## .+$", re.MULTILINE)


def instructor_edition(master: Master, page: str, wrong: Sequence[WrongAnswer]) -> NotebookNode:
    """The notebook with the lecturer's page after its title, and a clock in its headings.

    page: Markdown of `notebooks/course/NN_topic.md`, "" for none. wrong: shown after the solution
    of their exercise, with what the check says.
    """
    nb = copy.deepcopy(master.nb)
    nb.metadata.pop("eqprop", None)
    _clock(nb)
    for exercise in reversed(master.exercises):
        mine = [answer for answer in wrong if answer.exercise == exercise.name]
        nb.cells.insert(exercise.solution + 1, _cell(f"wrong-{exercise.name}", _listed(mine)))
    if page:
        nb.cells.insert(1, _cell("lecturer", _demoted(page)))
    return nb


def _cell(name: str, text: str) -> NotebookNode:
    cell = new_markdown_cell(text, id=re.sub(r"[^a-zA-Z0-9-]", "-", name)[:64])
    cell.metadata["tags"] = ["instructor"]
    return cell


def _clock(nb: NotebookNode) -> None:
    """Below each section's heading: from which minute to which it is read."""
    heads = [c.cell_type == "markdown" and bool(SECTION.search(c.source)) for c in nb.cells]
    starts = [index for index, is_head in enumerate(heads) if is_head]
    for start, end in reversed(list(zip(starts, [*starts[1:], len(nb.cells)], strict=True))):
        text = nb.cells[start].source
        place = SECTION.search(text)
        assert place
        begin, rest = minutes(nb.cells[:start]), minutes(nb.cells[start:end])
        mark = f"\n\n*Minutes {begin:.0f} to {begin + rest:.0f}.*"
        nb.cells[start].source = text[: place.end()] + mark + text[place.end() :]


def _demoted(page: str) -> str:
    """A page below a notebook's title: its headings one level lower."""
    return re.sub(r"^#", "##", page.strip(), flags=re.MULTILINE)


def _listed(wrong: Sequence[WrongAnswer]) -> str:
    items = [
        f"<details><summary>The check says: … {answer.says} …</summary>\n\n"
        f"```python\n{answer.source}\n```\n\n</details>"
        for answer in wrong
    ]
    return "\n\n".join(["**Wrong answers that come in, and what the check says**", *items])

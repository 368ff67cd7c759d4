"""Minutes a notebook takes: words / 200 + visible lines of code / 40 + 6 an exercise."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nbformat import NotebookNode

from eqprop_lab.regression.parameters import tags

WORDS_A_MINUTE, LINES_A_MINUTE, MINUTES_AN_EXERCISE = 200, 40, 6
FENCE = r"^(```|~~~).*?^\1"
NO_PROSE = (
    FENCE,
    r"\$\$.*?\$\$",
    r"\$[^$\n]*\$",
    r"<[^>]*>",
    r"\]\([^)]*\)",
    r"`[^`\n]*`",
)


def words(markdown: str) -> int:
    """Words of a text: no code blocks, no equations, no tags, no link targets."""
    for pattern in NO_PROSE:
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL | re.MULTILINE)
    return len(re.findall(r"[^\W\d_][\w'-]*", markdown))


def minutes(cells: Iterable[NotebookNode]) -> float:
    """Minutes of some cells; folded code is not read."""
    return sum(map(_of_cell, cells))


def _of_cell(cell: NotebookNode) -> float:
    if cell.cell_type == "markdown":
        task = "exercise" in tags(cell)
        return words(cell.source) / WORDS_A_MINUTE + (MINUTES_AN_EXERCISE if task else 0)
    folded = cell.metadata.get("jupyter", {}).get("source_hidden")
    shown = 0 if folded or cell.cell_type != "code" else len(cell.source.splitlines())
    return shown / LINES_A_MINUTE

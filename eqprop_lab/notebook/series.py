"""The map of the series: what the title cell of every notebook says about it, as one table.

The table is made from the files that exist, so it is never out of date; notebook 00 and the README
show the same one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqprop_lab.files import nearest
from eqprop_lab.tables import markdown_table

_TITLE = re.compile(r"# (\d\d) · (\S.*)")
_FACTS = re.compile(
    r"Time:\s*(?P<minutes>\d+)\s*min\b.*?(?P<seconds>\d+)\s*s\b.*?·\s*Needs:\s*(?P<needs>.+?)\s*·"
    r"\s*Level:\s*(?P<level>.*\S)"
)
_NAVIGATION = re.compile(r"^(\[|←|→|Previous\b|Next\b)")
_PATTERN = "[0-9][0-9]_*.ipynb"


@dataclass(frozen=True)
class Entry:
    """One notebook of the series.

    number: two digits, as in the file name. claim: the sentence below the title. minutes: to read
    it. run_seconds: of a smoke run on a CPU. needs: which notebooks come first, as the title cell
    writes it ("nothing" or "01, 02").
    """

    number: str
    title: str
    claim: str
    minutes: int
    run_seconds: int
    needs: str
    level: str
    path: Path


def series(folder: Path | str | None = None) -> list[Entry]:
    """The notebooks `NN_*.ipynb` of `folder`, in order of their numbers.

    Args:
        folder: default, the series the working directory belongs to: the directory itself, its
            `notebooks/`, or those of a folder above.
    Raises: FileNotFoundError where there is no such notebook; ValueError naming the notebook whose
        title cell lacks the number, the claim or the line "Time: ... · Needs: ... · Level: ...", or
        that cannot be read.
    """
    place = _find_folder() if folder is None else Path(folder)
    paths = sorted(place.glob(_PATTERN))
    if not paths:
        raise FileNotFoundError(f"folder = {place.name!r}: no notebook called NN_topic.ipynb in it")
    return [entry(path) for path in paths]


def series_table(entries: Sequence[Entry], prefix: str = "") -> str:
    """The entries as a Markdown table with a link each.

    Args:
        entries: from `series`, in the order of the rows.
        prefix: from where the table is shown to the notebooks: "" beside them, "notebooks/" in the
            README.
    Raises: ValueError for an empty list.
    """
    if not entries:
        raise ValueError("entries is empty; a table of the series needs at least one notebook")
    head = ("Notebook", "What it shows", "Read", "Run", "Needs", "Level")
    rows = [_row(entry, prefix) for entry in entries]
    return "\n".join(markdown_table(head, rows, right=(2, 3)))


def _row(entry: Entry, prefix: str) -> tuple[str, ...]:
    link = f"[{entry.number} · {entry.title}]({prefix}{entry.path.name})"
    # A no-break space: the column is narrow, and "25 min" would fall apart.
    times = f"{entry.minutes}\N{NO-BREAK SPACE}min", f"{entry.run_seconds}\N{NO-BREAK SPACE}s"
    return link, entry.claim, *times, entry.needs, entry.level


def _find_folder() -> Path:
    place = nearest(lambda folder: _holds(folder) or _holds(folder / "notebooks"))
    if place is None:
        raise FileNotFoundError(
            "no notebook called NN_topic.ipynb in or above the working directory; start inside "
            "the project, or name the folder: series('notebooks')"
        )
    return place if _holds(place) else place / "notebooks"


def _holds(folder: Path) -> bool:
    return any(folder.glob(_PATTERN))


def entry(path: Path) -> Entry:
    """What the title cell of one notebook says. Raises ValueError, as `series` does."""
    lines = [line.strip() for line in _title_cell(path).splitlines()]
    plain = [re.sub(r"[*_]", "", line) for line in lines]
    title = _TITLE.fullmatch(lines[0]) if lines else None
    if title is None or title.group(1) != path.name[:2]:
        raise ValueError(
            f"{path.name}: the first cell does not begin with '# {path.name[:2]} · title'"
        )
    facts = next((match for line in plain if (match := _FACTS.search(line))), None)
    if facts is None:
        raise ValueError(
            f"{path.name}: no line "
            "'Time: 25 min read, 40 s run (CPU) · Needs: 01 · Level: graduate'"
        )
    claim = _first_paragraph(lines[1:])
    if not claim:
        raise ValueError(
            f"{path.name}: no sentence that says what the notebook shows, below its title"
        )
    return Entry(
        title.group(1),
        title.group(2),
        claim,
        int(facts["minutes"]),
        int(facts["seconds"]),
        facts["needs"],
        facts["level"].rstrip("."),
        path,
    )


def _title_cell(path: Path) -> str:
    """Source of the first cell if it is Markdown. Plain JSON: nbformat's validation of outputs is
    slow.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        first = cells[0] if cells else {"cell_type": "", "source": ""}
        return "".join(first["source"]) if first["cell_type"] == "markdown" else ""
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a notebook of format 4: {error}") from error


def _first_paragraph(lines: Sequence[str]) -> str:
    """The first lines of prose: neither the facts nor the links to the neighbours."""
    found: list[str] = []
    for line in lines:
        prose = bool(line) and "Time:" not in line and not _NAVIGATION.match(line)
        if prose:
            found.append(line)
        elif found:
            break
    return " ".join(found).strip("*_ ")

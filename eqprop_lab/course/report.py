"""What a graded class is written down as: a CSV for the lecturer, a page for each student."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from eqprop_lab.course.grading import Graded
from eqprop_lab.course.masters import Master
from eqprop_lab.files import replace_text
from eqprop_lab.tables import csv_text

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def totals(each: Iterable[Graded]) -> tuple[float, int]:
    """Points of all that a student has handed in, and how many there were to have."""
    verdicts = [v for one in each for v in one.verdicts]
    return sum(v.points for v in verdicts), sum(v.of for v in verdicts)


def grades_csv(graded: Mapping[str, Sequence[Graded]], seeds: Mapping[str, int]) -> str:
    """A row a student: seed, points of every exercise, their sum, what a person should look at."""
    first = next(iter(graded.values()))
    exercises = [f"{_number(one)} {v.name}" for one in first for v in one.verdicts]
    rows: list[list[object]] = [["student", "seed", *exercises, "points", "of", "look at"]]
    for student, each in graded.items():
        verdicts = [v for one in each for v in one.verdicts]
        notes = [f"{v.name}: {', '.join(v.notes)}" for v in verdicts if v.notes]
        notes += [one.submission.problem for one in each if one.submission.problem]
        points = [f"{v.points:g}" for v in verdicts]
        total, of = totals(each)
        row = [_cell(student), seeds[student], *points, f"{total:g}", of, _cell("; ".join(notes))]
        rows.append(row)
    return csv_text(rows)


def _cell(text: str) -> str:
    """A text that a spreadsheet takes for no formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _number(one: Graded) -> str:
    return one.submission.master.stem[:2]


def feedback(student: str, each: Sequence[Graded], seed: int) -> str:
    """The page of a student: points of every exercise, and what the check says."""
    total, of = totals(each)
    lines = [f"# {_plain(student)}", "", f"{total:g} of {of} points. Seed: {seed}.", ""]
    for one in each:
        titles = _titles(one.submission.master)
        lines += [f"## {one.submission.master.stem}", ""]
        if one.submission.problem:
            lines += [_plain(one.submission.problem), ""]
        for v in one.verdicts:
            lines += [f"### Exercise {v.number}: {titles[v.name]}", ""]
            lines += [f"`{v.name}`: {v.points:g} of {v.of} points", ""]
            if not one.submission.problem:
                lines += ["```text", _plain(v.says), "```", ""]
    return "\n".join(lines)


@cache
def _titles(master: Path) -> dict[str, str]:
    return {e.name: e.title for e in Master.read(master).exercises}


def _plain(text: str) -> str:
    """A text of a stranger: no control characters, no end of the block it stands in."""
    return re.sub(r"[^\n\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd]", "?", text).replace("```", "'''")


def write_reports(
    out: Path, graded: Mapping[str, Sequence[Graded]], seeds: Mapping[str, int]
) -> Path:
    """Write the CSV, and `feedback/STUDENT.md` beside it; returns the folder of the pages."""
    folder = out.parent / "feedback"
    for student, each in graded.items():
        replace_text(folder / f"{student}.md", feedback(student, each, seeds[student]))
    replace_text(out, grades_csv(graded, seeds))
    return folder

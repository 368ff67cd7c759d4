"""Tables as text: columns as wide as their widest cell, for a terminal or for Markdown, and CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Collection, Iterable, Sequence

Rows = Sequence[Sequence[str]]


def text_table(rows: Rows, right: Collection[int] = ()) -> list[str]:
    """One line a row, two blanks between columns. right: numbers of the columns flushed right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown_table(head: Sequence[str], rows: Rows, right: Collection[int] = ()) -> list[str]:
    """Head, rule and rows in Markdown; a bar inside a cell is escaped."""
    rule = "|".join("--:" if column in right else ":--" for column in range(len(head)))
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in (head, *rows)]
    return [f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])]


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV, a line each; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def with_spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation; of one value alone, the value."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"

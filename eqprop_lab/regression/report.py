"""The results of a run: one pass / fail table, an HTML page, JUnit XML and metrics.json."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from eqprop_lab.files import replace_text
from eqprop_lab.regression.outputs import ANSI
from eqprop_lab.tables import text_table

LONGEST_TEXT = 4000
MOST_LINES = 50
# What XML 1.0 or UTF-8 cannot hold, and C1 controls, which a terminal takes for commands.
UNREADABLE = re.compile("[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto}
body {color-scheme: light dark}
table {border-collapse: collapse; width: 100%}
th, td {text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8886; vertical-align: top}
td.n {text-align: right; font-variant-numeric: tabular-nums}
pre {white-space: pre-wrap; margin: 0}
.passed::before {content: "\\2713 "} .failed::before {content: "\\2717 "} .failed {font-weight: 700}
"""


@dataclass
class NotebookResult:
    """One notebook: "passed", "failed" or "not run"; problems say why, notes what else."""

    key: str
    notebook: str
    status: str
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    executed: str = ""
    seed: int | None = None


def plain(text: Any) -> str:
    """Text that every reader of a report takes: bounded, no terminal codes, valid XML and UTF-8.

    A notebook may put anything into its messages: half a surrogate pair, a bell, a hundred
    megabytes.
    """
    whole = str(text)
    head = whole[:LONGEST_TEXT]
    more = f" ... ({len(whole) - len(head)} characters more)" if len(whole) > len(head) else ""
    return UNREADABLE.sub(lambda char: f"\\x{ord(char[0]):02x}", ANSI.sub("", head)) + more


def _lines(lines: Sequence[str]) -> list[str]:
    shown = [plain(line) for line in lines[:MOST_LINES]]
    return shown + ([f"... and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])


def table(results: Sequence[NotebookResult]) -> str:
    """The pass / fail table printed at the end of a run, with one indented line per problem."""
    rows = [(plain(r.key), r.status, f"{r.seconds:.1f}", str(len(r.metrics))) for r in results]
    head = ("notebook", "result", "seconds", "metrics")
    head_line, *body = text_table([head, *rows], right=(2, 3))
    lines = [head_line]
    for line, result in zip(body, results, strict=True):
        lines.append(line)
        lines += [f"    {line}" for line in (*_lines(result.problems), *_lines(result.notes))]
    return "\n".join([*lines, _verdict(results)])


def _verdict(results: Sequence[NotebookResult]) -> str:
    return f"{sum(result.status == 'passed' for result in results)} of {len(results)} passed"


def html(results: Sequence[NotebookResult], profile: str) -> str:
    """A self-contained page: a summary, then metrics, parameters and provenance notebook by
    notebook.
    """
    head = ("notebook", "result", "seconds", "problems")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Notebook regression</title><style>{STYLE}</style></head>"
        "<body><h1>Notebook regression</h1>"
        f"<p>Profile {escape(profile)}: {_verdict(results)}.</p>"
        f"{_html_table(head, map(_row, results))}{''.join(map(_section, results))}</body></html>\n"
    )


def _html_table(head: Iterable[str], rows: Iterable[str]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(result: NotebookResult) -> str:
    key = escape(plain(result.key))
    status = result.status
    problems = escape("\n".join(_lines(result.problems)))
    return (
        f'<tr><td><a href="#{key}">{key}</a></td>'
        f'<td class="{status.replace(" ", "-")}">{status}</td>'
        f'<td class="n">{result.seconds:.1f}</td><td><pre>{problems}</pre></td></tr>'
    )


def _section(result: NotebookResult) -> str:
    link = (
        f'<p><a href="{quote(result.executed, errors="surrogateescape")}">executed notebook</a></p>'
        if result.executed
        else ""
    )
    key = escape(plain(result.key))
    notes = "".join(f"<p>{escape(note)}</p>" for note in _lines(result.notes))
    metrics = (
        f'<tr><td>{escape(plain(name))}</td><td class="n">{value:.6g}</td></tr>'
        for name, value in result.metrics.items()
    )
    described = (
        f"<tr><td>{escape(plain(name))}</td><td>{escape(plain(value))}</td></tr>"
        for name, value in {"parameters": result.parameters, **result.provenance}.items()
    )
    tables = _html_table(("metric", "value"), metrics) + _html_table(("run", "value"), described)
    return f'<h2 id="{key}">{key}</h2>{link}{notes}{tables}'


def junit(results: Sequence[NotebookResult]) -> str:
    """JUnit XML: a test case a notebook, a failure with all its problems, the unrun as skipped."""
    suite = ElementTree.Element("testsuite", name="notebooks", tests=str(len(results)))
    suite.set("failures", str(sum(result.status == "failed" for result in results)))
    suite.set("skipped", str(sum(result.status == "not run" for result in results)))
    suite.set("time", f"{sum(result.seconds for result in results):.3f}")
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname="notebooks", name=plain(result.key)
        )
        case.set("time", f"{result.seconds:.3f}")
        if result.status == "failed":
            problems = _lines(result.problems or ["failed"])
            ElementTree.SubElement(case, "failure", message=problems[0]).text = "\n".join(problems)
        elif result.status == "not run":
            ElementTree.SubElement(case, "skipped", message="; ".join(_lines(result.problems)))
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode")
        + "\n"
    )


def _json(value: Any) -> Any:
    """The value as JSON can say it: texts as in the other reports, NaN and infinities by name."""
    if isinstance(value, dict):
        return {plain(key): _json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float)) else plain(value)


def write_reports(results: Sequence[NotebookResult], folder: Path, profile: str) -> Path:
    """Write report.html, junit.xml and metrics.json into `folder`; returns the path of the page."""
    replace_text(
        folder / "metrics.json",
        json.dumps(_json([asdict(r) for r in results]), indent=2, allow_nan=False) + "\n",
    )
    replace_text(folder / "junit.xml", junit(results))
    page = folder / "report.html"
    replace_text(page, html(results, profile))
    return page

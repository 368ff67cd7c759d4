"""What an executed notebook holds: metrics, provenance, errors where papermill does not look."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html import unescape
from typing import Any, TypeGuard

from nbformat import NotebookNode

from eqprop_lab.validation import shown

METRICS_MIME = "application/vnd.eqprop.metrics+json"
PROVENANCE_MIME = "application/vnd.eqprop.provenance+json"
WIDGET_STATE_MIME = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW_MIME = "application/vnd.jupyter.widget-view+json"
ALERT = re.compile(
    r"<(\w+)[^>]*\brole\s*=\s*[\"']?alert\b[^>]*>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE
)
# Colours, cursor moves, titles and links: everything a terminal takes for a command.
ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]"
)
THREAD_ERROR = re.compile(r"^Exception in thread .*", re.MULTILINE)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that a float can hold."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def code_outputs(nb: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """(number of the code cell from 1, output) for every output of the notebook."""
    code = (cell for cell in nb.cells if cell.cell_type == "code")
    for number, cell in enumerate(code, 1):
        yield from ((number, output) for output in cell.get("outputs", []))


def metrics_of(nb: NotebookNode) -> tuple[dict[str, float], list[str]]:
    """Metrics of `record(...)`, and what is wrong with them: twice, no number, not finite."""
    metrics: dict[str, float] = {}
    problems: list[str] = []
    for number, output in code_outputs(nb):
        payload = output.get("data", {}).get(METRICS_MIME)
        if payload is None:
            continue
        recorded = payload.get("metrics") if isinstance(payload, dict) else None
        if not isinstance(recorded, dict):
            problems.append(
                f"code cell {number}: an output of metrics holds no 'metrics': {shown(payload)}"
            )
            continue
        for name, value in recorded.items():
            if name in metrics:
                problems.append(f"code cell {number}: metric {name!r} is recorded twice")
            if is_finite(value):
                metrics[name] = float(value)
            else:
                kind = "" if type(value) in (int, float) else ", not a number"
                problems.append(f"code cell {number}: metric {name!r} is {shown(value)}{kind}")
    return metrics, problems


def provenance_of(nb: NotebookNode) -> dict[str, Any]:
    """The last record of versions, seed, device and seconds in the notebook; {} for none."""
    payloads = [output.get("data", {}).get(PROVENANCE_MIME) for _, output in code_outputs(nb)]
    return next((dict(payload) for payload in payloads[::-1] if isinstance(payload, dict)), {})


def alert_text(html: str) -> str:
    """The visible text of the elements with role="alert"; an empty placeholder gives ''."""
    inner = " ".join(match.group(2) for match in ALERT.finditer(html))
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", inner)).split())


def output_problems(output: NotebookNode) -> list[str]:
    """Errors in one output: a traceback, an alert in HTML, a thread's exception in a stream."""
    problems: list[str] = []
    if output.output_type == "error":
        problems.append(f"error {output.get('ename')}: {ANSI.sub('', str(output.get('evalue')))}")
    if text := alert_text("".join(output.get("data", {}).get("text/html", ""))):
        problems.append(f"alert: {text}")
    if output.output_type == "stream":
        problems += [match.group(0) for match in THREAD_ERROR.finditer("".join(output.text))]
    return problems


def widget_problems(nb: NotebookNode) -> list[str]:
    """Errors in the saved widget state: tracebacks in Output widgets, alerts in HTML widgets."""
    state = nb.metadata.get("widgets", {}).get(WIDGET_STATE_MIME, {}).get("state", {})
    problems: list[str] = []
    for model in state.values() if isinstance(state, dict) else ():
        values = model.get("state", {})
        name = model.get("model_name", "widget")
        for output in values.get("outputs", []):
            problems += [f"{name}: {problem}" for problem in output_problems(NotebookNode(output))]
        value = values.get("value")
        if isinstance(value, str) and (text := alert_text(value)):
            problems.append(f"{name}: alert: {text}")
    return problems


def hidden_errors(nb: NotebookNode) -> list[str]:
    """Every error papermill does not stop at: in outputs, widget state and streams of threads."""
    problems = [
        f"code cell {number}: {problem}"
        for number, output in code_outputs(nb)
        for problem in output_problems(output)
    ]
    return problems + widget_problems(nb)

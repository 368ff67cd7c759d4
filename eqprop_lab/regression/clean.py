"""The committed copy of a notebook: outputs without paths, seconds, device, widget state or
papermill's traces.

A reader on a code host sees the pictures and the text. Recorded metrics and the provenance record
are left out: their place is the baseline and the report, so that a committed copy changes only when
what a reader sees changes.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, from_dict, validate, writes
from nbformat.v4 import new_notebook

from eqprop_lab.regression.outputs import METRICS_MIME, PROVENANCE_MIME, WIDGET_VIEW_MIME
from eqprop_lab.regression.parameters import tags

PRIVATE_MIMES = (METRICS_MIME, PROVENANCE_MIME, WIDGET_VIEW_MIME)
PNG_LIMIT = 80 * 1024
NOTEBOOK_LIMIT = 500 * 1024
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/~<])(?:/(?:home|root|tmp|Users|work|usr|opt|var|mnt|private)/[\w.+-]|[A-Za-z]:\\\\?\w)[^\s'\"<>)]*"
)
# At most eight folders: an open repetition takes minutes on the base64 text of an embedded picture.
KERNEL_FILE = re.compile(
    r"(?:[A-Za-z]:)?(?:[/\\][\w.~+-]{1,80}){0,8}[/\\]ipykernel_\d+[/\\]\d+\.py"
)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}\b")
PROGRESS_BAR = re.compile(r"\d+%\|.*\|.*|\d+(?:\.\d+)?(?:it/s|s/it)")


class CleanError(ValueError):
    """An executed notebook that must not be committed; the message lists why."""


def source_hash(nb: NotebookNode) -> str:
    """sha256 of type, tags and source of every cell in order; papermill's injected cell does not
    count.
    """
    cells = [
        [cell.cell_type, sorted(tags(cell)), cell.source]
        for cell in nb.cells
        if "injected-parameters" not in tags(cell)
    ]
    return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).hexdigest()


def png_sizes(nb: NotebookNode) -> list[int]:
    """Bytes of every PNG in the outputs."""
    pictures = [
        output.data["image/png"]
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    return [len(base64.b64decode(picture)) for picture in pictures]


def absolute_paths(text: str) -> list[str]:
    """Paths of one machine found in `text`."""
    return [match.group(0) for match in ABSOLUTE_PATH.finditer(text)]


def plain_paths(text: str, root: Path) -> str:
    """`text` with project, environment, home and kernel files named without their place, and
    without addresses.
    """
    text = ADDRESS.sub("", KERNEL_FILE.sub("<cell>", text))
    for place, name in ((str(root), "."), (sys.prefix, "<environment>"), (str(Path.home()), "~")):
        if len(place) > 1:
            text = text.replace(place + "/", name + "/").replace(place + "\\", name + "\\")
    return text


def _clean_output(output: NotebookNode, root: Path) -> NotebookNode | None:
    if output.output_type == "stream":
        text = "".join(output.text)
        if output.name == "stderr" and PROGRESS_BAR.search(text):
            return None
        output.text = plain_paths(text, root)
        return output if output.text.strip() else None
    data = {
        mime: content
        for mime, content in output.get("data", {}).items()
        if mime not in PRIVATE_MIMES
    }
    if not data:
        return None
    output.data = from_dict({mime: _plain(mime, content, root) for mime, content in data.items()})
    output.metadata = from_dict(
        {k: v for k, v in output.get("metadata", {}).items() if k not in PRIVATE_MIMES}
    )
    return output


def _plain(mime: str, content: Any, root: Path) -> Any:
    return (
        plain_paths(content, root)
        if mime.startswith("text/") and isinstance(content, str)
        else content
    )


def committed_copy(source: NotebookNode, executed: NotebookNode, root: Path) -> NotebookNode:
    """The notebook to commit: cells (ids, sources, tags) of `source`, cleaned outputs of
    `executed`.

    Raises CleanError when the two do not belong together, a PNG exceeds 80 KB, the file exceeds 500
    KB, or a path of this machine is left in an output.
    """
    ran = [cell for cell in executed.cells if "injected-parameters" not in tags(cell)]
    if source_hash(source) != source_hash(executed) or len(ran) != len(source.cells):
        raise CleanError("the executed copy was made from other sources; run the notebook again")
    result = new_notebook(cells=copy.deepcopy(source.cells))
    count = 0
    for cell, done in zip(result.cells, ran, strict=True):
        cell.metadata = from_dict(
            {k: v for k, v in cell.metadata.items() if k not in ("papermill", "execution")}
        )
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cleaned = [_clean_output(copy.deepcopy(output), root) for output in done.outputs]
        cell.outputs = [output for output in cleaned if output is not None]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    result.metadata = _metadata(source, executed)
    problems = _copy_problems(result)
    if problems:
        raise CleanError("; ".join(problems))
    validate(result)
    return result


def _metadata(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    metadata = {k: v for k, v in source.metadata.items() if k not in ("papermill", "widgets")}
    language = {
        k: v for k, v in executed.metadata.get("language_info", {}).items() if k != "version"
    }
    metadata |= {"language_info": language} if language else {}
    metadata["eqprop"] = dict(source.metadata.get("eqprop", {})) | {
        "source_hash": source_hash(source)
    }
    return from_dict(metadata)


def _copy_problems(nb: NotebookNode) -> list[str]:
    problems = [
        f"a PNG of {size // 1024} KB (limit 80 KB)" for size in png_sizes(nb) if size > PNG_LIMIT
    ]
    size = len(writes(nb).encode())
    if size > NOTEBOOK_LIMIT:
        problems.append(f"the notebook has {size // 1024} KB (limit 500 KB)")
    return problems + [
        f"path of this machine in an output: {path}" for path in absolute_paths(visible_text(nb))
    ]


def visible_text(nb: NotebookNode) -> str:
    """All text of the outputs: streams and text/* data, one after another."""
    parts: list[str] = []
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            parts.append("".join(output.get("text", "")))
            parts += [
                "".join(v) for k, v in output.get("data", {}).items() if k.startswith("text/")
            ]
    return "\n".join(parts)

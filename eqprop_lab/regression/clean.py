"""The committed copy of a notebook: no paths, seconds, device, widget state, traces of a run.

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, from_dict, validate, writes
from nbformat.v4 import new_notebook

from eqprop_lab.regression.outputs import (
    METRICS_MIME,
    PROVENANCE_MIME,
    WIDGET_VIEW_MIME,
    code_outputs,
)
from eqprop_lab.regression.parameters import tags

PRIVATE_MIMES = (METRICS_MIME, PROVENANCE_MIME, WIDGET_VIEW_MIME)
PNG_LIMIT = 80 * 1024
NOTEBOOK_LIMIT = 500 * 1024
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/~<])"
    r"(?:/(?:home|root|tmp|Users|work|usr|opt|var|mnt|private)/[\w.+-]|[A-Za-z]:\\\\?\w)"
    r"[^\s'\"<>)]*"
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
    """sha256 of type, tags and source of every cell in order, papermill's injected one left out."""
    cells = [
        [cell.cell_type, sorted(tags(cell)), cell.source]
        for cell in nb.cells
        if "injected-parameters" not in tags(cell)
    ]
    return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).hexdigest()


def png_sizes(nb: NotebookNode) -> list[int]:
    """Bytes of every PNG in the outputs."""
    contents = [output.get("data", {}) for _, output in code_outputs(nb)]
    pictures = [data["image/png"] for data in contents if "image/png" in data]
    return [len(base64.b64decode(picture)) for picture in pictures]


def absolute_paths(text: str) -> list[str]:
    """Paths of one machine found in `text`."""
    return [match.group(0) for match in ABSOLUTE_PATH.finditer(text)]


def plain_paths(text: str, root: Path) -> str:
    """`text` without addresses, and without the places of project, environment, home, kernel."""
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
    data = _without(PRIVATE_MIMES, output.get("data", {}))
    if not data:
        return None
    texts = {k: v for k, v in data.items() if k.startswith("text/") and isinstance(v, str)}
    output.data = data | {mime: plain_paths(text, root) for mime, text in texts.items()}
    output.metadata = _without(PRIVATE_MIMES, output.get("metadata", {}))
    return output


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs with text that was printed in one go in one piece: how a kernel cuts it up is
    chance.
    """
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text = "".join(last.text) + "".join(output.text)
        else:
            joined.append(output)
    return joined


def _without(keys: tuple[str, ...], content: Mapping[str, Any]) -> NotebookNode:
    return from_dict({key: part for key, part in content.items() if key not in keys})


def committed_copy(source: NotebookNode, executed: NotebookNode, root: Path) -> NotebookNode:
    """The notebook to commit: cells (ids, sources, tags) of `source`, cleaned outputs of
    `executed`.

    Raises CleanError when the two do not belong together, a PNG exceeds 80 KB, the file 500 KB, or
    a path of this machine is left in an output.
    """
    ran = [cell for cell in executed.cells if "injected-parameters" not in tags(cell)]
    if source_hash(source) != source_hash(executed) or len(ran) != len(source.cells):
        raise CleanError("the executed copy was made from other sources; run the notebook again")
    result = new_notebook(cells=copy.deepcopy(source.cells), metadata=_metadata(source, executed))
    for cell in result.cells:
        cell.metadata = _without(("papermill", "execution"), cell.metadata)
    pairs = zip(result.cells, ran, strict=True)
    code = ((cell, done) for cell, done in pairs if cell.cell_type == "code")
    for count, (cell, done) in enumerate(code, 1):
        cell.execution_count = count
        whole = _joined(copy.deepcopy(done.outputs))
        cleaned = [_clean_output(output, root) for output in whole]
        cell.outputs = [output for output in cleaned if output is not None]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    if problems := _copy_problems(result):
        raise CleanError("; ".join(problems))
    validate(result)
    return result


def _metadata(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    metadata = _without(("papermill", "widgets"), source.metadata)
    if language := _without(("version",), executed.metadata.get("language_info", {})):
        metadata["language_info"] = language
    own = source.metadata.get("eqprop", {})
    metadata["eqprop"] = from_dict({**own, "source_hash": source_hash(source)})
    return metadata


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
    for _, output in code_outputs(nb):
        texts = [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
        parts += map("".join, [output.get("text", ""), *texts])
    return "\n".join(parts)

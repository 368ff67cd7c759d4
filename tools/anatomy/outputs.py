"""Anatomy rules about what is stored in a committed notebook: outputs of the current sources, clean
and small.
"""

from __future__ import annotations

from collections.abc import Iterator

from eqprop_lab.regression.clean import (
    NOTEBOOK_LIMIT,
    PNG_LIMIT,
    PRIVATE_MIMES,
    PROGRESS_BAR,
    absolute_paths,
    png_sizes,
    source_hash,
    visible_text,
)
from eqprop_lab.regression.outputs import hidden_errors
from tools.anatomy.view import View, where

RENEW = "run make notebooks UPDATE=1"


def metadata(view: View) -> Iterator[str]:
    """Kernel python3; no widget state, no traces of papermill, cells without timing; every cell has
    an id.
    """
    if view.nb.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel name is not python3"
    for key in ("widgets", "papermill"):
        if key in view.nb.metadata:
            yield f"notebook metadata holds {key!r}; {RENEW}"
    for index, cell in enumerate(view.cells):
        if {"papermill", "execution"} & set(cell.metadata):
            yield f"{where(index)}: metadata of a run; {RENEW}"
        if not cell.get("id"):
            yield f"{where(index)}: no cell id"


def stored(view: View) -> Iterator[str]:
    """The stored outputs belong to the current sources (hash in the metadata), every cell was run
    in order.
    """
    if view.nb.metadata.get("eqprop", {}).get("source_hash") != source_hash(view.nb):
        yield f"stored outputs do not belong to these sources; {RENEW}"
    counts = [cell.get("execution_count") for _, cell in view.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"code cells are not numbered 1 to {len(counts)}; {RENEW}"


def errors(view: View) -> Iterator[str]:
    """No error output, no alert."""
    yield from hidden_errors(view.nb)


def text(view: View) -> Iterator[str]:
    """No private MIME, no paths of a machine (sources too), no warnings or progress bars in the
    outputs.
    """
    for index, cell in enumerate(view.cells):
        for path in absolute_paths(cell.source):
            yield f"{where(index)}: absolute path {path} in the source"
    for path in absolute_paths(visible_text(view.nb)):
        yield f"absolute path {path} in an output"
    for index, cell in view.code:
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                yield f"{where(index)}: text on stderr: {''.join(output.text).strip().splitlines()[0][:80]}"
            if output.output_type == "stream" and PROGRESS_BAR.search("".join(output.text)):
                yield f"{where(index)}: a progress bar is stored"
            for mime in PRIVATE_MIMES:
                if mime in output.get("data", {}):
                    yield f"{where(index)}: {mime} is stored; {RENEW}"


def sizes(view: View) -> Iterator[str]:
    """PNG at most 80 KB each, the file at most 500 KB."""
    for size in png_sizes(view.nb):
        if size > PNG_LIMIT:
            yield f"a PNG of {size // 1024} KB (at most {PNG_LIMIT // 1024} KB)"
    size = view.path.stat().st_size
    if size > NOTEBOOK_LIMIT:
        yield f"the file has {size // 1024} KB (at most {NOTEBOOK_LIMIT // 1024} KB)"

"""What the rules look for in a committed notebook: outputs of these sources, clean and small."""

from __future__ import annotations

from collections.abc import Iterator

from nbformat import NotebookNode

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
from tools.anatomy.view import Hit, View, at


def kernel(view: View) -> Iterator[Hit]:
    if view.nb.metadata.get("kernelspec", {}).get("name") != "python3":
        yield at()


def notebook_traces(view: View) -> Iterator[Hit]:
    yield from (at(key=key) for key in ("widgets", "papermill") if key in view.nb.metadata)


def cell_traces(view: View) -> Iterator[Hit]:
    for index, cell in enumerate(view.cells):
        if {"papermill", "execution"} & set(cell.metadata):
            yield at(index)


def no_id(view: View) -> Iterator[Hit]:
    yield from (at(index) for index, cell in enumerate(view.cells) if not cell.get("id"))


def older_outputs(view: View) -> Iterator[Hit]:
    if view.nb.metadata.get("eqprop", {}).get("source_hash") != source_hash(view.nb):
        yield at()


def numbering(view: View) -> Iterator[Hit]:
    counts = [cell.get("execution_count") for _, cell in view.code]
    if counts != list(range(1, len(counts) + 1)):
        yield at(count=len(counts))


def errors(view: View) -> Iterator[Hit]:
    yield from (at(problem=problem) for problem in hidden_errors(view.nb))


def source_paths(view: View) -> Iterator[Hit]:
    for index, cell in enumerate(view.cells):
        yield from (at(index, path=path) for path in absolute_paths(cell.source))


def output_paths(view: View) -> Iterator[Hit]:
    yield from (at(path=path) for path in absolute_paths(visible_text(view.nb)))


def _outputs(view: View) -> Iterator[tuple[int, NotebookNode]]:
    yield from ((index, output) for index, cell in view.code for output in cell.outputs)


def _printed(output: NotebookNode) -> str:
    return "".join(output.text) if output.output_type == "stream" else ""


def warnings(view: View) -> Iterator[Hit]:
    for index, output in _outputs(view):
        if output.get("name") == "stderr":
            yield at(index, line=_printed(output).strip().splitlines()[0][:80])


def progress_bars(view: View) -> Iterator[Hit]:
    for index, output in _outputs(view):
        if PROGRESS_BAR.search(_printed(output)):
            yield at(index)


def private(view: View) -> Iterator[Hit]:
    for index, output in _outputs(view):
        yield from (at(index, mime=m) for m in PRIVATE_MIMES if m in output.get("data", {}))


def pictures(view: View) -> Iterator[Hit]:
    for size in png_sizes(view.nb):
        if size > PNG_LIMIT:
            yield at(size=size // 1024, most=PNG_LIMIT // 1024)


def file_size(view: View) -> Iterator[Hit]:
    size = view.path.stat().st_size
    if size > NOTEBOOK_LIMIT:
        yield at(size=size // 1024, most=NOTEBOOK_LIMIT // 1024)

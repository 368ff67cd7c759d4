"""Remove widget state from notebooks: `python tools/strip_widget_state.py notebooks/*.ipynb`.

A saved widget state is large, differs after every run, and makes code hosts show "Error displaying
widget" in place of the picture. Files that hold none stay as they are, byte for byte; exits 1 when
one was rewritten.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat

VIEW = "application/vnd.jupyter.widget-view+json"


def strip(notebook: nbformat.NotebookNode) -> bool:
    """Drop the stored state and the view of every widget, in place; whether there was any."""
    found = notebook.metadata.pop("widgets", None) is not None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found |= output.get("data", {}).pop(VIEW, None) is not None
            found |= output.get("metadata", {}).pop(VIEW, None) is not None
        # An output that was nothing but a widget would stay as an empty one.
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if "data" not in o or o.data]
    return found


def main(paths: list[str]) -> int:
    """Strip each file; the exit status says whether one changed."""
    changed = 0
    for path in map(Path, paths):
        notebook = nbformat.read(path, as_version=4)
        if strip(notebook):
            partial = path.with_suffix(".ipynb.part")
            nbformat.write(notebook, partial)
            os.replace(partial, path)
            print(f"{path}: widget state removed")
            changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

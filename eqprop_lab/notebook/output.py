"""One way out: every display of the notebook tools is a MIME bundle sent from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

if TYPE_CHECKING:
    from ipywidgets import Widget

VIEW = "application/vnd.jupyter.widget-view+json"


def emit(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Display a MIME bundle; in a plain Python program, print its text and nothing else."""
    if InteractiveShell.initialized():
        display(data, metadata=metadata or {}, raw=True)
    elif "text/plain" in data:
        print(data["text/plain"])


def emit_widget(
    widget: Widget, data: dict[str, Any], metadata: dict[str, Any] | None = None
) -> None:
    """Two outputs: the view of a widget, and a MIME bundle for pages without widgets.

    In one output the view would hide the other on a page that knows views and has no state of them.
    """
    emit({VIEW: widget._repr_mimebundle_()[VIEW]})
    emit(data, metadata)

"""One way out: every display of the notebook tools is a MIME bundle sent from here."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display


def emit(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Display a MIME bundle; in a plain Python program, print its text and nothing else."""
    if InteractiveShell.initialized():
        display(data, metadata=metadata or {}, raw=True)
    elif "text/plain" in data:
        print(data["text/plain"])

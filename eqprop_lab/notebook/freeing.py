"""A cell that is run again frees what it showed before: comms, figures, threads, references to it.

ipywidgets keeps every widget until it is closed, and IPython keeps the last value of every cell in
`Out`: without this each run of an explorer's cell would leave one more explorer in memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import ipywidgets as widgets
from IPython.core.interactiveshell import InteractiveShell


class Closable(Protocol):
    """What a cell shows and may be freed."""

    def close(self) -> None:
        """End what works for the page."""


class _Shown:
    """What the cells of one shell show now; `fresh` is what the running cell has shown so far."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.fresh: list[Closable] = []
        self.cells: dict[Hashable, list[Closable]] = {}
        shell.events.register("post_run_cell", self.after_cell)

    def after_cell(self, result: Any) -> None:
        """Free what this cell showed the last time, unless some cell still shows it."""
        info = result.info
        cell = getattr(info, "cell_id", None) or info.raw_cell
        former = self.cells.pop(cell, [])
        if self.fresh:
            self.cells[cell] = self.fresh
        self.fresh = []
        for live in former:
            if not any(live is other for shown in self.cells.values() for other in shown):
                live.close()
                _forget(self.shell, live)


_shells: WeakKeyDictionary[InteractiveShell, _Shown] = WeakKeyDictionary()


def keep_while_shown(live: Closable) -> None:
    """Note that the running cell shows `live`; outside a notebook nothing is noted."""
    if not InteractiveShell.initialized():
        return
    shell = InteractiveShell.instance()
    shown = _shells.get(shell) or _shells.setdefault(shell, _Shown(shell))
    if not any(live is other for other in shown.fresh):
        shown.fresh.append(live)


def close_all(widget: widgets.Widget) -> None:
    """Close a widget with its children, its layout and its style: each has a comm of its own."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
        if isinstance(part, widgets.Widget):
            part.unobserve_all()
            part.close()


def _forget(shell: InteractiveShell, live: Closable) -> None:
    """Take `live` out of `Out`, `_`, `__`, `___` and `_12`; a variable of the reader's keeps it."""
    for names in (shell.user_ns, shell.user_ns_hidden):
        for name in [name for name, value in names.items() if value is live]:
            if not name.strip("_0123456789"):
                names[name] = "" if not name.strip("_") else None
    kept = shell.user_ns.get("_oh", {})
    for number in [number for number, value in kept.items() if value is live]:
        del kept[number]
    for name in ("_", "__", "___"):
        if getattr(shell.displayhook, name, None) is live:
            setattr(shell.displayhook, name, "")

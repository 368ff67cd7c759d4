"""`RunsPanel`: two runs of the store beside each other, curves and settings that differ."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets

from eqprop_lab.experiments.comparing import Comparison, compare
from eqprop_lab.experiments.runs import Run, RunError, RunStore
from eqprop_lab.notebook.controls import LABEL_STYLE
from eqprop_lab.notebook.picture import alert_html, image_html, safe_message, title_html
from eqprop_lab.notebook.style import encode_png, style_context

SHOWN = ("val_loss", "val_accuracy", "residual")
LATEST = 50
_WIDTH = 900.0


def label(run: Run) -> str:
    """One line of the list: when, what on what, and how well. Raises RunError."""
    config, history = run.config, run.history
    accuracy = [value for value in history.get("val_accuracy", []) if value is not None]
    end = f"{history.epochs} epochs, {accuracy[-1]:.1%}" if accuracy else "no epoch"
    return f"{run.id}: {config['model']['name']} on {Path(config['data']['dataset']).name}, {end}"


class RunsPanel:
    """Choose two runs and compare them; `refresh` reads the store anew."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.alt, self.table = "", ""
        self._reading = False
        look = {"style": LABEL_STYLE, "layout": {"width": "calc(100% - 4px)"}}
        self._lists = [widgets.Dropdown(description=f"run {name}", **look) for name in "AB"]
        self._note, self._picture, self._settings = (widgets.HTML() for _ in range(3))
        again = widgets.Button(description="Refresh", tooltip="Read the store of runs again")
        again.add_class("eqprop-refresh").on_click(lambda _: self.refresh())
        head = [widgets.HTML(title_html("Runs: compare two of them")), *self._lists, again]
        self.widget = widgets.VBox([*head, self._note, self._picture, self._settings])
        self.widget.add_class("eqprop-runs").add_class("eqprop-live")
        for choose in self._lists:
            choose.observe(lambda _: self._compare(), names="value")
        self.refresh()

    def refresh(self) -> None:
        """Read the store; the latest two runs are chosen, unless the reader has chosen others."""
        labels, broken = self._read()
        kept = [choose.value for choose in self._lists]
        latest = [*labels.values()][-2:]
        pair = latest[:1] + latest[-1:] if latest else [None, None]
        self._reading = True
        for choose, before, new in zip(self._lists, kept, pair, strict=True):
            choose.options = list(labels.items())
            choose.value = before if before in labels.values() and kept[0] != kept[1] else new
        self._reading = False
        lost = f" Cannot be read: {', '.join(broken)}." if broken else ""
        count = f"{len(labels)} runs." if labels else "No run yet: press Start in a tab."
        self._note.value = f'<span role="status">{html.escape(count + lost)}</span>'
        self._compare()

    def show(self, a: str, b: str) -> None:
        """Compare the runs with these ids. Raises RunError."""
        for choose, id in zip(self._lists, (a, b), strict=True):
            choose.value = self.store.get(id).id

    def _read(self) -> tuple[dict[str, str], list[str]]:
        """Label -> id of the latest runs, oldest first, and the ids of those that are damaged."""
        labels: dict[str, str] = {}
        broken = []
        for run in self.store.runs()[-LATEST:]:
            try:
                labels[label(run)] = run.id
            except (RunError, KeyError, TypeError) as error:
                broken.append(f"{run.id} ({safe_message(error)})")
        return labels, broken

    def _compare(self) -> None:
        if self._reading:
            return
        a, b = (choose.value for choose in self._lists)
        if a is None or b is None or a == b:
            self.alt = self.table = self._picture.value = self._settings.value = ""
            return
        try:
            found = compare(self.store.get(a), self.store.get(b))
        except RunError as error:
            self._picture.value, self._settings.value = alert_html(safe_message(error)), ""
            return
        self.table = found.table()
        self.alt = sentence(found)
        self._picture.value = image_html(picture(found), self.alt, _WIDTH)
        look = "overflow-x:auto;line-height:1.4"
        self._settings.value = f'<pre tabindex="0" style="{look}">{html.escape(self.table)}</pre>'


def picture(found: Comparison) -> bytes:
    """PNG of the curves that readers ask for first."""
    curves = {name: found.curves[name] for name in SHOWN if name in found.curves}
    with style_context():
        return encode_png(replace(found, curves=curves).figure(), 110)


def sentence(found: Comparison) -> str:
    """What the picture shows."""
    ends = [
        f"{name.replace('_', ' ')} {' and '.join(f'{by[i][1][-1]:.3g}' for i in by)}"
        for name, by in found.curves.items()
        if name in SHOWN
    ]
    return f"Curves of runs {' and '.join(found.ids)}, at the end: {', '.join(ends) or 'nothing'}."

"""The dashboard in a browser: how long until it is there, until an epoch is seen, until Stop acts.

    python -m tests.benchmarks.bench_dashboard

The floors hold on an idle machine: widgets 10 s after opening, a picture 0.5 s after an epoch, Stop
within 1 s. The load of the machine is printed beside the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.chromium import NoBrowser, launched
from tests.browser.dashboard_app import PAGE_MS, DashboardServer, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDGETS, PICTURE, STOP = 10.0, 0.5, 1.0
"""Floors, in seconds."""

# The dashboard of the application, and the moments at which its epochs ended.
CELL = """import json, time
import ipywidgets as widgets
from eqprop_lab.notebook.dashboard.visit import visitors_dashboard

board, moments, shown = visitors_dashboard(), [], widgets.HTML()
report = board.vision._worker.report

def noted(record):
    moments.append(time.time())
    report(record)
    shown.value = f'<span class="moments">{json.dumps(moments)}</span>'

board.vision._worker.report = noted
widgets.VBox([shown, board.widget])"""

_WATCH = """() => {
  const now = () => (performance.timeOrigin + performance.now()) / 1000;
  window.eqpropSeen = [];
  const note = () => {
    const alt = document.querySelector('.eqprop-cockpit img.eqprop-picture').alt;
    const said = (alt.match(/^Curves after (\\d+) /) || [])[1];
    const last = eqpropSeen[eqpropSeen.length - 1];
    if (said && (!last || last[0] !== said)) eqpropSeen.push([said, now()]);
  };
  const all = {subtree: true, childList: true, attributes: true};
  new MutationObserver(note).observe(document.querySelector('.eqprop-cockpit'), all);
}"""
_STOP = """() => new Promise((done, failed) => {
  const root = document.querySelector('.eqprop-cockpit'), began = performance.now();
  setTimeout(() => failed(new Error('no "Stopped" 60 s after Stop')), 60000);
  root.querySelector('.eqprop-stop').click();
  const look = () => [...root.querySelectorAll('[role=status]')].some(
    e => e.innerText.startsWith('Stopped')) ? done((performance.now() - began) / 1000)
    : requestAnimationFrame(look);
  look();
})"""


def write_app(folder: Path) -> Path:
    """A notebook whose one cell is CELL."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": CELL}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path = folder / "timed.ipynb"
    body = {"cells": [cell | {"execution_count": None}], "metadata": kernel}
    path.write_text(json.dumps(body | {"nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def measure(browser: Browser, folder: Path) -> dict[str, float]:
    """Seconds of each, the worst epoch, and the number of requests to other hosts."""
    with DashboardServer(folder, app=write_app(folder)) as server, Visit(browser, server.url) as at:
        at.page.evaluate(_WATCH)
        part = at.part()
        part.click("start")
        part.wait_for_alt("Curves after 10 of 10", PAGE_MS)
        ended = json.loads(at.page.locator(".moments").inner_text())
        seen = dict(at.page.evaluate("() => eqpropSeen"))
        late = [seen[str(n)] - moment for n, moment in enumerate(ended, 1) if str(n) in seen]
        part.root.locator(".eqprop-stop:disabled").wait_for()
        part.root.locator("select:enabled").last.wait_for()
        part.move_to_end("epochs")
        part.wait_for_alt("epochs 100,")
        part.click("start")
        # The picture still shows the ten epochs before; a disabled Stop would not hear the click.
        part.root.locator(".eqprop-stop:enabled").wait_for()
        stop = float(at.page.evaluate(_STOP))
        figures = {"widgets": at.seconds, "picture": max(late), "stop": stop}
        return figures | {"epochs seen": len(late), "foreign requests": len(at.foreign())}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print figures, floors and load; 1 where a floor is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.parse_args(arguments)
    try:
        with launched() as browser, tempfile.TemporaryDirectory() as folder:
            before = os.getloadavg()[0]
            found = measure(browser, Path(folder))
    except NoBrowser as reason:
        print(f"skipped: {reason}")
        return 0
    print(f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")
    floors = {"widgets": WIDGETS, "picture": PICTURE, "stop": STOP, "foreign requests": 0}
    for name, value in found.items():
        floor = f"  (at most {floors[name]:g})" if name in floors else ""
        print(f"{name:16} {value:6.2f}{floor}")
    return int(any(found[name] > floor for name, floor in floors.items()))


if __name__ == "__main__":
    sys.exit(main())

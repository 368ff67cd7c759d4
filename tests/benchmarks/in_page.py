"""Latencies as a reader has them: measured inside the page, from the key or click to the painted
answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.subjects import COCKPIT, explorer_cells
from tests.browser.chromium import launched
from tests.browser.lab import RUN_MS, OpenNotebook
from tests.browser.live import LivePart
from tests.browser.server import JupyterServer
from tests.browser.tiny import write_notebook

# From the event on, and until the page has painted after `answered(root)` became true.
_ARM = """([root, event, answered]) => {
  window.eqpropLatency = new Promise((resolve, reject) => {
    const there = new Function('root', 'before', 'look', 'return ' + answered);
    const look = picture => picture && picture.src + picture.alt;
    const before = look(root.querySelector('img.eqprop-picture'));
    let start = NaN;
    const began = () => { start = performance.now(); };
    document.addEventListener(event, began, {capture: true, once: true});
    const observer = new MutationObserver(async () => {
      if (!there(root, before, look)) return;
      observer.disconnect();
      await root.querySelector('img.eqprop-picture').decode();
      requestAnimationFrame(() => resolve((performance.now() - start) / 1000));
    });
    observer.observe(root, {subtree: true, childList: true, attributes: true, characterData: true});
    setTimeout(() => reject(new Error('no answer within 10 s of ' + event)), 10000);
  });
}"""
_REDRAWN = "(now => now && now !== before)(look(root.querySelector('img.eqprop-picture')))"
_STOPPED = "root.querySelector('[role=status]').innerText.startsWith('Stopped')"

Sample = tuple[str, str, list[float]]
"""Subject, what was moved, seconds of every repetition."""


def measure(project: Path, repeats: int) -> Iterator[Sample]:
    """Every slider of every explorer, then the cockpit's Stop. Raises NoBrowser without one."""
    cells = explorer_cells()
    with ExitStack() as stack:
        browser = stack.enter_context(launched())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eqprop_lab-bench-")))
        server = stack.enter_context(JupyterServer(folder, project))
        write_notebook(server.notebooks / "bench.ipynb", *cells.values(), COCKPIT)
        notebook = OpenNotebook(browser, server.url, "notebooks/bench.ipynb")
        stack.callback(notebook.close)
        run = notebook.run_all()
        if run.errors:
            raise RuntimeError(f"the benchmark's notebook failed: {run.errors}")
        *explorers, cockpit = notebook.live()
        for name, part in zip(cells, explorers, strict=True):
            for slider in range(part.sliders):
                yield _slider(notebook, name, part, slider, repeats)
        yield "TrainingCockpit", "Stop", [_stop(notebook, cockpit) for _ in range(repeats)]


def _slider(notebook: OpenNotebook, name: str, part: LivePart, slider: int, repeats: int) -> Sample:
    seconds = []
    for _ in range(repeats + 1):
        _arm(notebook, part, "keydown", _REDRAWN)
        # to the right, at the end to and fro: a slider of three steps has no more
        label = part.press(slider)
        seconds.append(_latency(notebook))
    # The first one warms up.
    return name, label, seconds[1:]


def _stop(notebook: OpenNotebook, cockpit: LivePart) -> float:
    cockpit.click("start")
    cockpit.wait_for_alt("Curves after", RUN_MS)
    _arm(notebook, cockpit, "click", _STOPPED)
    cockpit.click("stop")
    seconds = _latency(notebook)
    cockpit.click("reset")
    cockpit.wait_for_alt("no epoch is done yet")
    return seconds


def _arm(notebook: OpenNotebook, part: LivePart, event: str, answered: str) -> None:
    notebook.page.evaluate(_ARM, [part.root.element_handle(), event, answered])


def _latency(notebook: OpenNotebook) -> float:
    return float(notebook.page.evaluate("() => eqpropLatency"))

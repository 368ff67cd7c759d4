"""Latencies of explorers and cockpit: `python tests/benchmarks/bench_explorers.py [--repeats 15]
[--no-browser]`.

Prints a table and writes it to tests/benchmarks/results/explorers.json. Aims: 0.1 s from a key
press on a slider to the new picture in the browser, the same for `Explorer.set`, 1 s from Stop to
the end of the training.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Run as a program, Python looks for modules in this folder only.
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

import torch

from eqprop_lab.files import replace_text
from eqprop_lab.notebook import Choice, Explorer, Slider, TrainingCockpit
from tests.benchmarks import in_page
from tests.benchmarks.subjects import COCKPIT, explorer_cells, made_by
from tests.browser.chromium import NoBrowser

OUTPUT = ROOT / "tests" / "benchmarks" / "results" / "explorers.json"
REDRAW_AIM, STOP_AIM = 0.1, 1.0
PACKAGES = ("torch", "matplotlib", "ipywidgets", "ipykernel", "jupyterlab")


def redraws(explorer: Explorer, repeats: int) -> Iterator[tuple[str, list[float]]]:
    """(label, seconds of every `set`) for each slider, which goes one step to and fro, and for each
    list, which goes to its first other option.
    """
    for control in explorer.make_controls():
        here = explorer.values[control.name]
        if isinstance(control, Slider):
            step = control.step if not control.log else here * (10**control.step - 1)
            there = here - step if here + step > control.high else here + step
        elif isinstance(control, Choice) and len(control.options) > 1:
            there = next(option for option in control.options if option != here)
        else:
            continue
        seconds = []
        for i in range(repeats + 1):
            start = time.perf_counter()
            explorer.set(**{control.name: there if i % 2 == 0 else here})
            seconds.append(time.perf_counter() - start)
        explorer.set(**{control.name: here})
        # The first one warms up.
        yield control.label, seconds[1:]


def stops(cockpit: TrainingCockpit, repeats: int) -> list[float]:
    """Seconds from `stop()` in the middle of an epoch to the end of the worker, run by run."""
    seconds = []
    for _ in range(repeats):
        cockpit.start()
        while not cockpit.history and cockpit.status == "running":
            time.sleep(0.01)
        start = time.perf_counter()
        cockpit.stop()
        if not cockpit.wait(60):
            raise RuntimeError("the training did not end within 60 s of Stop")
        seconds.append(time.perf_counter() - start)
        cockpit.reset()
    return seconds


def row(where: str, subject: str, what: str, seconds: list[float]) -> dict[str, Any]:
    """Median and 90 % point of one measurement, with its aim."""
    return {
        "where": where,
        "subject": subject,
        "what": what,
        "repeats": len(seconds),
        "median_s": round(statistics.median(seconds), 4),
        "p90_s": round(sorted(seconds)[max(0, -(-9 * len(seconds) // 10) - 1)], 4),
        "aim_s": STOP_AIM if what == "Stop" else REDRAW_AIM,
    }


def measure(repeats: int, browser: bool) -> Iterator[dict[str, Any]]:
    """All rows: headless first, then in the browser. Raises NoBrowser where there is none."""
    for name, cell in explorer_cells().items():
        for what, seconds in redraws(made_by(cell), repeats):
            yield row("set()", name, what, seconds)
    yield row("stop()", "TrainingCockpit", "Stop", stops(made_by(COCKPIT), repeats))
    if browser:
        for name, what, seconds in in_page.measure(ROOT, repeats):
            yield row("browser", name, what, seconds)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; 0 whether or not the aims are met: they are aims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--no-browser", action="store_true", help="only what needs no browser")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: at least 1 is needed")
    torch.set_num_threads(1)
    # A busy machine makes every figure worse: the load says whether these can be compared with
    # others.
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    rows = []
    print(f"{'where':8} {'subject':18} {'what':34} {'median':>8} {'90 %':>8} {'aim':>6}")
    try:
        for found in measure(options.repeats, not options.no_browser):
            rows.append(found)
            verdict = "" if found["median_s"] <= found["aim_s"] else "  over"
            print(
                f"{found['where']:8} {found['subject']:18} {found['what']:34} "
                f"{found['median_s']:7.3f}s {found['p90_s']:7.3f}s {found['aim_s']:5.1f}s{verdict}",
                flush=True,
            )
    except NoBrowser as reason:
        print(f"not measured in a browser: {reason}")
    result = {
        "date": date.today().isoformat(),
        "device": "CPU",
        "cores": os.cpu_count(),
        "load_before": load,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "rows": rows,
    }
    replace_text(options.output, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Recorded numbers against `tests/regression/baseline.json`.

    {notebook: {metric: {value, kind, tol, seeds, sd, source}}}

notebook: the name in `notebooks/`, elsewhere the path in the project, without the ending.

| kind  | passes when                                                    |
|-------|----------------------------------------------------------------|
| exact | v = value                                                      |
| abs   | abs(v - value) <= tol                                          |
| rel   | abs(v - value) <= tol abs(value)                               |
| min   | v >= value - tol                                               |
| max   | v <= value + tol                                               |
| order | abs(log10(v / value)) <= tol: the order of magnitude, tol = 1  |

An entry with source "theory" (cosine 1, slope 2) is written by hand and never re-baselined;
neither are the kinds exact, min, max and order.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eqprop_lab.files import replace_text
from eqprop_lab.regression.outputs import is_finite
from eqprop_lab.validation import shown

# What passes, in a recorded number, the value of the entry and its tolerance.
KINDS: dict[str, Callable[[float, float, float], bool]] = {
    "exact": lambda number, value, tol: number == value,
    "abs": lambda number, value, tol: abs(number - value) <= tol,
    "rel": lambda number, value, tol: abs(number - value) <= tol * abs(value),
    "min": lambda number, value, tol: number >= value - tol,
    "max": lambda number, value, tol: number <= value + tol,
    "order": lambda number, value, tol: (
        number * value > 0 and abs(math.log10(number / value)) <= tol
    ),
}
MEASURED_KINDS = ("abs", "rel")
MIN_SEEDS = 5
Entry = dict[str, Any]
Baseline = dict[str, dict[str, Entry]]


class BaselineError(ValueError):
    """A baseline file that cannot be used: not JSON, or an entry with a wrong field."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is there twice")
    return dict(pairs)


def read_baseline(path: Path) -> Baseline:
    """The baseline as it stands, entries unchecked (`entry_problems`); no file is an empty one.

    Raises BaselineError for a file that holds no {notebook: ...} at all.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise BaselineError(f"{path.name}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BaselineError(
            f"{path.name}: expected {{notebook: {{metric: entry}}}}, got {type(content).__name__}"
        )
    return content


def entry_problems(notebook: str, entries: Any) -> list[str]:
    """What is wrong with the baseline of one notebook, a line a field; empty when nothing is."""
    if not isinstance(entries, dict):
        return [f"baseline: {notebook} must be {{metric: entry}}, got {shown(entries)}"]
    return [
        f"baseline: {notebook}.{metric}: {line}"
        for metric, entry in entries.items()
        for line in _wrong(entry)
    ]


def _wrong(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"an entry must be {{value, kind, tol}}, got {shown(entry)}"
        return
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        yield f"kind must be one of {', '.join(KINDS)}, got {shown(kind)}"
    for field, default in (("value", None), ("tol", 0.0), ("floor", 0.0)):
        number = entry.get(field, default)
        if not is_finite(number):
            yield f"{field} must be a finite number, got {shown(number)}"
        elif field != "value" and number < 0:
            yield f"{field} must not be below 0, got {number!r}"
    if kind in MEASURED_KINDS and "tol" not in entry:
        yield f"kind {kind!r} needs a tol"


def within(entry: Mapping[str, Any], number: float) -> bool:
    """True when `number` passes the entry (table of this module). NaN never passes."""
    kind = entry["kind"]
    tol = float(entry.get("tol", 1.0 if kind == "order" else 0.0))
    return KINDS[kind](number, float(entry["value"]), tol)


def compare(
    metrics: Mapping[str, float], entries: Mapping[str, Entry], values: bool = True
) -> list[str]:
    """Problems of the metrics of one notebook: missing, extra and, where `values`, off."""
    missing = [f"metric {name!r} is missing" for name in entries if name not in metrics]
    extra = [f"metric {name!r} is not in the baseline" for name in metrics if name not in entries]
    wrong = [
        f"metric {name!r} = {metrics[name]:.6g}, expected {entry['kind']} {entry['value']:.6g} "
        f"(tol {entry.get('tol', 0):.3g}, source {entry.get('source', 'unknown')})"
        for name, entry in entries.items()
        if values and name in metrics and not within(entry, metrics[name])
    ]
    return missing + extra + wrong


def measured_entry(numbers: Sequence[float], seeds: Sequence[int], old: Entry | None) -> Entry:
    """The entry of a measured metric: value = mean, tol = max(4 sd, floor).

    For kind rel both are divided by |value|. The floor is the entry's own `floor`, else
    1e-3 |value| or 1e-9. A fixed entry (theory, exact, min, max, order) comes back unchanged.
    """
    if old is not None and (old.get("source") == "theory" or old["kind"] not in MEASURED_KINDS):
        return old
    value = statistics.fmean(numbers)
    sd = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    kind = old["kind"] if old is not None and value != 0 else "abs"
    scale = abs(value) if kind == "rel" else 1.0
    own = {"floor": float(old["floor"])} if old is not None and "floor" in old else {}
    floor = own.get("floor", max(1e-3 * abs(value), 1e-9) / scale)
    entry = {"value": value, "kind": kind, "tol": max(4 * sd / scale, floor), "seeds": list(seeds)}
    return entry | {"sd": sd, "source": "seeds"} | own


def rebaseline(
    baseline: Baseline, runs: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path
) -> list[str]:
    """Write measured entries from {notebook: {seed: metrics}} to `path`; a line a changed entry.

    Raises BaselineError for fewer than five seeds, and where seeds record different names.
    """
    lines: list[str] = []
    updated = dict(baseline)
    for notebook, by_seed in runs.items():
        if len(by_seed) < MIN_SEEDS:
            raise BaselineError(
                f"{notebook}: tolerances need at least {MIN_SEEDS} seeds, got {len(by_seed)}"
            )
        names = {frozenset(metrics) for metrics in by_seed.values()}
        if len(names) != 1:
            raise BaselineError(
                f"{notebook}: the seeds record different metrics: {sorted(map(sorted, names))}"
            )
        old = baseline.get(notebook, {})
        entries: dict[str, Entry] = {}
        for metric in next(iter(by_seed.values())):
            numbers = [metrics[metric] for metrics in by_seed.values()]
            new = measured_entry(numbers, list(by_seed), old.get(metric))
            entries[metric] = new
            if new != old.get(metric):
                lines.append(f"{notebook}.{metric}: {new['value']:.6g} +- {new['tol']:.3g}")
        lines += [f"{notebook}.{metric}: removed" for metric in old if metric not in entries]
        updated[notebook] = entries
    replace_text(path, json.dumps(updated, indent=2, sort_keys=True) + "\n")
    return lines

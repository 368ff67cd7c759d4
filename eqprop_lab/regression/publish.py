"""What is committed of a notebook, its cleaned copy and its figures, changed as one or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from eqprop_lab.regression.clean import CleanError, committed_copy, source_hash
from eqprop_lab.regression.execute import Job
from eqprop_lab.regression.folders import FolderError, locked
from eqprop_lab.regression.plan import Options, Plan
from eqprop_lab.regression.report import NotebookResult
from eqprop_lab.regression.swap import RECORD, recover, swap


class FigureError(ValueError):
    """An index of figures that cannot be used, or a figure that belongs to another notebook."""


def publish(result: NotebookResult, plan: Plan, job: Job, options: Options) -> None:
    """Rewrite the committed outputs and figures of a green notebook, or turn it red and say why."""
    executed = nbformat.read(job.output, as_version=4)
    try:
        copy = committed_copy(plan.source, executed, options.root)
        drawn = options.output / "figures" / job.key
        figures, names = figure_changes(drawn, options.root / "figures", result.notebook)
        if source_hash(nbformat.read(plan.path, as_version=4)) != source_hash(plan.source):
            raise CleanError("the notebook was edited during the run; run it again")
        swap({plan.path: (nbformat.writes(copy) + "\n").encode()} | figures, options.root)
    except (ValueError, OSError) as error:
        result.status = "failed"
        result.problems.append(f"not updated: {error}")
        return
    result.notes.append(f"committed outputs rewritten, {len(names)} figures")


@contextmanager
def committed(options: Options) -> Iterator[list[str]]:
    """Hold what is committed for a run that changes it; lines on what a killed run has left.

    Raises FolderError where another run is changing it.
    """
    place = options.root / "runs" / "update"
    if options.update or options.rebaseline:
        with locked(place, "run without --update"):
            yield recover(options.root)
        return
    lines: list[str] = []
    if (options.root / RECORD).exists():
        try:
            with locked(place, "run it again"):
                lines = recover(options.root)
        except FolderError as error:
            lines = [f"an update that was cut off is not yet undone: {error}"]
    yield lines


def read_index(folder: Path) -> dict[str, Any]:
    """`index.json` of a figures folder, {name: {caption, alt, notebook, ...}}; {} when absent.

    Raises FigureError for a file that is not that.
    """
    index = folder / "index.json"
    if not index.exists():
        return {}
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FigureError(
            f"{folder.name}/index.json is not JSON ({error}): restore it, or remove it"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(entry, dict) for entry in content.values()
    ):
        raise FigureError(
            f"{folder.name}/index.json must be {{figure: entry}}: restore it, or remove it"
        )
    return content


def figure_changes(
    source: Path, target: Path, notebook: str
) -> tuple[dict[Path, bytes | None], list[str]]:
    """What puts the figures of a notebook in place of its old ones: (changes for `swap`, names).

    Raises FigureError for a broken index and for a figure that is another notebook's; OSError for a
    missing picture.
    """
    drawn = read_index(source)
    index = read_index(target)
    entries = {name: entry for name, entry in drawn.items() if entry.get("notebook") == notebook}
    for name in entries:
        owner = index.get(name, {}).get("notebook", notebook)
        if owner != notebook or Path(name).name != name:
            raise FigureError(f"figure {name!r} belongs to {owner}: give it a name of its own")
    old = [name for name, entry in index.items() if entry.get("notebook") == notebook]
    if not entries and not old:
        return {}, []
    changes: dict[Path, bytes | None] = {target / file: None for file in _pictures(old)}
    changes |= {target / file: (source / file).read_bytes() for file in _pictures(entries)}
    index = {name: entry for name, entry in index.items() if name not in old} | entries
    text = json.dumps(index, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    changes[target / "index.json"] = text.encode()
    return changes, sorted(entries)


def _pictures(names: Iterable[str]) -> list[str]:
    return [f"{name}{kind}" for name in names for kind in (".png", ".svg")]

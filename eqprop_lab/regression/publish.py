"""The committed outputs of one notebook: its cleaned copy and its figures, changed as a whole or
not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from eqprop_lab.regression.clean import CleanError, committed_copy, source_hash
from eqprop_lab.regression.execute import Job
from eqprop_lab.regression.folders import FolderError, figure_changes, locked
from eqprop_lab.regression.plan import Options, Plan
from eqprop_lab.regression.report import NotebookResult
from eqprop_lab.regression.swap import RECORD, recover, swap


def publish(result: NotebookResult, plan: Plan, job: Job, options: Options) -> None:
    """Rewrite the committed outputs and figures of a green notebook; what may not be committed
    turns it red.
    """
    executed = nbformat.read(job.output, as_version=4)
    try:
        copy = committed_copy(plan.source, executed, options.root)
        changes: dict[Path, bytes | None] = {plan.path: (nbformat.writes(copy) + "\n").encode()}
        names: list[str] = []
        if job.figures is not None:
            figures, names = figure_changes(job.figures, options.root / "figures", result.notebook)
            changes |= figures
        if source_hash(nbformat.read(plan.path, as_version=4)) != source_hash(plan.source):
            raise CleanError("the notebook was edited during the run; run it again")
        swap(changes, options.root)
    except (ValueError, OSError) as error:
        result.status = "failed"
        result.problems.append(f"not updated: {error}")
        return
    result.notes.append(f"committed outputs rewritten, {len(names)} figures")


@contextmanager
def committed(options: Options) -> Iterator[list[str]]:
    """Hold what is committed for a run that changes it, and finish first what a killed run has
    left; lines on that.

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

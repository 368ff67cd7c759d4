"""Two runs beside each other, and one run against its own repetition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eqprop_lab.experiments.runs import Run, RunError, fingerprint, versions
from eqprop_lab.tables import text_table
from eqprop_lab.training.history import History
from eqprop_lab.training.state import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Train = Callable[[dict[str, Any]], tuple[Trainer, History]]
MISSING = "-"
STYLES = ("-", "--")
# Wall time is no result, and epoch is the axis.
NO_CURVES = ("seconds", "epoch", "estimator")


@dataclass(frozen=True)
class Difference:
    """A setting that differs: its dotted name and both values ("-" where it is not set)."""

    name: str
    a: Any
    b: Any


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """Settings of nested mappings that differ, in the order of `a`, then those only `b` has."""
    found: list[Difference] = []
    for key in dict.fromkeys((*a, *b)):
        name = f"{prefix}{key}"
        one = a.get(key, MISSING)
        two = b.get(key, MISSING)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += differences(one, two, f"{name}.")
        elif one != two:
            found.append(Difference(name, one, two))
    return found


@dataclass(frozen=True)
class Comparison:
    """Two runs: differing settings and versions.

    Curves by name, of each run that has them: (epochs, values).
    """

    ids: tuple[str, str]
    config: list[Difference]
    versions: list[Difference]
    curves: dict[str, dict[str, tuple[list[int], list[float]]]]

    def table(self) -> str:
        """Differences and last values as text."""
        last = [
            Difference(
                name, *(f"{by_run[i][1][-1]:.4g}" if i in by_run else MISSING for i in self.ids)
            )
            for name, by_run in self.curves.items()
        ]
        parts = {"settings": self.config, "versions": self.versions, "last epoch": last}
        rows = [(row.name, str(row.a), str(row.b)) for part in parts.values() for row in part]
        head, *lines = text_table([("", *self.ids), *rows])
        text = [head]
        for title, part in parts.items():
            text.append(f"-- {title}" + ("" if part else ": the same"))
            text += [lines.pop(0) for _ in part]
        return "\n".join(text)

    def figure(self) -> Figure:
        """The training curves laid over each other, one panel a curve, one line style a run."""
        from matplotlib.figure import Figure

        columns = min(3, max(1, len(self.curves)))
        rows = max(1, math.ceil(len(self.curves) / columns))
        figure = Figure(figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for axes, (name, by_run) in zip(panels, self.curves.items(), strict=False):
            for id, style in zip(self.ids, STYLES, strict=True):
                axes.plot(*by_run.get(id, ([], [])), style, label=id)
            axes.set(title=name.replace("_", " "), xlabel="epoch")
        for axes in list(figure.axes)[len(self.curves) :]:
            axes.set_axis_off()
        if self.curves:
            figure.axes[0].legend(fontsize="small")
        return figure


def compare(a: Run, b: Run) -> Comparison:
    """What differs between two runs, and their curves for one figure. Raises RunError."""
    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for run in (a, b):
        history = run.history
        for name, values in history.items():
            points = [
                (e, v)
                for e, v in zip(history["epoch"], values, strict=True)
                if isinstance(v, int | float)
            ]
            if name not in NO_CURVES and points:
                epochs, kept = zip(*points, strict=True)
                curves.setdefault(name, {})[run.id] = (list(epochs), list(kept))
    changed = differences(a.versions, b.versions)
    return Comparison((a.id, b.id), differences(a.config, b.config), changed, curves)


@dataclass(frozen=True)
class Reproduction:
    """A run against its repetition.

    curves: largest absolute difference by curve (inf where one has no number); parameters: whether
    every parameter and buffer is the same, bit for bit; versions: what has changed since.
    """

    id: str
    epochs: tuple[int, int]
    curves: dict[str, float]
    parameters: bool
    versions: list[Difference]

    @property
    def exact(self) -> bool:
        """Same epochs, same curves, same parameters."""
        return (
            self.parameters and self.epochs[0] == self.epochs[1] and not any(self.curves.values())
        )

    def summary(self) -> str:
        """The verdict and what it rests on, as text."""
        if self.exact:
            verdict = (
                f"run {self.id} reproduces exactly: {self.epochs[0]} epochs, "
                "every curve and every parameter"
            )
        else:
            worst = (
                ", ".join(f"{name} by {gap:.2g}" for name, gap in self.curves.items() if gap)
                or "none"
            )
            verdict = (
                f"run {self.id} does not reproduce: {self.epochs[0]} epochs stored, "
                f"{self.epochs[1]} now; parameters {'equal' if self.parameters else 'differ'}; "
                f"curves that differ: {worst}"
            )
        changed = [f"  {d.name}: {d.a} then, {d.b} now" for d in self.versions]
        return "\n".join(
            [verdict, *(["versions have changed:", *changed] if changed else ["same versions"])]
        )


def rerun(run: Run, train: Train) -> Reproduction:
    """Train again from the stored config and compare; the run itself is not touched.

    train: config -> (trainer, history), the function that made the run: for one of an experiment
        file `config.train_from_config`. On the same versions,
    processor and number of threads a CPU gives the same bits. Raises RunError for a run without
    finished epochs, and what `train` raises.
    """
    stored = run.history
    digest = run.parameters
    if not stored.epochs:
        raise RunError(f"run {run.id} has no finished epoch to compare with")
    trainer, history = train(run.config)
    names = [name for name in dict.fromkeys((*stored, *history)) if name not in NO_CURVES]
    gaps = {name: _gap(stored.get(name, []), history.get(name, [])) for name in names}
    same = fingerprint(trainer.model) == digest
    changed = differences(run.versions, versions())
    return Reproduction(run.id, (stored.epochs, history.epochs), gaps, same, changed)


def _gap(a: list[Any], b: list[Any]) -> float:
    """Largest |a - b| over the common epochs.

    nan, and None in its place in a file, are no numbers but the same.
    """
    if not a or not b:
        return math.inf
    worst = 0.0
    for one, two in zip(a, b, strict=False):
        known = [v for v in (one, two) if v is not None and math.isfinite(v)]
        if len(known) == 1:
            return math.inf
        worst = max(worst, abs(one - two)) if known else worst
    return worst

"""Explorer: a learning rule at work on a small task, its loss and its angle to the gradient, live.

cos(g_l, g_l*) of every matrix below the readout: g_l what the rule gives, g_l* the exact gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from eqprop_lab.algorithms.bioplausible import BioplausibleModel, list_algorithms
from eqprop_lab.datasets import build_dataset
from eqprop_lab.instruments.alignment import hidden_cosines
from eqprop_lab.notebook.background import TrainingWorker
from eqprop_lab.notebook.controls import Choice, Control, Slider
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, line, panels, titled
from eqprop_lab.notebook.style import MARKERS, NEUTRAL, PALETTE
from eqprop_lab.notebook.working import WorkingExplorer

WIDTHS = (32, 24, 16)
STEPS, EVERY = 150, 5
BATCH, PROBE = 32, 64
Key = tuple[str, int, float]
Task = tuple[Tensor, Tensor]


@dataclass
class Learned:
    """What was seen of one training, a point every few steps."""

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    cosines: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Beside:
    """The training of the present values, and those that were made before it."""

    key: Key
    run: Learned
    others: dict[Key, Learned]


class RulePicker(WorkingExplorer):
    """Train trains the rule that is picked, in a thread; a training that was made is kept and shown
    again.

    Args:
        task: (x (N, D), y (N,)) to learn; None: 256 digits. steps: of a training.
        **values: start values of algorithm, depth (hidden layers) and learning_rate.
    """

    title = "A learning rule at work: loss and angle to the gradient"
    size = (7.6, 3.3)
    begin = "Train", "Train this rule from new weights"
    end = "End the training"
    done = "Trained"

    def __init__(self, task: Task | None = None, steps: int = STEPS, **values: Any) -> None:
        self.task = digits() if task is None else task
        self.steps = steps
        self.runs: dict[Key, Learned] = {}
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        names = tuple(list_algorithms())
        return (
            Choice("algorithm", names, "feedback_alignment", "Rule"),
            Slider("depth", 1, len(WIDTHS), 2, 1, "Hidden layers"),
            Slider("learning_rate", 1e-3, 0.03, 3e-3, 0.25, "Learning rate", log=True),
        )

    def work(self, worker: TrainingWorker, **values: Any) -> None:
        name, depth, rate = key = key_of(**values)
        run = self.runs[key] = Learned()
        for step, loss, cosines in trained(name, depth, rate, self.task, self.steps):
            worker.checkpoint()
            run.steps.append(step)
            run.loss.append(loss)
            run.cosines.append(cosines)
            worker.message = f"{name}: step {step} of {self.steps}, loss {loss:.3f}."
            self.redraw()

    def whose(self, **values: Any) -> str:
        name, depth, rate = key_of(**values)
        return f": {name}, {depth} hidden layers, learning rate {rate:.2g}."

    def compute(self, algorithm: str, depth: int, learning_rate: float) -> Beside:
        key = key_of(algorithm, depth, learning_rate)
        others = {other: run for other, run in self.runs.items() if other != key}
        return Beside(key, self.runs.get(key, Learned()), others)

    def build(self, figure: Figure) -> Sequence[Show]:
        left, right = panels(figure, "AB", (0.6, 0.15, 0.85, 0.3), wspace=0.3)
        left.set(xlim=(0, self.steps), ylim=(0, 2.6), xlabel="step")
        left.set_ylabel("loss of a batch", labelpad=1)
        right.set(xlim=(0, self.steps), ylim=(-0.25, 1.05), xlabel="step")
        right.set_ylabel("cosine with the gradient", labelpad=1)
        right.axhline(0.0, **REFERENCE)
        right.axhline(1.0, **REFERENCE)
        others = [line(left, "-", color=NEUTRAL, linewidth=0.8) for _ in range(6)]
        others[0].set_label("trained before")
        loss = line(left, "-", color=PALETTE[1], linewidth=2.2, label="this rule")
        layers = [
            line(
                right, "-", color=PALETTE[i], marker=MARKERS[i], markersize=4, label=f"$W_{i + 1}$"
            )
            for i in range(len(WIDTHS))
        ]
        figure.legend(handles=[loss, others[0], *layers], loc="lower center", ncols=5)

        def show(data: Beside) -> None:
            name, depth, rate = data.key
            titled(left, name)
            titled(right, f"{depth} hidden, rate {rate:.2g}")
            loss.set_data(data.run.steps, data.run.loss)
            kept = [*data.others.values()][-len(others) :]
            for number, grey in enumerate(others):
                run = kept[number] if number < len(kept) else Learned()
                grey.set_data(run.steps, run.loss)
            for number, curve in enumerate(layers):
                seen = [c[number] if number < len(c) else math.nan for c in data.run.cosines]
                curve.set_data(data.run.steps, seen)

        return [show]

    def describe(self, data: Beside, **values: Any) -> str:
        name, depth, rate = data.key
        said = f"{name}, {depth} hidden layers, learning rate {rate:.3g}"
        if not data.run.steps:
            return f"{said}: not trained yet. {len(data.others)} other trainings are kept."
        at = ", ".join(f"{c:.2f}" for c in data.run.cosines[-1])
        text = f"{said}: loss {data.run.loss[-1]:.3f} at step {data.run.steps[-1]}, cosines of its "
        return f"{text}weights with the exact gradient {at}. {len(data.others)} others are kept."


def key_of(algorithm: str, depth: int, learning_rate: float) -> Key:
    """What tells a training from others."""
    return algorithm, depth, round(learning_rate, 6)


def digits() -> Task:
    """256 digits as vectors."""
    train = build_dataset("digits").train
    return train.x[:256].flatten(1), train.y[:256]


def trained(name: str, depth: int, rate: float, task: Task, steps: int) -> Any:
    """(step, loss, cosines) every few steps of a training."""
    x, y = task
    classes = int(y.max()) + 1
    model = BioplausibleModel(
        name, x.shape[1], widths_of(name, depth), classes, seed=0, learning_rate=rate
    )
    order = torch.Generator(device="cpu").manual_seed(0)
    for step in range(1, steps + 1):
        rows = torch.randint(len(y), (BATCH,), generator=order, device="cpu")
        if step == 1 or step % EVERY == 0:
            # of the weights that lead up: lateral ones stand behind them
            cosines = hidden_cosines(model, x[:PROBE], y[:PROBE])[:depth]
            loss = model.train_step(x[rows], y[rows])["loss"]
            yield step, loss, cosines
        else:
            model.train_step(x[rows], y[rows])


def widths_of(name: str, depth: int) -> list[int]:
    """Hidden layers of the small network; eq_align settles as one."""
    return [*WIDTHS[: 1 if name == "eq_align" else depth]]

"""Explorer: a chain of equilibrium blocks, how far off each gets its gradient and what is kept.

    weights   |g_k - g_k*| / |g_k*|,   g_k the estimate of all parameters of block k
    message   |v_k - v_k*| / |v_k*|,   v_k = dL/ds of what block k hands on

g*, v*: autograd through every step of every block. Memory: tensors alive at the peak of a gradient,
measured at two short runs; from four steps on both ways of taking it are affine in the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from eqprop_lab.equilibrium.block import reporting
from eqprop_lab.instruments.live_bytes import MemoryTimeline
from eqprop_lab.models.equilibrium_chain import EquilibriumChain
from eqprop_lab.notebook.controls import Choice, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.explorers.small_networks import digits, relative_error
from eqprop_lab.notebook.moving_axes import Show, decades, limit, line, panels, round_limits, titled
from eqprop_lab.notebook.style import PALETTE

WIDTH, DIGITS, MOST, LONGEST = 24, 16, 6, 40
SETTLED = 80  # steps after which nothing moves in float64
LIMITS = (1e-12, 10.0)
MEASURED = (4, 8)  # steps of the runs whose memory is measured; from here on it is affine
ESTIMATORS = ("centered", "one_sided", "holomorphic", "response")
KIB = 1024


@lru_cache(maxsize=MOST)
def network(blocks: int) -> EquilibriumChain:
    """An untrained chain of so many blocks for the digits, in float64."""
    return EquilibriumChain(64, WIDTH, 10, blocks, seed=0).double()


def joined(chain: EquilibriumChain, through: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """What each block hands on, the logits last; through: (number of a block, input) -> output."""
    passed = [digits(DIGITS)[0]]
    for number in range(chain.num_blocks):
        passed.append(through(number, passed[-1]))
    return passed[1:]


def unrolled(chain: EquilibriumChain, steps: int) -> list[Tensor]:
    """The same with so many steps of every block in autograd's graph."""

    def through(number: int, x: Tensor) -> Tensor:
        model = chain.models()[number]
        with model.frozen_weights():
            drive = model.drive(x)
            state = model.initial_state(drive)
            for _ in range(steps):
                state = model.step(state, drive)
            return model.readout(state)

    return joined(chain, through)


def settled(chain: EquilibriumChain, estimator: str, beta: float, steps: int) -> list[Tensor]:
    """The same with the blocks' own estimator, both phases of so many steps."""
    for block in chain.blocks:
        block.use(estimator, beta, free_steps=steps, nudged_steps=steps)  # type: ignore[operator]
    return joined(chain, lambda number, x: chain.blocks[number](x))


def gradients(
    chain: EquilibriumChain, passed: list[Tensor]
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """(of the parameters, block by block; of what each block hands on)."""
    loss = torch.nn.functional.cross_entropy(passed[-1], digits(DIGITS)[1])
    groups = [list(block.parameters()) for block in chain.blocks]
    flat = [p for group in groups for p in group]
    found = list(torch.autograd.grad(loss, [*flat, *passed]))
    messages = found[len(flat) :]
    return [[found.pop(0) for _ in group] for group in groups], messages


@lru_cache(maxsize=MOST)
def exact(blocks: int) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Autograd through everything, settled."""
    chain = network(blocks)
    return gradients(chain, unrolled(chain, SETTLED))


def _passed(chain: EquilibriumChain, estimator: str | None, steps: int) -> list[Tensor]:
    if estimator is None:
        return unrolled(chain, steps)
    return settled(chain, estimator, 0.1, steps)


@lru_cache(maxsize=32)
def peaks(blocks: int, estimator: str | None) -> tuple[float, float]:
    """KiB at the peak of a gradient after MEASURED steps, without the weights; None: unrolled."""
    chain, found = network(blocks), list[float]()
    parameters, data = list(chain.parameters()), digits(DIGITS)
    held = sum(t.nbytes for t in (*parameters, *data))
    exact(blocks)  # the first gradient of a network leaves more behind than any later one
    for steps in MEASURED:
        with reporting(lambda told: None), MemoryTimeline([parameters, *data]) as timeline:
            gradients(chain, _passed(chain, estimator, steps))
        found.append((timeline.peak - held) / KIB)
    return found[0], found[1]


def kept_after(steps: int, measured: tuple[float, float]) -> float:
    """KiB after so many steps, on the straight line through what was measured."""
    (first, last), (low, high) = MEASURED, measured
    return low + (high - low) * (steps - first) / (last - first)


@dataclass(frozen=True)
class Chained:
    """weights, messages (K,): relative error of each block, from the input; total: of all
    parameters. eqprop, autograd: KiB at the peak after MEASURED steps, and here.
    """

    weights: np.ndarray
    messages: np.ndarray
    total: float
    eqprop: tuple[float, float]
    autograd: tuple[float, float]
    steps: int

    def here(self, measured: tuple[float, float]) -> float:
        """KiB after `steps`."""
        return kept_after(self.steps, measured)


class ChainOfBlocks(Explorer):
    """A few digits, an untrained chain: the error of each block, and what a gradient keeps."""

    title = "A chain of blocks: errors of the gradient, and what is kept for it"
    size = (7.4, 3.5)
    controls = (
        Slider("blocks", 1, MOST, 3, 1, "Blocks of two layers"),
        Slider("beta", 0.001, 1.0, 0.05, 0.1, "Nudging strength beta", log=True),
        Slider("steps", MEASURED[0], LONGEST, 20, 1, "Steps of either phase"),
        Choice("estimator", ESTIMATORS, ESTIMATORS[0], "Estimator inside the blocks"),
    )

    def __init__(self, **values: Any) -> None:
        # what takes longer than a slider may wait for
        for blocks in range(1, MOST + 1):
            peaks(blocks, ESTIMATORS[0])
            peaks(blocks, None)
        super().__init__(**values)

    def compute(self, blocks: int, beta: float, steps: int, estimator: str) -> Chained:
        chain = network(blocks)
        with reporting(lambda told: None):
            found, messages = gradients(chain, settled(chain, estimator, beta, steps))
        wanted, true = exact(blocks)
        return Chained(
            np.array([relative_error(f, w) for f, w in zip(found, wanted, strict=True)]),
            np.array([relative_error([f], [w]) for f, w in zip(messages, true, strict=True)]),
            relative_error(sum(found, []), sum(wanted, [])),
            peaks(blocks, estimator),
            peaks(blocks, None),
            steps,
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        left, right = panels(figure, "AB", (0.65, 0.15, 0.85, 0.3), wspace=0.3)
        return [_errors(figure, left), _memory(figure, right)]

    def describe(self, data: Chained, **values: Any) -> str:
        worst = int(data.weights.argmax())
        nudge = "" if values["estimator"] == "response" else f" at beta {values['beta']:.3g}"
        return (
            f"Relative error of the {values['estimator']} gradient{nudge} after "
            f"{values['steps']} steps: {data.total:.1e} over all parameters of "
            f"{len(data.weights)} block(s), {data.weights[worst]:.1e} in the worst, number "
            f"{worst + 1} from the input. Kept at the peak: {data.here(data.eqprop):.0f} KiB, by "
            f"autograd through all steps {data.here(data.autograd):.0f} KiB; measured at "
            f"{MEASURED[0]} and {MEASURED[1]} steps."
        )


def _errors(figure: Figure, axes: Axes) -> Show:
    """Errors against the number of the block."""
    axes.set(yscale="log", ylim=LIMITS, xlim=(0.5, MOST + 0.5), xlabel="block, from the input")
    decades(axes.yaxis, -12, 0, every=3)
    axes.set_xticks(range(1, MOST + 1))
    weights = line(axes, "-", color=PALETTE[0], marker="o", markersize=5, label="its weights")
    message = line(axes, "--", color=PALETTE[1], marker="s", markersize=5, label="message to it")
    figure.legend(handles=[weights, message], loc="lower left", ncols=2)

    def show(data: Chained) -> None:
        titled(axes, f"Error of the gradient: {data.total:.1e}")
        numbers = np.arange(1, len(data.weights) + 1)
        weights.set_data(numbers, np.clip(data.weights, *LIMITS))
        message.set_data(numbers, np.clip(data.messages, *LIMITS))

    return show


def _memory(figure: Figure, axes: Axes) -> Show:
    """Memory against steps, both ways, and where the slider stands."""
    axes.set(xlim=(MEASURED[0], LONGEST), xlabel="steps", ylabel="KiB at the peak")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    ends = (MEASURED[0], LONGEST)
    eqprop = line(axes, "-", color=PALETTE[0], label="EqProp inside")
    autograd = line(axes, "--", color=PALETTE[2], label="autograd through all")
    here = line(axes, "o", color=PALETTE[1], markersize=8, clip_on=False)
    figure.legend(handles=[eqprop, autograd], loc="lower right", ncols=2)

    def show(data: Chained) -> None:
        pairs = ((eqprop, data.eqprop), (autograd, data.autograd))
        for curve, measured in pairs:
            curve.set_data(ends, [kept_after(steps, measured) for steps in ends])
        highest = max(kept_after(LONGEST, measured) for _, measured in pairs)
        limit(axes, "ylim", (0.0, round_limits([0.0, highest])[1]))
        titled(axes, "Kept for it, without weights")
        here.set_data([data.steps] * 2, [data.here(measured) for _, measured in pairs])

    return show

"""The hard network as a list of parts: comparators, tables, and what each class counts.

    bit = x_feature > threshold,    y = entries >> address & 1,    z_k = offset_k + sum of outputs

What a chip is made of; layers, nodes and their kinds are forgotten. Signals are numbered:
comparators first, then tables, each of which reads signals before it. Values of a signal for N
samples are one Python integer of N bits, sample 0 the lowest: exact, and no library is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eqprop_lab.lut.feedforward import SimpleFeedForward, hard_layers
from eqprop_lab.lut.packed import feature_rows
from eqprop_lab.validation import positive_int


@dataclass(frozen=True)
class Comparator:
    """x[feature] > threshold, a float32 number; infinite: a constant."""

    feature: int
    threshold: float


@dataclass(frozen=True)
class Table:
    """Bit `address` of `entries`; pins are signals, the lowest bit of the address first."""

    pins: tuple[int, ...]
    entries: int


def looked_up(table: int, pins: Sequence[int], ones: int) -> int:
    """Entries of a table for all samples: pins as bits of samples, ones the samples there are.

    t <- t_0 ^ ((t_0 ^ t_1) & pin)        pin after pin, the lowest first
    """
    found = [ones if table >> k & 1 else 0 for k in range(2 ** len(pins))]
    for pin in pins:
        pairs = zip(found[::2], found[1::2], strict=True)
        found = [zero ^ ((zero ^ one) & pin) for zero, one in pairs]
    return found[0]


def as_bits(column: NDArray[np.bool_]) -> int:
    """Truth values of N samples as the bits of an integer."""
    return int.from_bytes(np.packbits(column, bitorder="little").tobytes(), "little")


def as_column(bits: int, samples: int) -> NDArray[np.uint8]:
    """The bits of an integer as 0 and 1, (samples,)."""
    raw = np.frombuffer(bits.to_bytes(-(-samples // 8), "little"), np.uint8)
    return np.unpackbits(raw, count=samples, bitorder="little")


@dataclass(frozen=True)
class Netlist:
    """A network of comparators and tables for `features` inputs.

    outputs: the signals that each class counts. offsets: what each class counts beside them.
    """

    features: int
    comparators: tuple[Comparator, ...]
    tables: tuple[Table, ...]
    outputs: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]

    @property
    def pins(self) -> int:
        """Of all tables together."""
        return sum(len(table.pins) for table in self.tables)

    @property
    def lut6(self) -> int:
        """6-input tables of an FPGA: 2^(n - 6) for n > 6 pins, else one, for constants none."""
        return sum(2 ** max(0, len(table.pins) - 6) for table in self.tables if table.pins)

    @property
    def depth(self) -> int:
        """Tables on the longest way from a comparator to an output."""
        found = [0] * len(self.comparators)
        for table in self.tables:
            found.append(1 + max((found[pin] for pin in table.pins), default=-1))
        return max((found[signal] for part in self.outputs for signal in part), default=0)

    def rows(self, x: ArrayLike) -> NDArray[np.float32]:
        """x as (N, features) float32. Raises ValueError for another width, or NaN and infinity."""
        return feature_rows(x, self.features, np.float32)

    def signals(self, x: ArrayLike) -> list[int]:
        """Bits of all samples for every signal. x (N, features)."""
        rows = self.rows(x)
        columns, ones = np.ascontiguousarray(rows.T), 2 ** len(rows) - 1
        found = [as_bits(columns[c.feature] > np.float32(c.threshold)) for c in self.comparators]
        for table in self.tables:
            found.append(looked_up(table.entries, [found[pin] for pin in table.pins], ones))
        return found

    def counts(self, x: ArrayLike) -> NDArray[np.int64]:
        """How much each class counts, (N, classes)."""
        samples = len(self.rows(x))
        return self.counted(self.signals(x), samples)

    def counted(self, signals: Sequence[int], samples: int) -> NDArray[np.int64]:
        """`counts` of signals that are there already."""
        found = np.zeros((len(self.outputs), samples), np.int64)
        for row, part, offset in zip(found, self.outputs, self.offsets, strict=True):
            row += offset
            for signal in part:
                row += as_column(signals[signal], samples)
        return found.T


def netlist_of(model: SimpleFeedForward) -> Netlist:
    """The parts of a fitted network, node for node and threshold for threshold.

    Raises TypeError for another kind of model, RuntimeError for one that is not fitted.
    """
    layers, comparators = hard_layers(model), _comparators(model)
    tables: list[Table] = []
    start = 0  # the first signal of the layer below
    for index, truth in layers:
        reads = index.t().long() + start
        start = len(comparators) + len(tables)
        for pins, row in zip(reads.tolist(), truth.numpy(), strict=True):
            tables.append(Table(tuple(pins), as_bits(row)))
    width = len(comparators) + len(tables) - start
    parts = np.array_split(np.arange(start, start + width), model.head.classes)
    outputs = tuple(tuple(part.tolist()) for part in parts)
    return Netlist(model.encoder.features, comparators, tuple(tables), outputs, (0,) * len(outputs))


def _comparators(model: SimpleFeedForward) -> tuple[Comparator, ...]:
    """Feature by feature, the lowest threshold first.

    An input that is clipped to a range is above every threshold below it, and above none at its
    upper end.
    """
    encoder = model.encoder
    shape = (encoder.features, encoder.num_bits)
    numbers = (part.cpu().double() for part in (encoder.thresholds, encoder.low, encoder.high))
    level, low, high = (np.broadcast_to(part.numpy(), shape) for part in numbers)
    if encoder.clip_inputs:
        level = np.where(level < low, -np.inf, np.where(level >= high, np.inf, level))
    near = level.astype(np.float32)
    # a float32 x is above a float64 threshold where it is above the float32 number below that
    exact = np.where(near > level, np.nextafter(near, np.float32(-np.inf)), near)
    return tuple(
        Comparator(feature, float(one)) for feature, row in enumerate(exact) for one in row
    )


def on_grid(netlist: Netlist, levels: int) -> Netlist:
    """The same network for inputs k / levels, k = 0 .. levels, and for no others.

    A threshold becomes the largest such input that is not above it: different thresholds between
    two inputs are one comparator then. Below all inputs or above, it is infinite.
    """
    grid = np.arange(positive_int("levels", levels) + 1, dtype=np.float32) / np.float32(levels)
    comparators = tuple(
        Comparator(c.feature, _on(grid, np.float32(c.threshold))) for c in netlist.comparators
    )
    return replace(netlist, comparators=comparators)


def _on(grid: NDArray[np.float32], threshold: np.float32) -> float:
    below = int((grid <= threshold).sum())
    if below == 0:
        return -math.inf
    return math.inf if below == len(grid) else float(grid[below - 1])

"""What a wrong bit in a table does to the answers.

    flipped(netlist, rate)          every entry turned with that probability
    fault_effects(netlist, x, ...)  one entry at a time: how many answers change, exactly

A configuration memory that is hit by a particle holds such bits. One fault is followed from its
table upwards, only where it changes something.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from heapq import heappop, heappush

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eqprop_lab.lut.netlist import Netlist, Table, as_column, looked_up
from eqprop_lab.validation import a_seed, integer, real


def flipped(netlist: Netlist, rate: float, seed: int = 0) -> Netlist:
    """The network with every entry turned with probability `rate` in [0, 1]."""
    rate = real("rate", rate, at_least=0.0, at_most=1.0)
    generator = np.random.default_rng(a_seed("seed", seed))
    tables = []
    for table in netlist.tables:
        hit = generator.random(2 ** len(table.pins)) < rate
        turned = sum(1 << int(place) for place in np.flatnonzero(hit))
        tables.append(Table(table.pins, table.entries ^ turned))
    return replace(netlist, tables=tuple(tables))


def fault_effects(
    netlist: Netlist, x: ArrayLike, faults: Iterable[tuple[int, int]]
) -> NDArray[np.int64]:
    """For every fault (table, address) by itself: samples of x (N, features) that are answered
    otherwise.

    The answer is the class that counts most, the first of equals. Raises ValueError for a table or
    an address that there is not.
    """
    follow = _Follow(netlist, x)
    return np.array([follow.changed(*fault) for fault in faults], np.int64)


class _Follow:
    """All signals without a fault, and who reads them."""

    def __init__(self, netlist: Netlist, x: ArrayLike) -> None:
        self.netlist = netlist
        self.samples = len(netlist.rows(x))
        self.ones = 2**self.samples - 1
        self.signals = netlist.signals(x)
        self.first = len(netlist.comparators)
        self.counts = netlist.counted(self.signals, self.samples)
        self.labels = self.counts.argmax(1)
        self.readers: list[set[int]] = [set() for _ in self.signals]
        for number, table in enumerate(netlist.tables):
            for pin in table.pins:
                self.readers[pin].add(number)
        self.classes: list[list[int]] = [[] for _ in self.signals]
        for label, part in enumerate(netlist.outputs):
            for signal in part:
                self.classes[signal].append(label)

    def changed(self, table: int, address: int) -> int:
        """Samples answered otherwise when that entry is turned."""
        table = integer("table", table, at_least=0, at_most=len(self.netlist.tables) - 1)
        pins = self.netlist.tables[table].pins
        address = integer("address", address, at_least=0, at_most=2 ** len(pins) - 1)
        here = self.ones
        for place, pin in enumerate(pins):
            here &= self.signals[pin] if address >> place & 1 else ~self.signals[pin]
        return self.spread(table, here) if here else 0

    def spread(self, table: int, turned: int) -> int:
        """Follow samples in which the output of a table is turned."""
        delta = {self.first + table: turned}
        waiting = sorted(self.readers[self.first + table])
        while waiting:
            reader = heappop(waiting)
            if self.first + reader in delta:
                continue
            part = self.netlist.tables[reader]
            values = [self.signals[pin] ^ delta.get(pin, 0) for pin in part.pins]
            new = looked_up(part.entries, values, self.ones)
            delta[self.first + reader] = new ^ self.signals[self.first + reader]
            if delta[self.first + reader]:
                for after in self.readers[self.first + reader]:
                    heappush(waiting, after)
        return self.answers(delta)

    def answers(self, delta: dict[int, int]) -> int:
        """How many samples have another label with these signals turned."""
        outputs = [signal for signal, turned in delta.items() if turned and self.classes[signal]]
        if not outputs:
            return 0
        counts = self.counts.copy()
        for signal in outputs:
            turned = as_column(delta[signal], self.samples)
            step = turned * (1 - 2 * as_column(self.signals[signal], self.samples).astype(np.int64))
            for label in self.classes[signal]:
                counts[:, label] += step
        return int((counts.argmax(1) != self.labels).sum())

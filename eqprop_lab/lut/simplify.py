"""What of a hard network can be left out without changing any answer.

    constant     a table whose reachable entries are all alike
    wire         a table that is one pin, or its negation: its readers take it into their own tables
    duplicate    a table of the same pins and entries as another, or of the opposite entries
    dead         a table on no way to an output
    pin          of a table that stays: no reachable entry depends on it

Reachable: bits of one feature at several thresholds are a thermometer. A higher one is never 1
while a lower one is 0, so entries at such addresses may be whatever suits. Whoever knows all inputs
there will be may say which addresses they reach; the answers are kept for these inputs then (as in
ReducedLUT, arXiv:2412.18579).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from numpy.typing import ArrayLike

from eqprop_lab.lut.netlist import Comparator, Netlist, Table

Literal = tuple[int | None, bool]
"""(signal, negated); without a signal it is a constant, its value in the second place."""
Entries = list[bool | None]
"""A table by addresses; None: no input leads there."""


@dataclass(frozen=True)
class Simplified:
    """netlist: what is left. found: how many of each kind (see the module) there were.

    whole: before dead parts went. literals: what every signal of the original is in `whole`.
    kept: the signals of `whole` that are left. reached: as given. `proof.prove` looks at all of it.
    """

    netlist: Netlist
    found: dict[str, int]
    original: Netlist
    whole: Netlist
    literals: tuple[Literal, ...]
    kept: tuple[int, ...]
    reached: tuple[int, ...] | None


def simplify(netlist: Netlist, reached: Sequence[int] | None = None) -> Simplified:
    """What these rules leave of a network; see the module.

    reached: for every table, its addresses that matter as the bits of an integer, such as those
    that some data reach (`reached_by`); None: all that inputs can reach. Raises ValueError.
    """
    if reached is not None and len(reached) != len(netlist.tables):
        raise ValueError(
            f"reached must have one entry for each of {len(netlist.tables)} tables, "
            f"got {len(reached)}"
        )
    work = _Work(netlist)
    literals = [work.comparator(number) for number in range(len(netlist.comparators))]
    for number, table in enumerate(netlist.tables):
        matters = -1 if reached is None else reached[number]
        literals.append(work.table([literals[pin] for pin in table.pins], table.entries, matters))
    outputs, offsets = [], []
    for part, offset in zip(netlist.outputs, netlist.offsets, strict=True):
        counted = [literals[signal] for signal in part]
        offsets.append(offset + sum(negated for signal, negated in counted if signal is None))
        outputs.append(tuple(work.plain(one) for one in counted if one[0] is not None))
    whole = replace(
        netlist, tables=tuple(work.tables), outputs=tuple(outputs), offsets=tuple(offsets)
    )
    small, kept = _swept(whole)
    work.count_dead(kept)
    given = None if reached is None else tuple(reached)
    return Simplified(small, work.found, netlist, whole, tuple(literals), kept, given)


def reached_by(netlist: Netlist, x: ArrayLike) -> tuple[int, ...]:
    """For every table the addresses at which some sample of x arrives. x (N, features)."""
    samples = len(netlist.rows(x))
    signals, found = netlist.signals(x), []
    for table in netlist.tables:
        here = [2**samples - 1]  # samples at the address, one address after the other
        for pin in table.pins:
            at = signals[pin]
            here = [part & ~at for part in here] + [part & at for part in here]
        found.append(sum(1 << address for address, part in enumerate(here) if part))
    return tuple(found)


class _Work:
    """Tables made so far, and where those of the same pins and entries are."""

    def __init__(self, netlist: Netlist) -> None:
        self.comparators = netlist.comparators
        self.tables: list[Table] = []
        self.known: dict[Table, int] = {}
        self.first: dict[Comparator, int] = {}
        self.opposite: dict[int, int] = {}
        self.found = dict.fromkeys(("constant", "wire", "duplicate", "dead", "pin"), 0)

    def comparator(self, number: int) -> Literal:
        part = self.comparators[number]
        if math.isinf(part.threshold):
            return None, part.threshold < 0
        return self.first.setdefault(part, number), False

    def table(self, pins: Sequence[Literal], entries: int, matters: int) -> Literal:
        """The literal of a table that reads literals."""
        names = sorted({signal for signal, _ in pins if signal is not None})
        values = self.by_address(names, pins, entries, matters)
        names, values = _essential(names, values)
        negated = next((value for value in values if value is not None), False)
        if not names:
            self.found["constant"] += 1
            return None, negated
        if len(names) == 1:
            self.found["wire"] += 1
            return names[0], bool(values[0])
        self.found["pin"] += len(pins) - len(names)
        # a table and its opposite are one: that whose first entry is 0
        bits = sum(1 << k for k, value in enumerate(values) if value not in (None, negated))
        table = Table(tuple(names), bits)
        self.found["duplicate"] += table in self.known
        return self.signal(table), negated

    def by_address(
        self, names: Sequence[int], pins: Sequence[Literal], entries: int, matters: int
    ) -> Entries:
        """A table of literals as one of the signals themselves."""
        above = self.never(names)
        places = [None if signal is None else names.index(signal) for signal, _ in pins]
        turned = [negated for _, negated in pins]
        found: Entries = []
        for address in range(2 ** len(names)):
            here = 0
            for pin, (place, negated) in enumerate(zip(places, turned, strict=True)):
                bit = negated if place is None else bool(address >> place & 1) ^ negated
                here |= bit << pin
            never = any(address & both == high for high, both in above)
            found.append(bool(entries >> here & 1) if matters >> here & 1 and not never else None)
        return found

    def never(self, names: Sequence[int]) -> list[tuple[int, int]]:
        """(high, both) as bits of an address: a threshold passed, and one not above it not."""
        inputs = [
            (place, self.comparators[name])
            for place, name in enumerate(names)
            if name < len(self.comparators)
        ]
        return [
            (1 << p, 1 << p | 1 << q)
            for (p, high), (q, low) in permutations(inputs, 2)
            if high.feature == low.feature and high.threshold >= low.threshold
        ]

    def signal(self, table: Table) -> int:
        """The number of a table; made unless it is there."""
        if table not in self.known:
            self.known[table] = len(self.comparators) + len(self.tables)
            self.tables.append(table)
        return self.known[table]

    def plain(self, literal: Literal) -> int:
        """A signal that is this literal: an output cannot be negated where it is counted."""
        signal, negated = literal
        assert signal is not None
        if not negated:
            return signal
        opposite = Table((signal,), 0b01)
        if signal >= len(self.comparators):
            table = self.tables[signal - len(self.comparators)]
            opposite = Table(table.pins, table.entries ^ (2**2 ** len(table.pins) - 1))
        made = self.signal(opposite)
        self.opposite[made] = signal
        return made

    def count_dead(self, kept: Sequence[int]) -> None:
        """Tables that are left neither as they were nor as their opposite."""
        used = {self.opposite.get(signal, signal) for signal in kept}
        made = range(len(self.comparators), len(self.comparators) + len(self.tables))
        self.found["dead"] = len(set(made) - set(self.opposite) - used)


def _essential(names: list[int], values: Entries) -> tuple[list[int], Entries]:
    """Without the pins that decide nothing, the last first."""
    for place in range(len(names) - 1, -1, -1):
        low = [k for k in range(len(values)) if not k >> place & 1]
        pairs = [(values[k], values[k | 1 << place]) for k in low]
        if all(None in pair or pair[0] == pair[1] for pair in pairs):
            names = names[:place] + names[place + 1 :]
            values = [one if zero is None else zero for zero, one in pairs]
    return names, values


def _swept(whole: Netlist) -> tuple[Netlist, tuple[int, ...]]:
    """What some output depends on, numbered anew, and the old numbers."""
    first = len(whole.comparators)
    live = {signal for part in whole.outputs for signal in part}
    for number in range(len(whole.tables) - 1, -1, -1):
        if first + number in live:
            live.update(whole.tables[number].pins)
    kept = sorted(live)
    new = {signal: number for number, signal in enumerate(kept)}
    tables = (whole.tables[signal - first] for signal in kept if signal >= first)
    return replace(
        whole,
        comparators=tuple(whole.comparators[signal] for signal in kept if signal < first),
        tables=tuple(Table(tuple(new[pin] for pin in t.pins), t.entries) for t in tables),
        outputs=tuple(tuple(new[signal] for signal in part) for part in whole.outputs),
    ), tuple(kept)

"""A proof that a simplified network is the original, table by table.

    pins are what `literals` says  =>  so is the table          at every address that pins can have

By induction over signals this holds for every input, or for all that reach no other addresses than
those that were said to matter. Nothing is taken over from the simplification but its claim: values
are looked up here, of all addresses at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

from eqprop_lab.lut.netlist import Comparator, Netlist, Table, looked_up
from eqprop_lab.lut.simplify import Literal, Simplified


def prove(claim: Simplified) -> int:
    """How many addresses were compared. Raises RuntimeError for the first part that differs."""
    original, whole = claim.original, claim.whole
    for number, part in enumerate(original.comparators):
        _compare_input(number, part, claim.literals[number], whole)
    first, compared = len(original.comparators), 0
    reached = claim.reached or (-1,) * len(original.tables)
    for number, table in enumerate(original.tables):
        literals = [claim.literals[pin] for pin in table.pins]
        claimed = claim.literals[first + number]
        try:
            compared += _compare_table(table, literals, reached[number], claimed, whole)
        except ValueError as error:
            raise RuntimeError(f"table {number} is not {claimed}: {error}") from error
    _compare_outputs(claim)
    _compare_kept(claim)
    return compared


class _Cases:
    """All values that some signals can have together, one bit each of an integer."""

    def __init__(self, signals: Iterable[int], whole: Netlist) -> None:
        self.whole = whole
        names = sorted(set(signals))
        size = 2 ** len(names)
        self.ones = 2**size - 1
        # signal j is 2^j cases of 0, then 2^j of 1, over and over
        self.values: Mapping[int, int] = {
            name: sum(1 << case for case in range(size) if case >> place & 1)
            for place, name in enumerate(names)
        }
        self.possible = self.ones
        inputs = [name for name in names if name < len(whole.comparators)]
        for high, low in permutations(inputs, 2):
            a, b = whole.comparators[high], whole.comparators[low]
            if a.feature == b.feature and a.threshold >= b.threshold:
                self.possible &= ~(self.values[high] & ~self.values[low])

    def of(self, literal: Literal) -> int:
        """A literal in every case: a signal that is given, or a table of such signals."""
        signal, negated = literal
        if signal is None:
            return self.ones if negated else 0
        value = self.values.get(signal)
        if value is None:
            table = _table(signal, self.whole)
            value = looked_up(table.entries, [self.values[pin] for pin in table.pins], self.ones)
        return value ^ self.ones if negated else value


def _table(signal: int, netlist: Netlist) -> Table:
    return netlist.tables[signal - len(netlist.comparators)]


def _compare_input(number: int, part: Comparator, literal: Literal, whole: Netlist) -> None:
    signal, negated = literal
    if signal is None:
        right = math.isinf(part.threshold) and (part.threshold < 0) == negated
    else:
        right = whole.comparators[signal] == part and not negated
    if not right:
        raise RuntimeError(f"comparator {number} {part} is not {literal}")


def _compare_table(
    table: Table, pins: Sequence[Literal], reached: int, claimed: Literal, whole: Netlist
) -> int:
    cases = _Cases((signal for signal, _ in pins if signal is not None), whole)
    values = [cases.of(pin) for pin in pins]
    matters = cases.possible & looked_up(reached, values, cases.ones)
    try:
        found = cases.of(claimed)
    except KeyError as error:
        raise ValueError(f"it would read signal {error}") from error
    if (looked_up(table.entries, values, cases.ones) ^ found) & matters:
        raise ValueError("another value at some address")
    return matters.bit_count()


def _compare_outputs(claim: Simplified) -> None:
    original, whole = claim.original, claim.whole
    for label, part in enumerate(original.outputs):
        literals = [claim.literals[signal] for signal in part]
        ones = sum(negated for signal, negated in literals if signal is None)
        counted = [one for one in literals if one[0] is not None]
        same = whole.offsets[label] == original.offsets[label] + ones
        if not same or len(counted) != len(whole.outputs[label]):
            raise RuntimeError(f"class {label} counts another number of outputs")
        for literal, signal in zip(counted, whole.outputs[label], strict=True):
            if literal != (signal, False) and not _same(literal, (signal, False), whole):
                raise RuntimeError(f"class {label} counts signal {signal}, which is not {literal}")


def _same(one: Literal, other: Literal, whole: Netlist) -> bool:
    """Whether two literals are alike at all addresses of their tables."""
    names: set[int] = set()
    for signal, _ in (one, other):
        assert signal is not None
        is_input = signal < len(whole.comparators)
        names.update([signal] if is_input else _table(signal, whole).pins)
    cases = _Cases(names, whole)
    return not (cases.of(one) ^ cases.of(other)) & cases.possible


def _compare_kept(claim: Simplified) -> None:
    """What is left is part of the whole, and has all that it reads."""
    whole, small, kept = claim.whole, claim.netlist, claim.kept
    comparators = [whole.comparators[s] for s in kept if s < len(whole.comparators)]
    tables = [_table(s, whole) for s in kept if s >= len(whole.comparators)]
    read = [Table(tuple(kept[pin] for pin in t.pins), t.entries) for t in small.tables]
    counted = tuple(tuple(kept[signal] for signal in part) for part in small.outputs)
    if (list(small.comparators), read) != (comparators, tables):
        raise RuntimeError("the parts that are left are not those of the whole")
    if (counted, small.offsets) != (whole.outputs, whole.offsets):
        raise RuntimeError("the classes count other signals than in the whole")

"""Less of a network, the same answers: on data, and proven table by table."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from eqprop_lab.lut.netlist import Comparator, Netlist, Table, netlist_of, on_grid
from eqprop_lab.lut.proof import prove
from eqprop_lab.lut.simplify import reached_by, simplify
from tests.lut.pieces import X, hard_counts, model, noise

INPUTS = tuple(Comparator(feature, 0.5) for feature in range(3))
CORNERS = np.array([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)])
XOR, AND, FIRST, NOT_FIRST = 0b0110, 0b1000, 0b1010, 0b0101


def made_of(*tables: Table, outputs: Any, comparators: Any = INPUTS) -> Netlist:
    """A netlist of three features."""
    return Netlist(3, tuple(comparators), tables, tuple(outputs), (0,) * len(outputs))


def small(netlist: Netlist, **how: Any) -> Netlist:
    """Simplified, proven, and the same at all corners."""
    found = simplify(netlist, **how)
    assert prove(found) > 0
    assert np.array_equal(found.netlist.counts(CORNERS), netlist.counts(CORNERS))
    return found.netlist


def test_constants_reach_through_to_the_count() -> None:
    never = Table((0, 0), XOR)  # x ^ x
    before = made_of(never, Table((1, 3), 0b0011), Table((3, 4), XOR), outputs=[(3, 4), (5,)])
    assert simplify(before).found["constant"] == 3
    assert small(before) == Netlist(3, (), (), ((), ()), (1, 1))
    ones = made_of(Table((0, 1), 0b1111), outputs=[(3, 3)])
    assert small(ones) == Netlist(3, (), (), ((),), (2,))


def test_wires_and_negations_go_into_their_readers() -> None:
    before = made_of(
        Table((0, 1), FIRST), Table((1, 2), NOT_FIRST), Table((3, 4), AND), outputs=[(5,)]
    )
    after = small(before)
    # x_0 and not x_1
    assert after.tables == (Table((0, 1), 0b0010),)
    assert simplify(before).found == {"constant": 0, "wire": 2, "duplicate": 0, "dead": 0, "pin": 0}


def test_a_negated_wire_at_an_output_stays_a_table() -> None:
    after = small(made_of(Table((2,), 0b01), outputs=[(3,), (2,)]))
    assert after.tables == (Table((0,), 0b01),) and after.outputs == ((1,), (0,))


def test_duplicates_in_another_order_and_opposites_are_one() -> None:
    before = made_of(
        Table((0, 1), 0b0010), Table((1, 0), 0b0100), Table((0, 1), 0b1101), Table((3, 5), XOR),
        outputs=[(3, 4), (6,)],
    )  # fmt: skip
    found = simplify(before)
    assert found.found["duplicate"] == 2
    after = small(before)
    assert len(after.tables) == 1 and after.offsets == (0, 1)


def test_dead_tables_and_inputs_go() -> None:
    before = made_of(Table((0, 1), XOR), Table((1, 2), AND), outputs=[(3,)])
    after = small(before)
    assert len(after.tables) == 1 and len(after.comparators) == 2
    assert simplify(before).found["dead"] == 1


def test_a_table_and_its_opposite_at_outputs_are_both_kept_and_none_is_dead() -> None:
    before = made_of(Table((0, 1), XOR), Table((0, 1), 0b1001), outputs=[(3,), (4,)])
    assert len(small(before).tables) == 2
    only = made_of(Table((0, 1), 0b1001), outputs=[(3,)])
    assert small(only).tables == (Table((0, 1), 0b1001),)
    assert simplify(only).found["dead"] == 0


def test_bits_of_one_feature_are_a_thermometer() -> None:
    levels = (Comparator(0, 0.2), Comparator(0, 0.7), Comparator(1, 0.5))
    both = made_of(Table((0, 1), AND), outputs=[(3,)], comparators=levels)
    found = simplify(both)  # above both is above the higher
    assert prove(found) == 3
    assert found.netlist.tables == () and found.netlist.outputs == ((0,),)
    assert found.netlist.comparators == (levels[1],)
    same = made_of(Table((0, 1), XOR), outputs=[(2,)], comparators=(levels[0], levels[0]))
    assert simplify(same).netlist == Netlist(3, (), (), ((),), (0,))
    ends = (Comparator(0, -math.inf), Comparator(1, math.inf), Comparator(2, 0.5))
    some = made_of(Table((0, 2), AND), Table((1, 2), XOR), outputs=[(3, 4)], comparators=ends)
    assert small(some) == Netlist(3, (ends[2],), (), ((0, 0),), (0,))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_random_networks_of_all_kinds_of_parts(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    levels = [Comparator(int(drawn.integers(3)), float(drawn.choice([-1, 0, 1, math.inf])))
              for _ in range(6)]  # fmt: skip
    tables = []
    for number in range(12):
        pins = tuple(int(pin) for pin in drawn.integers(6 + number, size=drawn.integers(0, 5)))
        tables.append(Table(pins, int(drawn.integers(2**2 ** len(pins)))))
    outputs = [tuple(int(s) for s in drawn.integers(18, size=4)) for _ in range(2)]
    before = Netlist(3, tuple(levels), tuple(tables), tuple(outputs), (0, 1))
    x = drawn.integers(-2, 3, size=(60, 3)) + 0.5
    found = simplify(before)
    assert np.array_equal(found.netlist.counts(x), before.counts(x))
    prove(found)
    assert len(found.netlist.tables) <= len(before.tables)
    # on inputs that are all there will be
    again = simplify(before, reached_by(before, x))
    assert np.array_equal(again.netlist.counts(x), before.counts(x))
    prove(again)


def test_a_network_with_its_own_noise() -> None:
    made = model(node_input_dim=2, layer_widths=[60, 30, 12])
    before = netlist_of(made)
    found = simplify(before)
    prove(found)
    lost = sum(found.found[kind] for kind in ("constant", "wire", "duplicate", "dead"))
    # the opposite of a table that stays may be a table of its own
    assert len(before.tables) - lost <= len(found.netlist.tables) < 0.4 * len(before.tables)
    x = noise(500)
    assert np.array_equal(found.netlist.counts(x), hard_counts(made, x).numpy())
    fewer = simplify(on_grid(before, 2)).netlist
    assert len(fewer.comparators) < len(found.netlist.comparators)


def test_addresses_that_data_reach() -> None:
    before = netlist_of(model())
    reached = reached_by(before, X)
    bits = [before.signals(X[i : i + 1]) for i in range(len(X))]
    for table, mask in zip(before.tables, reached, strict=True):
        seen = {sum(row[pin] << j for j, pin in enumerate(table.pins)) for row in bits}
        assert mask == sum(1 << address for address in seen)
    found = simplify(before, reached)
    assert np.array_equal(found.netlist.counts(X), before.counts(X))
    assert found.netlist.pins < simplify(before).netlist.pins
    prove(found)
    with pytest.raises(ValueError, match="32 tables, got 1"):
        simplify(before, [1])


def test_the_proof_finds_every_kind_of_fault() -> None:
    before = netlist_of(model(node_input_dim=2, layer_widths=[60, 30, 12]))
    right = simplify(before)
    whole = right.whole
    middle = len(whole.tables) // 2
    table = whole.tables[middle]
    wrong = [*whole.tables]
    wrong[middle] = Table(table.pins, table.entries ^ 1)
    faults = {
        "table": replace(right, whole=replace(whole, tables=tuple(wrong))),
        "comparator": replace(right, literals=((None, False), *right.literals[1:])),
        "class": replace(right, whole=replace(whole, offsets=(9, 0, 0))),
        "parts": replace(right, netlist=replace(right.netlist, comparators=())),
        "classes": replace(right, netlist=replace(right.netlist, offsets=(9, 0, 0))),
    }
    prove(right)
    for name, fault in faults.items():
        with pytest.raises(RuntimeError, match=name):
            prove(fault)
    literals = list(right.literals)
    at = next(i for i, (s, _) in enumerate(literals) if s is not None and s >= 40)
    literals[at] = (literals[at][0], not literals[at][1])
    with pytest.raises(RuntimeError, match="table"):
        prove(replace(right, literals=tuple(literals)))

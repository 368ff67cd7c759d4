"""Wrong bits in tables, against the network computed anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eqprop_lab.lut.faults import fault_effects, flipped
from eqprop_lab.lut.netlist import Netlist, Table, netlist_of
from tests.lut.pieces import X, model, noise


def with_fault(netlist: Netlist, number: int, address: int) -> Netlist:
    tables = list(netlist.tables)
    table = tables[number]
    tables[number] = Table(table.pins, table.entries ^ 1 << address)
    return replace(netlist, tables=tuple(tables))


def test_one_fault_at_a_time_is_the_network_with_that_entry_turned() -> None:
    parts = netlist_of(model(node_input_dim=3, layer_widths=[15, 9, 6]))
    parts = replace(parts, outputs=(*parts.outputs[:2], (*parts.outputs[2], parts.outputs[0][0])))
    x = noise(90)
    before = parts.counts(x).argmax(1)
    faults = [(table, address) for table in range(30) for address in range(8)]
    wanted = [(with_fault(parts, *fault).counts(x).argmax(1) != before).sum() for fault in faults]
    found = fault_effects(parts, x, faults)
    assert found.tolist() == wanted
    assert 0 in wanted and max(wanted) > 5
    assert (found[: 15 * 8] > 0).any()  # a fault in the first layer arrives, too


def test_entries_are_turned_at_the_rate() -> None:
    parts = netlist_of(model(layer_widths=[200, 60]))
    turned = [
        (a.entries ^ b.entries).bit_count()
        for a, b in zip(parts.tables, flipped(parts, 0.1, seed=3).tables, strict=True)
    ]
    entries = 260 * 16
    assert abs(sum(turned) - 0.1 * entries) < 4 * np.sqrt(0.09 * entries)
    assert flipped(parts, 0.0) == parts
    assert flipped(parts, 0.1, seed=3) == flipped(parts, 0.1, seed=3) != flipped(parts, 0.1, seed=4)
    everything = flipped(parts, 1.0)
    assert all(a.entries ^ b.entries == 2**16 - 1
               for a, b in zip(parts.tables, everything.tables, strict=True))  # fmt: skip


def test_faults_that_there_are_not() -> None:
    parts = netlist_of(model())
    for rate in (-0.1, 1.1, "much"):
        with pytest.raises((TypeError, ValueError), match="rate"):
            flipped(parts, rate)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="table must be"):
        fault_effects(parts, X, [(32, 0)])
    with pytest.raises(ValueError, match="address must be"):
        fault_effects(parts, X, [(0, 16)])
    assert fault_effects(parts, X, []).shape == (0,)

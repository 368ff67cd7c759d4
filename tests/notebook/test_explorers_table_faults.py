"""The explorer of wrong bits counts what the network with these bits counts."""

from __future__ import annotations

import numpy as np
import pytest

from eqprop_lab import build_dataset
from eqprop_lab.lut import build_model
from eqprop_lab.lut.netlist import Netlist, Table, as_bits, netlist_of
from eqprop_lab.notebook.explorers.table_faults import RATES, TableFaults, chip, curve

TEST = build_dataset("digits").test


@pytest.fixture(scope="module")
def explorer() -> TableFaults:
    return TableFaults()


def with_faults(draw: int, rate: float) -> Netlist:
    sound = netlist_of(build_model("digits_small"))
    numbers = np.concatenate([part < rate for part in chip().numbers(draw)])
    tables = [
        Table(table.pins, table.entries ^ as_bits(row))
        for table, row in zip(sound.tables, numbers, strict=True)
    ]
    return Netlist(sound.features, sound.comparators, tuple(tables), sound.outputs, sound.offsets)


@pytest.mark.parametrize(("draw", "rate"), [(0, 0.0), (1, 0.2)])
def test_counts_are_those_of_the_network_with_these_entries(draw: int, rate: float) -> None:
    wanted = with_faults(draw, rate).counts(TEST.x)
    assert np.array_equal(chip().counts(draw, rate), wanted)


def test_what_is_shown(explorer: TableFaults) -> None:
    explorer.set(rate=0.2, draw=1, image=7)
    data = explorer.data
    counts = chip().counts(1, 0.2)
    assert data.label == int(TEST.y[7]) and np.array_equal(data.counts, counts[7])
    assert data.accuracy == (counts.argmax(1) == TEST.y.numpy()).mean()
    assert data.turned == sum(int((part < 0.2).sum()) for part in chip().numbers(1))
    said = explorer.describe(data, **explorer.values)
    assert f"{data.turned} wrong entries" in said and f"a {data.label}" in said
    assert not explorer.errors


def test_more_faults_keep_those_of_fewer_and_cost_accuracy() -> None:
    assert chip().turned(2, 0.01) < chip().turned(2, 0.1)
    found = dict(zip(RATES, curve(), strict=True))
    assert found[RATES[0]] > 0.9 and found[0.5] < 0.3

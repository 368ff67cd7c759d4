"""A list of parts counts what the hard network counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqprop_lab.lut import REGISTRY, SimpleFeedForward
from eqprop_lab.lut.netlist import (
    Comparator,
    Netlist,
    Table,
    as_bits,
    as_column,
    looked_up,
    netlist_of,
    on_grid,
)
from tests.lut.pieces import X, config, hard_counts, model, noise


def test_a_table_is_looked_up_for_all_samples_at_once() -> None:
    generator = np.random.default_rng(0)
    for inputs in range(9):
        entries = [bool(bit) for bit in generator.integers(2, size=2**inputs)]
        pins = generator.integers(2, size=(inputs, 70)).astype(bool)
        table = sum(bit << k for k, bit in enumerate(entries))
        found = looked_up(table, [as_bits(pin) for pin in pins], 2**70 - 1)
        for sample, bit in enumerate(as_column(found, 70)):
            assert bit == entries[sum(int(pin[sample]) << j for j, pin in enumerate(pins))]


@pytest.mark.parametrize(
    "changes",
    [
        *({"node_type": kind} for kind in REGISTRY.names("node")),
        *({"layer_type": kind} for kind in REGISTRY.names("layer")),
        {"node_input_dim": 8, "layer_widths": [6]},
        {"layer_widths": [20, 14], "runtime": {"head_padding": True, "output_tau": 3.0}},
        {"encoder_config": {"name": "gaussian_thermometer", "num_bits": 9, "clip_inputs": True}},
        {"encoder_config": {"name": "thermometer", "num_bits": 2, "feature_wise": False}},
    ],
    ids=str,
)
def test_parts_of_every_kind_of_network(changes: dict[str, Any]) -> None:
    made = model(**changes)
    x = noise(300)
    x[0] = X.amax(0)  # at the end of the range, and at a threshold: neither is above itself
    x[1] = made.encoder.thresholds[:, 0] if len(made.encoder.thresholds) == 12 else 0
    found = netlist_of(made).counts(x)
    assert np.array_equal(found, hard_counts(made, x).numpy())
    assert found.std() > 0.3


def test_float64_thresholds_are_met_by_float32_inputs() -> None:
    made = model().double()
    made.encoder.thresholds += 1e-12  # between two float32 numbers
    x = made.encoder.thresholds[:, :1].t().float().repeat(3, 1)
    x[1] = torch.nextafter(x[1], torch.ones(12))
    x[2] = torch.nextafter(x[2], -torch.ones(12))
    bits = x.double().unsqueeze(2) > made.encoder.thresholds
    parts = netlist_of(made)
    wanted = [sum(int(bit) << k for k, bit in enumerate(row)) for row in bits.flatten(1).t()]
    assert parts.signals(x)[:36] == wanted


def test_sizes() -> None:
    parts = netlist_of(model())
    assert (len(parts.comparators), len(parts.tables), parts.pins) == (36, 32, 128)
    assert (parts.lut6, parts.depth, len(parts.outputs)) == (32, 2, 3)
    assert netlist_of(model(node_input_dim=8)).lut6 == 4 * 32
    constant = Netlist(1, (), (Table((), 1),), ((0,),), (2,))
    assert constant.lut6 == 0 and constant.depth == 0
    assert constant.counts(np.zeros((3, 1))).tolist() == [[3]] * 3


def test_on_a_grid_thresholds_between_two_inputs_are_one() -> None:
    made = model()
    grid = on_grid(netlist_of(made), 4)
    x = torch.randint(5, (200, 12), generator=torch.Generator().manual_seed(1)) / 4
    assert np.array_equal(grid.counts(x), hard_counts(made, x).numpy())
    finite = {c.threshold for c in grid.comparators if math.isfinite(c.threshold)}
    assert finite <= {0.0, 0.25, 0.5, 0.75}
    parts = Netlist(1, tuple(Comparator(0, t) for t in (-0.1, 0.3, 0.4, 1.0)), (), (), ())
    thresholds = [c.threshold for c in on_grid(parts, 4).comparators]
    assert thresholds == [-math.inf, 0.25, 0.25, math.inf]


def test_what_has_no_parts() -> None:
    with pytest.raises(TypeError, match="model must be a SimpleFeedForward"):
        netlist_of(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="fit_encoder"):
        netlist_of(SimpleFeedForward(config()))
    parts = netlist_of(model())
    with pytest.raises(ValueError, match="12 features"):
        parts.counts(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="NaN"):
        parts.counts(np.full((3, 12), np.inf))
    with pytest.raises(ValueError, match="levels"):
        on_grid(parts, 0)
    assert parts.counts(np.zeros((0, 12))).shape == (0, 3)

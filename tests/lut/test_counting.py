"""Sizes, counted by hand."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab.lut import SimpleFeedForward
from eqprop_lab.lut.counting import count_nodes
from tests.lut.pieces import X, config, model


def test_sizes_of_a_network() -> None:
    found = count_nodes(model())  # 32 nodes of 4 pins; 80 pins read all 36 bits
    assert (found.nodes, found.lut6, found.gates) == (32, 32, 32 * 15)
    assert found.comparators == 36 and found.parts_with_encoder == 68
    assert found.packed_bytes == 32 * 16 // 8 + 2 * 32 * 4
    wide = count_nodes(model(node_input_dim=8))
    assert wide.lut6 == 32 * 4 and wide.gates == 32 * 255


def test_a_comparator_that_decides_nothing_or_that_no_pin_reads_is_none() -> None:
    data = X.clone()
    data[:, 0] = 0.5  # a constant has one value
    data[:, 1] = (data[:, 1] > 0.5).float()  # and two values one place between ranks
    encoder = {"name": "distributive_thermometer", "num_bits": 3}
    made = SimpleFeedForward(config(encoder_config=encoder))
    made.fit_encoder(data)
    different = sum(len(set(row.tolist())) for row in made.encoder.thresholds[1:])
    assert count_nodes(made).comparators == different < 33
    few = model(layer_widths=[3], node_input_dim=2)
    assert count_nodes(few).comparators == len(torch.unique(few.layers[0].wiring.indices())) <= 6


def test_one_set_of_thresholds_is_compared_in_every_feature() -> None:
    shared = {"name": "thermometer", "num_bits": 3, "feature_wise": False}
    assert count_nodes(model(encoder_config=shared)).comparators == 36


def test_what_cannot_be_counted() -> None:
    with pytest.raises(RuntimeError, match="fit_encoder"):
        count_nodes(SimpleFeedForward(config()))

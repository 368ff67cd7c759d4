"""64 samples a word give the counts of the hard network, sample for sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqprop_lab import build_dataset
from eqprop_lab.lut import REGISTRY, SimpleFeedForward, build_model
from eqprop_lab.lut.packed import CHUNK, PackedLayer, PackedNetwork, packed, unpacked
from tests.lut.pieces import X, config, looked_up, model


def test_words_hold_samples_from_the_lowest_bit_on() -> None:
    bits = np.random.default_rng(0).random((3, 70)) < 0.5
    words = packed(bits)
    assert words.shape == (3, 2) and words.dtype == np.uint64
    for row, sample in ((0, 0), (1, 63), (2, 64), (0, 69)):
        assert int(words[row, sample // 64]) >> (sample % 64) & 1 == int(bits[row, sample])
    assert np.array_equal(unpacked(words, 70), bits)
    assert np.array_equal(packed(np.asfortranarray(bits)), words)


@pytest.mark.parametrize("inputs", range(1, 9))
def test_a_layer_is_its_truth_tables(inputs: int) -> None:
    generator = torch.Generator().manual_seed(inputs)
    table = torch.rand(5, 2**inputs, generator=generator) < 0.5
    index = torch.randint(9, (inputs, 5), generator=generator)
    bits = torch.rand(9, 100, generator=generator) < 0.5
    found = unpacked(PackedLayer.of(index, table)(packed(bits.numpy())), 100)
    for node in range(5):
        where = sum(bits[index[pin, node]].long() << pin for pin in range(inputs))
        assert np.array_equal(found[node], table[node][where].numpy())


@pytest.mark.parametrize(
    "changes",
    [
        *({"node_type": kind} for kind in REGISTRY.names("node")),
        *({"layer_type": kind} for kind in REGISTRY.names("layer")),
        {"layer_widths": [20, 14], "runtime": {"head_padding": True, "output_tau": 3.0}},
        {"layer_widths": [12], "node_input_dim": 1},
        {"encoder_config": {"name": "thermometer", "num_bits": 1}},
        {"encoder_config": {"name": "thermometer", "num_bits": 2, "feature_wise": False}},
        {"encoder_config": {"name": "gaussian_thermometer", "num_bits": 9, "clip_inputs": True}},
        {"runtime": {"eval_mode": "sampling"}},
    ],
    ids=str,
)
def test_counts_are_those_of_the_hard_network(changes: dict[str, Any]) -> None:
    made = model(**changes)
    network = PackedNetwork(made)
    generator = torch.Generator().manual_seed(3)
    x = 3 * torch.rand(200, 12, generator=generator) - 1
    before = made.runtime, made.get_config()
    assert network.mismatches(made, x) == 0
    assert made.training and (made.runtime, made.config) == before
    with torch.no_grad():
        bits = looked_up(made.lut_layers(), made.encode(X[:5]))
        parts = bits.tensor_split(3, dim=1)
        wanted = torch.stack([part.sum(1) for part in parts], 1).long()
    assert np.array_equal(network.counts(X[:5].numpy()), wanted.numpy())
    assert float(network.counts(x.numpy()).std()) > 0.3


def test_a_mismatch_is_counted() -> None:
    made = model()
    network = PackedNetwork(made)
    with torch.no_grad():
        made.layers[-1].nodes.theta.neg_()
    assert network.mismatches(made, X) > 30


def test_the_shipped_digits_on_all_test_images_and_on_noise() -> None:
    made, data = build_model("digits_small"), build_dataset("digits")
    network = PackedNetwork(made)
    assert network.mismatches(made, data.test.x) == 0
    noise = torch.rand(2 * CHUNK + 77, 64, generator=torch.Generator().manual_seed(0))
    assert network.mismatches(made, noise) == 0
    with torch.no_grad():
        logits = torch.from_numpy(network(data.test.x.numpy()))
        torch.testing.assert_close(logits, made(data.test.x))
    # 3000 tables of 64 bits, six pins of two bytes
    assert network.bytes == 3000 * (8 + 12)


def test_what_cannot_be_packed() -> None:
    with pytest.raises(TypeError, match="model must be a SimpleFeedForward"):
        PackedNetwork(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="fit_encoder"):
        PackedNetwork(SimpleFeedForward(config()))
    network = PackedNetwork(model())
    with pytest.raises(ValueError, match="12 features"):
        network.counts(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="NaN"):
        network.counts(np.full((3, 12), np.nan))
    assert network.counts(np.zeros((0, 12))).shape == (0, 3)

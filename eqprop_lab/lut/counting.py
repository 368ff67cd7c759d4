"""How large a hard LUT network is, in the units in which such networks are compared.

    nodes       tables, of n inputs each
    lut6        6-input tables of an FPGA: 2^(n-6) for one of n > 6 inputs, one for n <= 6
    gates       2-input gates at most: 2^n - 1 choices a node, the bound of the field
    comparators of the encoder: different thresholds of features that vary

Papers count with the encoder or without, and say so too rarely: both are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from eqprop_lab.lut.feedforward import SimpleFeedForward
from eqprop_lab.lut.packed import PackedNetwork


@dataclass(frozen=True)
class Counts:
    """Sizes of a network; see the module. packed_bytes: of tables and wiring, one bit an entry."""

    nodes: int
    lut6: int
    gates: int
    comparators: int
    packed_bytes: int

    @property
    def parts_with_encoder(self) -> int:
        """6-input tables and comparators together."""
        return self.lut6 + self.comparators


def count_nodes(model: SimpleFeedForward) -> Counts:
    """The sizes of a fitted network.

    Comparators are those that some pin reads. Raises TypeError, RuntimeError as PackedNetwork does.
    """
    network = PackedNetwork(model)
    layers = model.lut_layers()
    nodes = sum(layer.nodes.count for layer in layers)
    inputs = model.config.node_input_dim
    return Counts(
        nodes=nodes,
        lut6=nodes * max(1, 2 ** (inputs - 6)),
        gates=nodes * (2**inputs - 1),
        comparators=_comparators(model),
        packed_bytes=network.bytes,
    )


def _comparators(model: SimpleFeedForward) -> int:
    """Different (feature, threshold) pairs among the bits that the first layer reads."""
    encoder = model.encoder
    wiring = model.lut_layers()[0].wiring
    read = torch.unique(wiring.indices())  # type: ignore[operator]
    feature, bit = read // encoder.num_bits, read % encoder.num_bits
    row = feature if encoder.feature_wise else torch.zeros_like(feature)
    varies = (encoder.high > encoder.low).flatten()[row]
    pairs = zip(
        feature[varies].tolist(), encoder.thresholds[row, bit][varies].tolist(), strict=True
    )
    return len(set(pairs))

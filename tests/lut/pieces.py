"""Small LUT networks, and what they compute written out the slow way."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.lut import ModelConfig, SimpleFeedForward
from eqprop_lab.lut.layers import LUTLayer

X = torch.rand(40, 12, generator=torch.Generator().manual_seed(5))


def config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "model_type": "feedforward",
        "layer_type": "random",
        "node_type": "probabilistic",
        "encoder_config": {"name": "thermometer", "num_bits": 3},
        "node_input_dim": 4,
        "layer_widths": [20, 12],
        "num_classes": 3,
        "input_size": 12,
        "seed": 1,
    }
    if changes.get("node_type") == "difflogic":
        values["node_input_dim"] = changes["node_input_dim"] = 2
    return ModelConfig(**(values | changes))


def model(**changes: Any) -> SimpleFeedForward:
    """A network with its encoder fitted to X."""
    made = SimpleFeedForward(config(**changes))
    made.fit_encoder(X)
    return made


def corners(inputs: int) -> Tensor:
    """All inputs of a node as pins (n, 1, 2^n); the first pin changes fastest."""
    rows = [bits[::-1] for bits in product((0.0, 1.0), repeat=inputs)]
    return torch.tensor(rows).t().unsqueeze(1)


def looked_up(layers: list[LUTLayer], bits: Tensor) -> Tensor:
    """Outputs (B, O) of hard layers for bits (B, inputs), a sample, a node and a pin at a time."""
    for layer in layers:
        table, index = layer.nodes.bits(), layer.wiring.indices()
        rows = []
        for sample in bits:
            row = []
            for node in range(table.shape[0]):
                read = [int(sample[int(index[pin, node])]) for pin in range(index.shape[0])]
                row.append(float(table[node, sum(bit * 2**pin for pin, bit in enumerate(read))]))
            rows.append(row)
        bits = torch.tensor(rows)
    return bits


def hard_counts(model: SimpleFeedForward, x: Tensor) -> Tensor:
    """What each class counts (N, classes), by the hard torch network."""
    mode, how = model.training, model.runtime.eval_mode
    model.eval().apply_runtime_overrides({"eval_mode": "threshold"})
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(256)])  # small parts stay in the cache
    model.train(mode).apply_runtime_overrides({"eval_mode": how})
    return (logits * model.head.tau).round().long()


def noise(samples: int, features: int = 12, seed: int = 0) -> Tensor:
    """Inputs in and around the range of X."""
    generator = torch.Generator().manual_seed(seed)
    return 1.4 * torch.rand(samples, features, generator=generator) - 0.2

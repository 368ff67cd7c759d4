"""A LUT network by its sizes, for the registry, experiment files and comparisons.

    t_i = low + i (high - low) / (num_bits + 1)

Its thresholds stand at equal distances in a range that is known, so that there is nothing to fit
before training. All that is configured otherwise is `eqprop_lab.lut`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eqprop_lab.lut import ModelConfig, SimpleFeedForward
from eqprop_lab.validation import a_seed, positive_int, real, sizes


class LUTNetwork(SimpleFeedForward):
    """Differentiable look-up tables for ``EqPropTrainer(model, gradient="autograd")``.

    Args: input_dim, output_dim; hidden_dim: nodes of each layer, the last a multiple of output_dim;
        node_input_dim: inputs of a node, 1 to 8; num_bits: of each input, between low and high
        (images lie in 0 to 1); node_type, layer_type: names as in `eqprop_lab.lut`; seed: of wiring
        and first parameters, None: drawn from the global generator.
    Shapes: x (B, input_dim) or any image shape with as many pixels -> logits (B, output_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    # the argument that widths are multiples of: every class counts as many nodes
    width_unit = "output_dim"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int | Sequence[int] = (1000, 1000),
        node_input_dim: int = 6,
        num_bits: int = 4,
        low: float = 0.0,
        high: float = 1.0,
        node_type: str = "probabilistic",
        layer_type: str = "random",
        seed: int | None = None,
    ) -> None:
        low, high = real("low", low), real("high", high)
        if not low < high:
            raise ValueError(f"low must be below high, got low={low:g}, high={high:g}")
        widths = sizes("hidden_dim", hidden_dim)
        if seed is None:
            seed = int(torch.randint(2**31, (), device="cpu"))
        super().__init__(
            ModelConfig(
                model_type="feedforward",
                layer_type=layer_type,
                node_type=node_type,
                encoder_config={"name": "thermometer", "num_bits": num_bits},
                node_input_dim=node_input_dim,
                layer_widths=[widths] if isinstance(widths, int) else widths,
                num_classes=positive_int("output_dim", output_dim),
                input_size=positive_int("input_dim", input_dim),
                seed=a_seed("seed", seed),
            )
        )
        self.input_dim, self.output_dim = int(input_dim), int(output_dim)
        self.fit_encoder(torch.tensor([low, high]).unsqueeze(1).expand(-1, self.input_dim))

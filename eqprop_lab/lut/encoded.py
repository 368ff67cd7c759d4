"""What LUT networks share that read bits and count them: the encoder before, the head behind.

x -> encoder -> layers of LUTs -> GroupSum -> logits
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.inputs import as_vectors
from eqprop_lab.lut.base_model import BaseLUTModel
from eqprop_lab.lut.config import ModelConfig
from eqprop_lab.lut.encoders import Encoder
from eqprop_lab.lut.head import GroupSum
from eqprop_lab.lut.layers import LUTLayer
from eqprop_lab.lut.registry import REGISTRY


class EncodedModel(BaseLUTModel):
    """A LUT network with encoder and head. A subclass builds its layers in `make_layers`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        options = {k: v for k, v in self.config.encoder_config.items() if k != "name"}
        make = REGISTRY.get("encoder", self.config.encoder_config["name"])
        self.encoder: Encoder = make(**options)
        if not self.encoder.flatten:
            raise ValueError("encoder_config.flatten must be true: the layers read rows of bits")
        self.layers = nn.ModuleList()
        self.head = GroupSum(self.config.num_classes)
        self.on_runtime_update()
        if self.config.input_size is not None:
            self.make_room(self.config.input_size)

    @abstractmethod
    def make_layers(self, input_size: int) -> list[LUTLayer]:
        """The layers, first to last, for inputs of that many features."""

    def make_room(self, input_size: int) -> None:
        super().make_room(input_size)
        if self.layers:
            return
        if self.encoder.features != input_size:
            self.encoder.build(input_size)
        self.layers.extend(self.make_layers(input_size))

    def dense_layers(self, first: int, inputs: int) -> list[LUTLayer]:
        """Layers of config.layer_widths on `inputs` bits; `first` is the number of the first."""
        widths, pins = self.config.layer_widths, self.config.node_input_dim
        reads = [inputs, *widths]
        # pins an output feeds: those of the next layer, or the class it is counted for
        feeds = [after * pins / width for width, after in zip(widths, widths[1:], strict=False)]
        return [
            self.make_layer(first + number, reads[number], widths[number], fan_out)
            for number, fan_out in enumerate([*feeds, 1.0])
        ]

    def on_runtime_update(self) -> None:
        super().on_runtime_update()
        outputs = self.config.layer_widths[-1] / self.config.num_classes
        tau = self.runtime.output_tau
        self.head.tau = math.sqrt(outputs) if tau is None else tau

    def fit_encoder(self, data: torch.Tensor) -> None:
        """Set the encoder's thresholds from training data (N, ...), and build the layers.

        Raises RuntimeError for an encoder that is fitted: its bits are what the layers know;
        ValueError for data that cannot be encoded.
        """
        if self.encoder.fitted:
            raise RuntimeError("the encoder is fitted already; build a new model for other data")
        rows = data.flatten(1) if isinstance(data, Tensor) and data.ndim > 2 else data
        self.encoder.fit(rows)
        if not self.layers:
            self.make_room(rows.shape[1])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Bits (B, input_size num_bits) of x. Raises RuntimeError before `fit_encoder`."""
        return self.encoder.encode(as_vectors(x, self.encoder.features) if self.layers else x)

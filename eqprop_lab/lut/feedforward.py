"""The plain LUT network: bits of the input, layers of LUTs, one count a class.

x -> encoder -> layer 1 -> ... -> layer L -> GroupSum -> logits
"""

from __future__ import annotations

import torch
from torch import Tensor

from eqprop_lab.lut.encoded import EncodedModel
from eqprop_lab.lut.layers import LUTLayer
from eqprop_lab.lut.registry import REGISTRY


@REGISTRY.register_model("feedforward")
class SimpleFeedForward(EncodedModel):
    """LUT network of fully random, or learned, wiring.

    Its layers are built with it where config.input_size is known, else in `fit_encoder`. Training
    computes the relaxation, `eval()` what runtime eval_mode says, truth tables by default.
    Shapes: x (B, input_size), or any image shape with as many pixels -> logits (B, num_classes).
    """

    def make_layers(self, input_size: int) -> list[LUTLayer]:
        return self.dense_layers(0, input_size * self.encoder.num_bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.encode(x)
        for layer in self.layers:
            found = layer(found)
        logits: Tensor = self.head(found)
        return logits

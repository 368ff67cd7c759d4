"""The plain LUT network: bits of the input, layers of LUTs, one count a class.

x -> encoder -> layer 1 -> ... -> layer L -> GroupSum -> logits
"""

from __future__ import annotations

from typing import Any

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


def hard_layers(model: SimpleFeedForward) -> list[tuple[Tensor, Tensor]]:
    """Wiring (n, O) and truth tables (O, 2^n) of every layer, on the CPU.

    Raises TypeError for another kind of model, RuntimeError for one that is not fitted.
    """
    if not isinstance(model, SimpleFeedForward):
        raise TypeError(f"model must be a SimpleFeedForward, got {type(model).__name__}")
    if not model.encoder.fitted:
        raise RuntimeError("the model must be fitted: call fit_encoder() first")
    wiring: list[Any] = [layer.wiring for layer in model.lut_layers()]
    pairs = zip(wiring, model.truth_tables(), strict=True)
    return [(pins.indices().cpu(), table.cpu()) for pins, table in pairs]

"""Differentiable look-up tables: networks of n-input Boolean functions that are trained by
gradient.

    model = SimpleFeedForward(ModelConfig(...));   model.fit_encoder(train.x)
    EqPropTrainer(model, gradient="autograd").fit(train.batches(128, shuffle=True))
    model = build_model("digits_small")

What is imported here is what the names of a configuration stand for.
"""

from __future__ import annotations

from eqprop_lab.lut import learned_wiring, structured_wiring
from eqprop_lab.lut.base_model import BaseLUTModel
from eqprop_lab.lut.config import ModelConfig
from eqprop_lab.lut.convnet import ConvNet
from eqprop_lab.lut.factory import (
    build_model,
    get_pretrained_model_info,
    list_pretrained_models,
    load_pretrained,
)
from eqprop_lab.lut.feedforward import SimpleFeedForward
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.lut.utils import initializers, regularizers

__all__ = [
    "REGISTRY",
    "BaseLUTModel",
    "ConvNet",
    "ModelConfig",
    "SimpleFeedForward",
    "build_model",
    "get_pretrained_model_info",
    "initializers",
    "learned_wiring",
    "list_pretrained_models",
    "load_pretrained",
    "regularizers",
    "structured_wiring",
]

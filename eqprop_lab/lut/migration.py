"""The old way to describe a LUT network, refused with the new one written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqprop_lab.validation import shown


def LayeredFeedForward(config: Mapping[str, Any], input_size: int, num_classes: int) -> None:
    """Raises TypeError, which says the ModelConfig that means the same."""
    encoder = config.get("encoder", {}) if isinstance(config, Mapping) else {}
    said = dict(config) if isinstance(config, Mapping) else {}
    new = {
        "model_type": "feedforward",
        "layer_type": said.get("layer_type", "random"),
        "node_type": said.get("node_type", "probabilistic"),
        "encoder_config": encoder,
        "node_input_dim": said.get("node_input_dim", 6),
        "layer_widths": said.get("hidden_sizes", [1000, 1000]),
        "num_classes": num_classes,
        "input_size": input_size,
    }
    arguments = ", ".join(f"{key}={shown(value)}" for key, value in new.items())
    raise TypeError(
        "LayeredFeedForward(config, input_size, num_classes) is now "
        f"build_model(ModelConfig({arguments})), from eqprop_lab.lut; node_params go into "
        "node_config and runtime"
    )

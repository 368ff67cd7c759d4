"""Presets by name: ready sizes of models, from `assets/presets.yaml`.

create_model_preset("mnist_small", hidden_dim=512)
"""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from eqprop_lab.models.registry import model_registry
from eqprop_lab.validation import known_keys, one_of
from eqprop_lab.yaml_files import read_yaml


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    return read_yaml(Path(str(resources.files("eqprop_lab"))) / "assets/presets.yaml")["models"]


def list_presets(constructible: bool = False) -> list[str]:
    """Names of all model presets; `constructible`: those whose model is part of this version."""
    return [
        name
        for name, entry in _presets().items()
        if not constructible or entry["model"] in model_registry
    ]


def preset_model(name: str) -> str:
    """Name of the model a preset builds ("LoopedMLP"). Raises ValueError for an unknown preset."""
    return _presets()[one_of("name", name, list_presets())]["model"]


def get_model_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Constructor arguments of a preset, some replaced: ``LoopedMLP(**get_model_config(NAME))``.

    Overrides may be any argument of the model; for a model that is not part of this version, any
    the preset sets.
    Raises: ValueError for an unknown preset or override, with the nearest known name.
    """
    model = preset_model(name)
    params = _presets()[name]["params"]
    known = model_registry.parameters(model) if model in model_registry else params
    if known is not None:
        known_keys(f"the overrides of {name!r} ({model})", overrides, known)
    return {**params, **overrides}


def create_model_preset(name: str, **overrides: Any) -> nn.Module:
    """Build the model of a preset; `overrides` replace its arguments or add to them (``seed=0``).

    Raises: ValueError for an unknown preset, an unknown override, a bad value, or a preset whose
    model is not part of this version (the message lists those that are).
    """
    config = get_model_config(name, **overrides)
    model = preset_model(name)
    if model not in model_registry:
        raise ValueError(
            f"preset {name!r} builds a {model}, which is not part of this version; "
            f"constructible presets: {', '.join(list_presets(constructible=True))}"
        )
    return model_registry.create(model, **config)

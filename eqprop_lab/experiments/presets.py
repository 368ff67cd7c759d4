"""Presets and data set facts by name; the data itself stands in `presets.yaml`.

create_model_preset("mnist_small", hidden_dim=512)      get_dataset_info("cifar-10")["input_dim"]
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from eqprop_lab.models.registry import model_registry
from eqprop_lab.validation import known_keys, one_of
from eqprop_lab.yaml_files import read_yaml


@functools.cache
def _tables() -> dict[str, dict[str, Any]]:
    return read_yaml(Path(str(resources.files("eqprop_lab"))) / "assets/presets.yaml")


def list_presets(constructible: bool = False) -> list[str]:
    """Names of all model presets; `constructible`: only those whose model is part of this version."""
    presets = _tables()["models"]
    return [
        name
        for name, entry in presets.items()
        if not constructible or entry["model"] in model_registry
    ]


def preset_model(name: str) -> str:
    """Name of the model a preset builds, e.g. "LoopedMLP". Raises ValueError for an unknown preset."""
    return _tables()["models"][one_of("name", name, list_presets())]["model"]


def get_model_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Constructor arguments of a preset with `overrides` in place:
    ``LoopedMLP(**get_model_config("mnist_tiny"))``.

    Overrides may be any argument of the model; for a model that is not part of this version, any
    the preset sets.
    Raises: ValueError for an unknown preset or override, with the nearest known name.
    """
    model = preset_model(name)
    params = _tables()["models"][name]["params"]
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


def dataset_name(name: str) -> str:
    """The name `build_dataset` uses for a spelling: "CIFAR10", "cifar-10" and "cifar_10" are all
    "cifar10".

    Raises ValueError naming the nearest known set.
    """
    known = _tables()["datasets"]
    plain = {_plain(key): key for key in known}
    if isinstance(name, str) and len(name) < 100 and _plain(name) in plain:
        return plain[_plain(name)]
    return one_of("name", name, known)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def get_dataset_info(name: str) -> dict[str, Any]:
    """{"name", "input_dim", "output_dim", "channels", "size"} of a data set, without loading it.

    input_dim: features of one sample; output_dim: number of classes; size: pixels a side, None for
    points in the plane. Any usual spelling of the name is accepted. Raises ValueError for unknown
    sets.
    """
    key = dataset_name(name)
    return {"name": key, **_tables()["datasets"][key]}

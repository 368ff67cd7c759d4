"""Files of weights: tensors, and the structural parameters they belong to.

    {"structure": {...}, "tensors": {name: tensor}}          torch.save, read with weights_only

Tables of one node type have the shape of another's: what they are must be said, so that nothing is
loaded into what it was not trained as.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.files import replace_file
from eqprop_lab.lut.config import DEFAULTED, STRUCTURAL, ModelConfig, alike
from eqprop_lab.validation import a_path

KEYS = {"structure", "tensors"}


def structure(config: ModelConfig) -> dict[str, Any]:
    """The structural parameters, as plain values."""
    values = config.to_dict()
    return {name: values[name] for name in (*STRUCTURAL, *DEFAULTED)}


def halved(tensor: Tensor, turn: float) -> Tensor:
    """float32 as float16, on its side of `turn`: what rounds to that value would turn its bit."""
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.clamp(-65504, 65504).half()
    below = float(np.nextafter(np.float16(turn), np.float16(-np.inf)))
    return torch.where((tensor < turn) & (half >= turn), torch.full_like(half, below), half)


def write(
    path: str | Path, config: ModelConfig, tensors: Mapping[str, Tensor], half: Mapping[str, float]
) -> Path:
    """Write a file of weights, whole or not at all. half: `turn` of what is stored in float16."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    stored = {n: halved(value, half[n]) if n in half else value for n, value in plain.items()}
    content = {"structure": structure(config), "tensors": stored}
    return replace_file(a_path("path", path), lambda file: torch.save(content, file))


def read(path: str | Path, config: ModelConfig) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(structure, tensors) of a file that fits the configuration.

    Raises FileNotFoundError; ValueError naming the file, and what it is or what does not fit.
    """
    file = a_path("path", path)
    if not file.is_file():
        raise FileNotFoundError(f"Weights not found: {file}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise ValueError(f"{file} cannot be read as weights: {str(error)[:200]}") from error
    if not isinstance(content, dict) or content.keys() != KEYS:
        raise ValueError(f"{file} is not what save_weights writes")
    there, here = content["structure"], structure(config)
    if here["input_size"] is None:
        here["input_size"] = there.get("input_size")
    for name, value in here.items():
        if not alike(name, there.get(name, {}), value):  # sections came one by one
            raise ValueError(
                f"{file} holds weights of another model: {name} is {there.get(name)!r} there, "
                f"{value!r} in the configuration"
            )
    return there, content["tensors"]

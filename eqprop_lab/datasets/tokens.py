"""Tokens, from whatever holds numbers, as one checked array."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from eqprop_lab.validation import shown


def token_array(name: str, tokens: object, vocab_size: int) -> np.ndarray:
    """tokens (N,) of a tensor, an array or a list, each from 0 to vocab_size - 1, as int64.

    Raises: TypeError, ValueError naming `name`.
    """
    wanted = f"{name} must be one sequence (N,) of integers"
    given = tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else tokens
    if not isinstance(given, np.ndarray | list | tuple):
        raise TypeError(f"{wanted}, got {shown(given)} ({type(given).__name__})")
    try:
        array = np.asarray(given)
    except (ValueError, OverflowError) as error:
        raise TypeError(f"{wanted}, got {shown(given)}") from error
    if array.ndim != 1:
        raise ValueError(f"{wanted}, got shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{wanted}, got {array.dtype}")
    if array.size and not (0 <= array.min() and array.max() < vocab_size):
        raise ValueError(
            f"{name} must be from 0 to {vocab_size - 1}, got {array.min()} to {array.max()}"
        )
    return array.astype(np.int64)

"""What a loader yields, as one pair of tensors on one device: from torch's loaders, lists,
generators, NumPy.

A pair (x, y) or {"x": ..., "y": ...} is taken; anything else is refused with what it is: which of
three parts is the target, and whether the third is a weight, cannot be known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.datasets import Batches
from eqprop_lab.validation import real, shown

NUMBERS = Sequence | np.ndarray | np.generic | float | int
PAIR = "a batch must be a pair (x, y), or a mapping with the keys 'x' and 'y'"


def length(items: object) -> int | None:
    """How many batches a loader, or samples a set, says it has; None for a stream."""
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_loader(name: str, loader: object, epochs: int) -> None:
    """Raise TypeError, ValueError unless `loader` can be gone through in each of the epochs."""
    if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
        raise TypeError(
            f"{name} must yield batches (x, y), got {shown(loader)} ({type(loader).__name__})"
        )
    if isinstance(loader, Iterator) and epochs > 1:
        raise ValueError(
            f"{name} must be something that can be gone through {epochs} times, once an epoch, "
            f"got a {type(loader).__name__}, which is used up after one; give a list of batches or "
            "a loader"
        )


def pair(item: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """(x, y) of one batch on `device`. Raises TypeError, ValueError: what the batch is instead."""
    if isinstance(item, Mapping):
        if set(item) != {"x", "y"}:
            raise TypeError(
                f"{PAIR}, got a mapping with the keys {shown(sorted(map(str, item)))}; wrap the "
                "loader, as in [(b['image'], b['label']) for b in loader]"
            )
        item = item["x"], item["y"]
    if isinstance(item, Tensor | np.ndarray | str) or not isinstance(item, Sequence):
        form = f" of shape {tuple(item.shape)}" if isinstance(item, Tensor | np.ndarray) else ""
        raise TypeError(
            f"{PAIR}, got a {type(item).__name__}{form}; a single batch is given as [(x, y)]"
        )
    if len(item) != 2:
        parts = ", ".join(type(part).__name__ for part in item[:8])
        raise ValueError(
            f"{PAIR}, got {len(item)} parts ({parts}); wrap the loader, as in "
            "[(x, y) for x, y, *_ in loader]"
        )
    return _tensor("x", item[0], device), _tensor("y", item[1], device)


def _tensor(name: str, value: Any, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(device)
    wanted = f"{name} must be a tensor, an array or a list of numbers, got {shown(value)}"
    if isinstance(value, str) or not isinstance(value, NUMBERS):
        raise TypeError(wanted)
    try:
        # copied: torch warns of arrays that it may not write to
        if isinstance(value, np.ndarray | np.generic):
            return torch.from_numpy(np.array(value)).to(device)
        return torch.tensor(value, device="cpu").to(device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{wanted}: {error}") from error


def check_logits(logits: object, x: Tensor) -> Tensor:
    """The logits (B, K) a module has made of x (B, ...).

    Raises TypeError, ValueError for anything else.
    """
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"model must return logits (B, classes) as one tensor, got a {type(logits).__name__}"
        )
    if logits.ndim not in (2, 3) or len(logits) != len(x):
        raise ValueError(
            f"model must return logits (B, classes), or (B, tokens, classes), for x of shape "
            f"{tuple(x.shape)}, got shape {tuple(logits.shape)}"
        )
    return logits


def by_row(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(logits (rows, K), targets (rows, ...)): one row a sample, or one a token.

    Raises ValueError where logits of tokens (B, T, K) come with other targets than tokens (B, T).
    """
    if logits.ndim == 3:
        if y.shape != logits.shape[:2]:
            raise ValueError(
                f"y must have one target a token, as (B, T) = {tuple(logits.shape[:2])}, "
                f"got shape {tuple(y.shape)}"
            )
        logits = logits.flatten(0, 1)
        y = y.flatten()
    return logits, y


def hold_out(loader: object, val_loader: object, part: float) -> tuple[Batches, Batches]:
    """Two loaders from one: a part that trains, as before, and one that validates, unaugmented.

    Every fit holds out the same samples. Raises TypeError, ValueError.
    """
    part = real("validation_split", part, above=0.0, below=1.0)
    if val_loader is not None:
        raise ValueError(
            "validation_split and val_loader are two ways to validate: give one of them"
        )
    if not isinstance(loader, Batches):
        raise TypeError(
            "validation_split needs a train_loader made by Split.batches or get_lm_dataset, got "
            f"{type(loader).__name__}; give a val_loader instead"
        )
    return loader.hold_out(part)

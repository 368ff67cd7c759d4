"""The random generators of a process.

Drawing from a seed without touching them, seeding them all, and their state as plain containers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from eqprop_lab.validation import a_seed


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Inside, torch's generators start from `seed`, and are afterwards as they were.

    None: the global ones go on.

    It is the CPU's generator, and that of the default device where that is another. What is made
    inside can be trained, also where the caller is in inference_mode. Raises TypeError, ValueError
    for what is no seed.
    """
    number = None if seed is None else a_seed("seed", seed)
    kind = torch.get_default_device().type
    others = [torch.cuda.current_device()] if kind == "cuda" else []
    with (
        torch.random.fork_rng(devices=others, enabled=number is not None),
        torch.inference_mode(False),
    ):
        if number is not None:
            # Not torch.manual_seed: that seeds the generators of every device there is.
            torch.default_generator.manual_seed(number)
            if kind in ("cuda", "mps"):
                getattr(torch, kind).manual_seed(number)
        yield


def seed_everything(seed: int) -> int:
    """Seed Python's, NumPy's and torch's global generators (all devices), and return the seed.

    seed: 0 <= seed < 2^32, which is what all three accept. Raises TypeError, ValueError. Shuffling
    loaders of `Split.batches` and models with a `seed` of their own have their own generators.
    """
    seed = a_seed("seed", seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


def rng_state(cuda: bool = False) -> dict[str, Any]:
    """State of the global generators: tensors, numbers, tuples only.

    cuda: those of all CUDA devices too.
    """
    numpy: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = numpy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else None,
        "numpy": (
            str(kind),
            torch.from_numpy(keys.astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ),
        "python": random.getstate(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the global generators back where `rng_state` found them.

    CUDA generators only if they were asked for.
    """
    kind, keys, *rest = state["numpy"]
    torch.set_rng_state(state["torch"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])
    if state["cuda"] is not None and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])

"""Drawing from a seed without touching the global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from eqprop_lab.validation import a_seed


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Inside, torch's CPU generator starts from `seed`, and is afterwards as it was; None: the global one goes on.

    Raises TypeError, ValueError for what is no seed.
    """
    number = None if seed is None else a_seed("seed", seed)
    with torch.random.fork_rng(devices=[], enabled=number is not None):
        if number is not None:
            torch.manual_seed(number)
        yield

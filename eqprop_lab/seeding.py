"""Drawing from a seed without touching the global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from eqprop_lab.validation import a_seed


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Inside, torch's generators start from `seed`, and are afterwards as they were; None: the
    global ones go on.

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

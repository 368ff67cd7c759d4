"""The processes of one training, as `torchrun` starts them: who I am, and what all of us add up.

    rank r of R has the rows  [r B / R, (r + 1) B / R)  of a batch of B

Gloo joins processes on CPUs, NCCL those with a GPU each.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from eqprop_lab.devices import pick_device
from eqprop_lab.training.sources import digest_of
from eqprop_lab.validation import real, shown

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
_JOINED = itertools.count()
START = "torchrun --standalone --nproc-per-node 2 script.py"


@dataclass(frozen=True)
class Group:
    """rank: of this process, from 0; ranks: how many there are; device: where this one computes."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the rank that prints, and that writes files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """The rows of this rank in a batch of `count`; shares differ by one row at most.

        Raises ValueError where a rank would get none.
        """
        if count < self.ranks:
            raise ValueError(
                f"a batch must have a sample for each of the {self.ranks} ranks, got {count}"
            )
        return slice(*(count * r // self.ranks for r in (self.rank, self.rank + 1)))

    def add(self, flat: Tensor) -> Tensor:
        """The sum over all ranks, in place of the tensor: the same bits everywhere."""
        distributed.all_reduce(flat)
        return flat

    def gather(self, value: Any) -> list[Any]:
        """The plain values of all ranks, in their order; every rank waits for the last one."""
        found = [None] * self.ranks
        distributed.all_gather_object(found, value)
        return found

    def agree(self, facts: Mapping[str, object]) -> None:
        """Raise ValueError naming the first rank, and the facts, that are not those of rank 0."""
        told = self.gather({name: digest_of(fact) for name, fact in facts.items()})
        for rank, theirs in enumerate(told):
            if other := [name for name in facts if theirs[name] != told[0][name]]:
                raise ValueError(
                    f"ranks must have the same {', '.join(other)}: rank {rank} has other ones than "
                    "rank 0; seed models and loaders alike on all of them, and give all of them "
                    "the same files"
                )

    def place(self, device: object) -> torch.device:
        """Its device, where None or one of that kind is asked for. Raises TypeError, ValueError."""
        asked = self.device if device is None else torch.device(str(device))
        if asked.type != self.device.type:
            raise ValueError(
                f"device must be of the kind that the group was made for, {self.device.type!r}, "
                f"got {shown(device)}"
            )
        return self.device


def launched() -> bool:
    """Whether torchrun has started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def restarts() -> int:
    """How often torchrun has started this training anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _name() -> str:
    """Of the next group: the store outlives a restart and a group, and its addresses with it.

    Nodes may count restarts differently: there it is torch's own affair.
    """
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return f"group_{next(_JOINED)}_{restarts() if alone else 0}"


@contextmanager
def process_group(device: str = "cpu", timeout: float = 600.0) -> Iterator[Group]:
    """Join the processes that torchrun has started, and leave them when the body ends.

    device: "cpu" (Gloo), or "cuda" (NCCL; each process takes the GPU of its local rank). timeout:
    seconds after which a rank that waits for another one gives up. Raises ValueError naming the
    argument, the variable that is missing or the GPU that is not here; RuntimeError for a torch
    without that backend.
    """
    kind = torch.device(device).type if isinstance(device, str) else device
    if kind not in BACKENDS:
        raise ValueError(f"device must be 'cpu' or 'cuda' for a group, got {shown(device)}")
    wait = timedelta(seconds=real("timeout", timeout, above=0.0))
    if missing := [name for name in VARIABLES if name not in os.environ]:
        raise ValueError(
            f"a group of processes needs the variables of torchrun, {', '.join(missing)} is "
            f"missing; start it by: {START}"
        )
    place = pick_device(f"cuda:{os.environ['LOCAL_RANK']}" if kind == "cuda" else "cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    store, rank, ranks = next(distributed.rendezvous("env://", timeout=wait))
    own = distributed.PrefixStore(_name(), store)
    distributed.init_process_group(
        BACKENDS[kind],
        timeout=wait,
        store=own,
        rank=rank,
        world_size=ranks,
        device_id=place if kind == "cuda" else None,
    )
    try:
        yield Group(rank, ranks, place)
    finally:
        distributed.destroy_process_group()

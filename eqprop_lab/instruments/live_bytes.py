"""The bytes of all tensors alive, operation by operation: what memory figures are read from."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class MemoryTimeline(TorchDispatchMode):
    """Bytes of all tensors alive after every operation inside the block.

    `held`: tensors (nested as they come) that exist already and count as long as they live.
    Workspaces inside an operation are invisible; NumPy arrays count where they share a tensor's
    memory.
    """

    def __init__(self, held: Any = ()) -> None:
        super().__init__()
        self.live: list[int] = []
        self._bytes = 0
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._watch(storages(held))

    @property
    def peak(self) -> int:
        """Largest entry of the timeline, in bytes."""
        return max(self.live, default=0)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        before = {id(storage) for storage in storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        # What an operation was given existed before the block, unless it is watched already.
        self._watch(storage for storage in storages(result) if id(storage) not in before)
        self.live.append(self._bytes)
        return result

    def _watch(self, found: Iterable[torch.UntypedStorage]) -> None:
        for storage in found:
            key = id(storage)
            size = storage.nbytes()
            if key in self._watched:
                continue

            def freed(_: object, key: int = key, size: int = size) -> None:
                self._bytes -= size
                del self._watched[key]

            self._watched[key] = weakref.ref(storage, freed)
            self._bytes += size


def storages(tensors: Any) -> list[torch.UntypedStorage]:
    """The storages of all tensors in a nested structure, one a tensor."""
    return [t.untyped_storage() for t in tree_iter(tensors) if isinstance(t, Tensor)]

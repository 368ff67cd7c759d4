"""Whole-set tensors cut into train, validation and test, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.devices import pick_device
from eqprop_lab.validation import a_seed, positive_int, real, switch


class DataUnavailable(RuntimeError):
    """The files of a data set are neither on this machine nor to be had from it."""


class Batches:
    """(x, y) batches of a split, iterable again and again.

    The order and the augmentation are drawn anew each time, both from `generator` and from nothing
    else: whoever keeps its state can go on exactly.
    """

    def __init__(
        self, split: Split, size: int, shuffle: bool, seed: int, augment: Augmentation | None = None
    ) -> None:
        if augment is not None:
            augment.check(split.x.shape[1:])
        self.split = split
        self.augment = augment
        self.size = positive_int("size", size)
        self.shuffle = switch("shuffle", shuffle)
        self.generator = torch.Generator(device="cpu").manual_seed(a_seed("seed", seed))

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    @property
    def facts(self) -> dict[str, Any]:
        """What tells these batches from others, as plain values; the data have a digest."""
        return {
            "batch_size": self.size,
            "shuffle": self.shuffle,
            "augment": None if self.augment is None else repr(self.augment),
            "samples": len(self.split),
        }

    def hold_out(self, fraction: float) -> tuple[Batches, Batches]:
        """(what trains, as before; a `fraction` that validates, unaugmented, in order).

        What is held out is drawn with a fixed seed, so that it is always the same.

        Raises TypeError, ValueError for a fraction outside (0, 1) or one that leaves a part empty.
        """
        kept, held = self.split.split(fraction)
        rest = Batches(kept, self.size, self.shuffle, seed=0, augment=self.augment)
        rest.generator = self.generator
        return rest, held.batches(self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self._plain():
            yield (x if self.augment is None else self.augment(x, self.generator)), y

    def _plain(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.shuffle:
            yield from zip(
                self.split.x.split(self.size), self.split.y.split(self.size), strict=True
            )
            return
        order = torch.randperm(len(self.split), generator=self.generator, device="cpu").to(
            self.split.x.device
        )
        for rows in order.split(self.size):
            yield self.split.x[rows], self.split.y[rows]


@dataclass(frozen=True)
class Split:
    """x (N, ...) float32, y (N,) int64, both whole in memory and on one device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: str | torch.device) -> Split:
        """The whole set on `device`: nothing is copied to it while training.

        Batches are cut and augmented there.
        """
        place = pick_device(device)
        return Split(self.x.to(place), self.y.to(place))

    def split(self, fraction: float, seed: int = 0) -> tuple[Split, Split]:
        """(the rest, a random `fraction` held out), each in its old order.

        The same for the same seed.

        Raises ValueError for a fraction outside (0, 1) or one that leaves either part empty.
        """
        held = round(len(self) * real("fraction", fraction, above=0.0, below=1.0))
        if not 0 < held < len(self):
            raise ValueError(
                f"fraction must leave samples in both parts: {fraction} of {len(self)} is {held}"
            )
        generator = torch.Generator(device="cpu").manual_seed(a_seed("seed", seed))
        order = torch.randperm(len(self), generator=generator, device="cpu")
        parts = (order[held:].sort().values, order[:held].sort().values)
        rest, out = (Split(self.x[rows], self.y[rows]) for rows in parts)
        return rest, out

    def batches(
        self,
        batch_size: int = 64,
        shuffle: bool = False,
        seed: int = 0,
        augment: Augmentation | None = None,
    ) -> Batches:
        """A re-iterable of (x, y) batches, the last one may be smaller.

        shuffle: a new order each time; augment: changes the images of every batch; both draw from
        `seed`. Raises ValueError for a size below 1 or images that `augment` cannot change so.
        """
        return Batches(self, positive_int("batch_size", batch_size), shuffle, seed, augment)


@dataclass(frozen=True)
class DataSet:
    """train, validation, test: Split. classes: names by index. input_shape: shape of one sample."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    unit: ClassVar = "samples"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch."""
        return tuple(self.train.x.shape[1:])

    @property
    def input_dim(self) -> int:
        """Number of features of one sample."""
        return int(np.prod(self.input_shape))


def as_pixels(images: Tensor) -> Tensor:
    """uint8 0..255 of any shape -> float32 in [0, 1], contiguous."""
    return images.contiguous().float().div_(255)

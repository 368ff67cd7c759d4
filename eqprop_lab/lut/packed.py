"""The hard network on bits, 64 samples a machine word, in NumPy alone.

    t <- t_0 ^ ((t_0 ^ t_1) & x)        pin after pin, the lowest first

Tables of constants are folded by one pin after the other until one word a node is left: 2^n - 1
choices for 64 samples. Everything is exact: counts are those of the truth tables, whatever the
network was trained with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from eqprop_lab.lut.feedforward import SimpleFeedForward, hard_layers
from eqprop_lab.lut.hardening import hardened
from eqprop_lab.modules import evaluated

Words = NDArray[np.uint64]
CHUNK = 1024  # samples at a time: the words of a layer stay in the cache
ALL = np.uint64(2**64 - 1)


def packed(bits: NDArray[np.bool_]) -> Words:
    """Bits (rows, N) as words (rows, ceil(N / 64)), sample 0 the lowest bit; padded with 0."""
    padding = -bits.shape[1] % 64
    whole = np.pad(bits, ((0, 0), (0, padding)))
    found = np.packbits(whole, axis=1, bitorder="little")
    return np.ascontiguousarray(found).view(np.uint64)  # in the order of its samples


def unpacked(words: Words, samples: int) -> NDArray[np.uint8]:
    """Words (rows, W) as 0 and 1, (rows, samples)."""
    return np.unpackbits(words.view(np.uint8), axis=1, count=samples, bitorder="little")


def feature_rows(x: ArrayLike, features: int, dtype: DTypeLike) -> NDArray[Any]:
    """x as (N, features). Raises ValueError for another width, or values that are not finite."""
    rows = np.asarray(x, dtype)
    rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    if rows.shape[1] != features:
        raise ValueError(f"x must hold {features} features each, got shape {np.shape(x)}")
    if not np.isfinite(rows).all():
        raise ValueError("x holds NaN or infinite values; every input must be finite")
    return rows


@dataclass(frozen=True)
class PackedLayer:
    """index (n, O): the input of every pin. first, change: (O, 2^(n-1)) words of all ones or none,
    the entry where the lowest pin is 0, and whether it turns with that pin.
    """

    index: NDArray[np.int64]
    first: Words
    change: Words

    @classmethod
    def of(cls, index: Tensor, table: Tensor) -> PackedLayer:
        """From wiring (n, O) and truth tables (O, 2^n)."""
        zero, one = table[:, 0::2].numpy(), table[:, 1::2].numpy()
        first, change = (np.where(bits, ALL, np.uint64(0)) for bits in (zero, zero ^ one))
        return cls(index.long().numpy(), first, change)

    def __call__(self, words: Words) -> Words:
        """(inputs, W) -> (O, W)."""
        lowest, *pins = (words[row][:, None] for row in self.index)
        found = self.change[:, :, None] & lowest
        found ^= self.first[:, :, None]
        for pin in pins:
            zero, one = found[:, 0::2], found[:, 1::2]
            turned = zero ^ one
            turned &= pin
            turned ^= zero
            found = turned
        return found[:, 0]


class PackedNetwork:
    """A feed-forward LUT network for inference without torch.

    model: fitted; its truth tables, wiring and thresholds are copied. Raises TypeError for another
    kind of model, RuntimeError for one that is not fitted.
    """

    def __init__(self, model: SimpleFeedForward) -> None:
        self.layers = [PackedLayer.of(*pair) for pair in hard_layers(model)]
        encoder = model.encoder
        self.thresholds = encoder.thresholds.cpu().numpy()
        self.range = None
        if encoder.clip_inputs:
            self.range = encoder.low.cpu().numpy(), encoder.high.cpu().numpy()
        self.features, self.classes, self.tau = encoder.features, model.head.classes, model.head.tau
        self.widths = np.array_split(np.arange(len(self.layers[-1].first)), self.classes)

    @property
    def bytes(self) -> int:
        """Of tables (one bit an entry) and wiring (two bytes a pin, four where inputs ask)."""
        total = 0
        for layer in self.layers:
            pin = 2 if int(layer.index.max()) < 2**16 else 4
            total += math.ceil(2 * layer.first.size / 8) + pin * layer.index.size
        return total

    def encode(self, x: NDArray[np.floating]) -> Words:
        """x (N, features) -> words of bits (features b, ceil(N / 64))."""
        columns = np.ascontiguousarray(x.T)
        if self.range is not None:
            columns = np.clip(columns, *self.range)
        bits = columns[:, None] > self.thresholds[:, :, None]
        return packed(bits.reshape(-1, x.shape[0]))

    def counts(self, x: NDArray[np.floating]) -> NDArray[np.int64]:
        """How many outputs of each class are 1, (N, classes).

        x (N, features), or any image shape with as many pixels. Raises ValueError for another
        width, or values that are not finite.
        """
        return self._all_counted(feature_rows(x, self.features, self.thresholds.dtype))

    def _all_counted(self, rows: NDArray[np.floating]) -> NDArray[np.int64]:
        """`counts` of rows that have been looked at."""
        chunks = [self._counted(rows[at : at + CHUNK]) for at in range(0, len(rows), CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.classes), np.int64)

    def _counted(self, rows: NDArray[np.floating]) -> NDArray[np.int64]:
        words = self.encode(rows)
        for layer in self.layers:
            words = layer(words)
        outputs = unpacked(np.ascontiguousarray(words), len(rows))
        starts = [int(part[0]) for part in self.widths]
        return np.add.reduceat(outputs, starts, axis=0, dtype=np.int64).T

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Logits (N, classes) of the hard network."""
        return (self.counts(x) / self.tau).astype(np.float32)

    def mismatches(self, model: SimpleFeedForward, x: Tensor) -> int:
        """How many samples of x have other counts than the hard torch network."""
        layers = range(len(model.lut_layers()))
        with torch.no_grad(), evaluated(model), hardened(model, layers):
            logits = model(x) * model.head.tau
        wanted = logits.cpu().round().long().numpy()
        return int((self.counts(x.cpu().numpy()) != wanted).any(1).sum())

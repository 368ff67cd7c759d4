"""Data sets as whole-set tensors with a fixed train / validation / test split.

`digits` (8x8 images, shipped with scikit-learn) is the default and needs no download; its stratified split is frozen in
``data/digits_split.json``. The torchvision sets hold out the last images of the published training set for validation.
Recipes are chosen on `validation`; `test` is looked at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.validation import known_keys, one_of, positive_int, real
from eqprop_lab.vision_compat import import_torchvision


class DataUnavailable(RuntimeError):
    """The files of a data set are neither on this machine nor to be had from it."""


class Batches:
    """(x, y) batches of a split, iterable again and again; shuffled anew each time from its own generator."""

    def __init__(self, split: Split, size: int, shuffle: bool, seed: int) -> None:
        self.split, self.size, self.shuffle = split, size, shuffle
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.shuffle:
            yield from zip(self.split.x.split(self.size), self.split.y.split(self.size), strict=True)
            return
        for rows in torch.randperm(len(self.split), generator=self.generator).split(self.size):
            yield self.split.x[rows], self.split.y[rows]


@dataclass(frozen=True)
class Split:
    """x (N, ...) float32, y (N,) int64, both whole in memory."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def split(self, fraction: float, seed: int = 0) -> tuple[Split, Split]:
        """(the rest, a random `fraction` held out), each in its old order; the same for the same seed.

        Raises ValueError for a fraction outside (0, 1) or one that leaves either part empty.
        """
        held = round(len(self) * real("fraction", fraction, above=0.0, below=1.0))
        if not 0 < held < len(self):
            raise ValueError(f"fraction must leave samples in both parts: {fraction} of {len(self)} is {held}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        rest, out = order[held:].sort().values, order[:held].sort().values
        return Split(self.x[rest], self.y[rest]), Split(self.x[out], self.y[out])

    def batches(self, batch_size: int = 64, shuffle: bool = False, seed: int = 0) -> Batches:
        """A re-iterable of (x, y) batches, the last one may be smaller; shuffle: a new order each time, from `seed`."""
        return Batches(self, positive_int("batch_size", batch_size), shuffle, seed)


@dataclass(frozen=True)
class DataSet:
    """train, validation, test: Split. classes: names by index. input_shape: shape of one sample."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch."""
        return tuple(self.train.x.shape[1:])

    @property
    def input_dim(self) -> int:
        """Number of features of one sample."""
        return int(np.prod(self.input_shape))


@dataclass(frozen=True)
class _Vision:
    """A torchvision set: its class, the file that shows it is there, and how its test part is asked for."""

    cls: str
    file: str
    classes: tuple[str, ...] | None = None
    by_split: bool = False


_IDX = "raw/train-images-idx3-ubyte"
VISION = {
    "mnist": _Vision("MNIST", f"MNIST/{_IDX}"),
    "fashion_mnist": _Vision("FashionMNIST", f"FashionMNIST/{_IDX}"),
    "kmnist": _Vision("KMNIST", f"KMNIST/{_IDX}"),
    "svhn": _Vision("SVHN", "train_32x32.mat", tuple("0123456789"), by_split=True),
    "cifar10": _Vision("CIFAR10", "cifar-10-batches-py/data_batch_1"),
    "cifar100": _Vision("CIFAR100", "cifar-100-python/train"),
}
NAMES = ("digits", "two_moons", "xor", *VISION)


def data_dir() -> Path:
    """Where downloaded sets live: $EQPROP_DATA_DIR, else `data/` of the checkout, else a cache folder of the user."""
    chosen = os.environ.get("EQPROP_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser()
    checkout = Path(__file__).resolve().parents[1]
    return checkout / "data" if (checkout / "pyproject.toml").exists() else Path.home() / ".cache" / "eqprop_lab"


def build_dataset(name_or_config: str | Mapping[str, Any]) -> DataSet:
    """Build a data set from its name or from {"name": ..., options}.

    Options: torchvision sets: `validation` (images held out, default 5000), `limit` (use the first n training
    images), `root`; two_moons and xor: `samples` (400), `noise` (0.1), `seed` (0). Pixels are scaled to [0, 1],
    channels first. Raises: ValueError for unknown names or keys (the nearest known one is named); DataUnavailable
    when files are missing.
    """
    config = {"name": name_or_config} if isinstance(name_or_config, str) else dict(name_or_config)
    if "name" not in config:
        raise ValueError(f"the data set config needs a 'name', one of {', '.join(NAMES)}; got keys {sorted(config)}")
    name = one_of("name", config.pop("name"), NAMES)
    if name == "digits":
        known_keys("the digits config", config, ())
        return _digits()
    if name in VISION:
        known_keys(f"the {name} config", config, ("validation", "limit", "root"))
        return _vision(name, **config)
    known_keys(f"the {name} config", config, ("samples", "noise", "seed"))
    return _plane(name, **config)


def _digits() -> DataSet:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    x = torch.from_numpy(bundle.images).float().div(16).unsqueeze(1)
    y = torch.from_numpy(bundle.target).long()
    frozen = json.loads(resources.files("eqprop_lab").joinpath("data/digits_split.json").read_text())
    train, validation, test = (Split(x[frozen[p]], y[frozen[p]]) for p in ("train", "validation", "test"))
    return DataSet("digits", train, validation, test, classes=tuple("0123456789"))


def _plane(name: str, samples: int = 400, noise: float = 0.1, seed: int = 0) -> DataSet:
    """Two classes in the plane, for live decision boundaries; the three splits are drawn independently."""
    positive_int("samples", samples)
    real("noise", noise, at_least=0.0)
    random = np.random.default_rng(seed)

    def draw() -> Split:
        y = np.arange(samples) % 2
        if name == "two_moons":
            angle = np.pi * random.random(samples)
            x = np.stack([np.cos(angle), np.sin(angle)], 1)
            x[y == 1] = np.array([1.0, 0.5]) - x[y == 1]
            x -= np.array([0.5, 0.25])
        else:
            corner = random.integers(0, 2, samples)
            x = np.stack([2.0 * corner - 1, 2.0 * (corner ^ y) - 1], 1)
        x = x + noise * random.standard_normal(x.shape)
        return Split(torch.from_numpy(x).float(), torch.from_numpy(y).long())

    return DataSet(name, draw(), draw(), draw(), classes=("0", "1"))


def _vision(name: str, validation: int = 5000, limit: int | None = None, root: str | Path | None = None) -> DataSet:
    held = positive_int("validation", validation)
    entry, folder = VISION[name], Path(root) if root is not None else data_dir()
    train, test = (_load(name, entry, folder, part) for part in (True, False))
    x, y = _tensors(train)
    last = len(y) - held
    if last < 1:
        raise ValueError(f"validation must leave training images: {name} has {len(y)}, got {held}")
    kept = last if limit is None else min(positive_int("limit", limit), last)
    classes = entry.classes or tuple(str(c) for c in train.classes)
    return DataSet(name, Split(x[:kept], y[:kept]), Split(x[last:], y[last:]), Split(*_tensors(test)), classes)


def _load(name: str, entry: _Vision, folder: Path, train: bool) -> Any:
    import_torchvision()
    from torchvision import datasets

    part = {"split": "train" if train else "test"} if entry.by_split else {"train": train}
    build = getattr(datasets, entry.cls)
    try:
        return build(str(folder), download=False, **part)
    except RuntimeError:
        pass  # not there yet: torchvision's way of saying so; the download below is the answer
    try:
        return build(str(folder), download=True, **part)
    except (OSError, RuntimeError) as error:
        raise DataUnavailable(
            f"data set {name!r}: {entry.file} is not in the data folder ({folder}) and the download failed ({error}). "
            f"Either go online once, or put the files of torchvision's {entry.cls} there, or point EQPROP_DATA_DIR at "
            "a folder that has them. build_dataset('digits') needs no files."
        ) from error


def _tensors(source: Any) -> tuple[Tensor, Tensor]:
    """torchvision's array attributes -> x (N, C, H, W) float32 in [0, 1], y (N,) int64."""
    images = torch.as_tensor(source.data)
    labels = torch.as_tensor(source.targets if hasattr(source, "targets") else source.labels).long()
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    return images.float().div(255).contiguous(), labels

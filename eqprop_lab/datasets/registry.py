"""Data sets by name: one decorated function makes one, whoever wrote it.

    @register_dataset("stripes", shape=(1, 8, 8), classes=2, augmentation=Augmentation(shift=1))
    def stripes(samples: int = 200, seed: int = 0) -> DataSet: ...

    build_dataset({"name": "stripes", "samples": 50})        data: {dataset: stripes, samples: 50}

The arguments of the function are the options of the set. shape and classes let models take their
sizes before anything is read; a set that leaves them out is built to see.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.datasets.splits import DataSet, Split
from eqprop_lab.validation import (
    arguments,
    known_keys,
    one_of,
    positive_int,
    shape as a_shape,
    shown,
)

Build = Callable[..., DataSet]
Measure = Callable[..., tuple[tuple[int, ...], int]]
F = TypeVar("F", bound=Build)


@dataclass(frozen=True)
class Source:
    """A registered set: the function that builds it, and what is known before that."""

    name: str
    build: Build
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    augmentation: Augmentation | None = None
    measure: Measure | None = None

    def check_options(self, given: Mapping[str, Any]) -> None:
        """Raise ValueError for an unknown option (naming the nearest) or one that is missing."""
        options = arguments(self.build)
        if options is None:
            return
        known_keys(f"the {self.name} config", given, options)
        missing = [key for key, p in options.items() if p.default is p.empty and key not in given]
        if missing:
            raise ValueError(f"data set {self.name!r} needs {', '.join(missing)}")


SOURCES: dict[str, Source] = {}
NAMES = SOURCES.keys()


def register_dataset(
    name: str,
    *,
    shape: int | tuple[int, ...] | None = None,
    classes: int | None = None,
    augmentation: Augmentation | None = None,
    measure: Measure | None = None,
) -> Callable[[F], F]:
    """Make the decorated function, options -> DataSet, a data set with this name.

    The same definition run again (a notebook cell) replaces itself.

    Args:
        shape: of one sample, (channels, height, width) for images. classes: their number.
        augmentation: the usual one of the set, what `augmentation: true` stands for.
        measure: options -> (shape, classes) of a set that has other ones each time, without reading
            all of it.
    Raises: TypeError, ValueError naming the argument; ValueError for a name that another set has,
    in any spelling.
    """
    if not isinstance(name, str) or not plain_name(name):
        raise TypeError(f"name must be a text with a letter or digit, got {shown(name)}")
    if augmentation is not None and not isinstance(augmentation, Augmentation):
        raise TypeError(f"augmentation must be an Augmentation or None, got {shown(augmentation)}")
    if measure is not None and not callable(measure):
        raise TypeError(f"measure must be a function of the options or None, got {shown(measure)}")
    size = None if shape is None else a_shape("shape", shape)
    number = None if classes is None else positive_int("classes", classes)
    if augmentation and size is not None:
        augmentation.check(size)

    def add(build: F) -> F:
        if not callable(build):
            raise TypeError(f"a data set is a function that returns a DataSet, got {shown(build)}")
        for other in SOURCES.values():
            if plain_name(other.name) == plain_name(name) and _place(other.build) != _place(build):
                raise ValueError(
                    f"name must be new: {name!r} is the data set {other.name!r} of "
                    f"{_place(other.build)[0]}"
                )
        SOURCES[name] = Source(name, build, size, number, augmentation, measure)
        return build

    return add


def plain_name(name: str) -> str:
    """What all spellings of a name have in common: "tiny-shakespeare" and "TinyShakespeare"."""
    return re.sub(r"[\s_-]", "", name).lower()


def _place(function: Any) -> tuple[str, str]:
    """Where a function was written: its module, and its name there."""
    written = function.func if isinstance(function, partial) else function
    name = getattr(written, "__qualname__", type(written).__qualname__)
    return written.__module__, name


def build_dataset(name_or_config: str | Mapping[str, Any]) -> DataSet:
    """Build a data set from its name or from {"name": ..., options}.

    Options: torchvision sets: `validation` (images held out, default 5000), `limit` (use the first
    n training images), `root`; image_folder: `root` (needed), `size`, `channels`, `validation`,
    `seed`, `limit`, `ground` (see `read_image_folder`); two_moons and xor: `samples` (400), `noise`
    (0.1), `seed` (0). Pixels are scaled to [0, 1], channels first. Raises: ValueError for unknown
    names or keys (the nearest known one is named) and for files that are no data set;
    DataUnavailable when files are missing or damaged; TypeError, ValueError for a registered
    function that returns something else than a sound data set.
    """
    config = {"name": name_or_config} if isinstance(name_or_config, str) else dict(name_or_config)
    if "name" not in config:
        raise ValueError(
            f"the data set config needs a 'name', one of {', '.join(NAMES)}; "
            f"got keys {sorted(config)}"
        )
    source = SOURCES[one_of("name", config.pop("name"), NAMES)]
    source.check_options(config)
    data = source.build(**config)
    _check(source, data)
    return data


def _check(source: Source, data: Any) -> None:
    """Raise TypeError, ValueError for what is no sound data set, or not what was registered."""
    what = f"data set {source.name!r}"
    if not isinstance(data, DataSet):
        raise TypeError(f"{what}: its function must return a DataSet, got {type(data).__name__}")
    if data.name != source.name:
        raise ValueError(f"{what}: its DataSet is called {data.name!r}, which must be the same")
    _check_classes(f"{what}: classes", data.classes)
    for part in ("train", "validation", "test"):
        _check_split(f"{what}: {part}", getattr(data, part), data)
    declared = (source.shape, source.classes)
    found = (data.input_shape, len(data.classes))
    if any(said not in (None, has) for said, has in zip(declared, found, strict=True)):
        raise ValueError(
            f"{what}: registered with shape {source.shape} and {source.classes} classes, but it "
            f"has shape {found[0]} and {found[1]} classes"
        )


def _check_classes(where: str, classes: Any) -> None:
    wanted = "a tuple of two or more different names"
    if not isinstance(classes, tuple | list) or not all(isinstance(n, str) for n in classes):
        raise TypeError(f"{where} must be {wanted}, got {shown(classes)}")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"{where} must be {wanted}, got {shown(classes)}")


def _check_split(where: str, split: Any, data: DataSet) -> None:
    if not isinstance(split, Split):
        raise TypeError(f"{where} must be a Split(x, y), got {type(split).__name__}")
    for name, tensor, dtype in (("x", split.x, torch.float32), ("y", split.y, torch.int64)):
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
            got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{where}.{name} must be a tensor of {dtype}, got {got}")
        if tensor.layout != torch.strided:
            raise TypeError(f"{where}.{name} must be a dense tensor, got {tensor.layout}")
    if split.y.ndim != 1 or len(split.x) != len(split.y) or not len(split.y):
        raise ValueError(
            f"{where} must have samples, each with one label; got x of shape "
            f"{tuple(split.x.shape)}, y of shape {tuple(split.y.shape)}"
        )
    if split.x.ndim < 2 or not split.x.numel():
        raise ValueError(
            f"{where}.x must have the shape (samples, features) or (samples, channels, height, "
            f"width), none of them zero, got {tuple(split.x.shape)}"
        )
    if not all(value.isfinite() for value in split.x.aminmax()):
        raise ValueError(f"{where}.x must be finite, got NaN or infinite numbers")
    if split.x.shape[1:] != data.input_shape:
        raise ValueError(
            f"{where} must have samples of shape {data.input_shape}, as train has, "
            f"got {tuple(split.x.shape[1:])}"
        )
    low, high = (int(label) for label in split.y.aminmax())
    if low < 0 or high >= len(data.classes):
        raise ValueError(
            f"{where} must have labels from 0 to {len(data.classes) - 1}, one for each class, "
            f"got {low} to {high}"
        )


def dataset_name(name: str) -> str:
    """The registered name for a spelling: "CIFAR10", "cifar-10", "cifar_10" are all "cifar10".

    Raises ValueError naming the nearest known set.
    """
    plain = {plain_name(key): key for key in NAMES}
    if isinstance(name, str) and len(name) < 100 and plain_name(name) in plain:
        return plain[plain_name(name)]
    return one_of("name", name, NAMES)


def get_dataset_info(name: str) -> dict[str, Any]:
    """{"name", "input_dim", "output_dim", "channels", "size"} of a data set, without loading it.

    input_dim: features of one sample; output_dim: number of classes; size: pixels a side, [height,
    width] where the two differ. channels and size are None for what is no image, all is None for a
    set that only its options tell (a folder of images). Any usual spelling of the name is accepted.
    Raises ValueError for unknown sets.
    """
    source = SOURCES[dataset_name(name)]
    return _facts(source.name, source.shape, source.classes)


def find_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """`get_dataset_info` for {"name": ..., options}; measured or built where that tells not all."""
    facts = get_dataset_info(config["name"])
    if None not in (facts["input_dim"], facts["output_dim"]):
        return facts
    source = SOURCES[facts["name"]]
    options = {key: value for key, value in config.items() if key != "name"}
    source.check_options(options)
    if source.measure is None:
        return data_facts(build_dataset({**options, "name": source.name}))
    return _facts(source.name, *source.measure(**options))


def data_facts(data: DataSet) -> dict[str, Any]:
    """What `get_dataset_info` tells of a set, from the set itself."""
    return _facts(data.name, data.input_shape, len(data.classes))


def _facts(name: str, shape: tuple[int, ...] | None, classes: int | None) -> dict[str, Any]:
    channels: int | None = None
    size: int | list[int] | None = None
    if shape is not None and len(shape) == 3:
        channels, height, width = shape
        size = height if height == width else [height, width]
    return {
        "name": name,
        "input_dim": None if shape is None else math.prod(shape),
        "output_dim": classes,
        "channels": channels,
        "size": size,
    }

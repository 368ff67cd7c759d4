"""The torchvision sets: read from the data folder, downloaded there once, damage named by file.

torchvision is imported here alone, also where its compiled library cannot be loaded: the PyPI wheel
is linked against a CUDA torch; beside a CPU-only torch the import fails because the operators
``torchvision::nms`` and ``torchvision::qnms`` are unknown. Data sets, transforms and models never
call them, so declaring them (without an implementation) is enough.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.datasets.augmentation import DRAWN, PHOTOGRAPHS, Augmentation
from eqprop_lab.datasets.registry import register_dataset
from eqprop_lab.datasets.splits import Batches, DataSet, DataUnavailable, Split, as_pixels
from eqprop_lab.files import checkout
from eqprop_lab.validation import a_path, a_seed, positive_int

# Kept alive for the life of the process: torch drops the declarations together with the Library
# object.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """The torchvision module; operators are declared only if its import failed for want of them."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _declared:
            raise
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module("torchvision")


def shim_in_use() -> bool:
    """Whether the operators were declared here (True) or come from torchvision's own library."""
    return bool(_declared)


@dataclass(frozen=True)
class VisionSet:
    """A torchvision set: its class, and the file that shows it is there.

    usual: its augmentation; classes: their names where torchvision has no plain ones; by_split: how
    its test part is asked for.
    """

    cls: str
    file: str
    shape: tuple[int, int, int]
    usual: Augmentation
    count: int = 10
    classes: tuple[str, ...] | None = None
    by_split: bool = False


_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
_DIGITS = tuple("0123456789")
_IDX = "raw/train-images-idx3-ubyte"
VISION = {
    "mnist": VisionSet("MNIST", f"MNIST/{_IDX}", _GREY, DRAWN, classes=_DIGITS),
    "fashion_mnist": VisionSet("FashionMNIST", f"FashionMNIST/{_IDX}", _GREY, DRAWN),
    "kmnist": VisionSet("KMNIST", f"KMNIST/{_IDX}", _GREY, DRAWN),
    # A mirrored house number is another sign, or none: no flip.
    "svhn": VisionSet(
        "SVHN", "train_32x32.mat", _COLOUR, Augmentation(crop=4), classes=_DIGITS, by_split=True
    ),
    "cifar10": VisionSet("CIFAR10", "cifar-10-batches-py/data_batch_1", _COLOUR, PHOTOGRAPHS),
    "cifar100": VisionSet("CIFAR100", "cifar-100-python/train", _COLOUR, PHOTOGRAPHS, 100),
}


def data_dir() -> Path:
    """Where sets are kept: $EQPROP_DATA_DIR, `data/` of the checkout, or the user's cache."""
    chosen = os.environ.get("EQPROP_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser()
    project = checkout()
    return project / "data" if project else Path.home() / ".cache" / "eqprop_lab"


def read_vision_set(
    name: str, validation: int = 5000, limit: int | None = None, root: str | Path | None = None
) -> DataSet:
    """A set of the table VISION; the last `validation` images of its training part are held out.

    Raises: TypeError, ValueError naming the argument; DataUnavailable naming the missing or damaged
    file.
    """
    held = positive_int("validation", validation)
    kept = None if limit is None else positive_int("limit", limit)
    entry = VISION[name]
    folder = data_dir() if root is None else Path(root).expanduser()
    train, test = (load(name, entry, folder, part) for part in (True, False))
    classes = entry.classes or tuple(str(c) for c in train.classes)
    (x, y), (test_x, test_y) = (_tensors(name, part, len(classes)) for part in (train, test))
    last = len(y) - held
    if last < 1:
        raise ValueError(f"validation must leave training images: {name} has {len(y)}, got {held}")
    end = last if kept is None else min(kept, last)
    return DataSet(
        name, Split(x[:end], y[:end]), Split(x[last:], y[last:]), Split(test_x, test_y), classes
    )


def load_cifar_10(
    batch_size: int = 64, seed: int = 0, root: str | Path | None = None
) -> tuple[Batches, Batches]:
    """(training batches in a new order each time, test batches) of (images, labels).

    A short way to ``build_dataset("cifar10")``, whose 5,000 validation images stay held out.
    Raises: TypeError, ValueError naming the argument; DataUnavailable.
    """
    size = positive_int("batch_size", batch_size)
    a_seed("seed", seed)
    folder = None if root is None else a_path("root", root)
    data = read_vision_set("cifar10", root=folder)
    return data.train.batches(size, shuffle=True, seed=seed), data.test.batches(size)


def load(name: str, entry: VisionSet, folder: Path, train: bool) -> Any:
    """The training or test part as torchvision reads it, downloaded if it is not there.

    Raises DataUnavailable.
    """
    import_torchvision()
    from torchvision import datasets

    part = {"split": "train" if train else "test"} if entry.by_split else {"train": train}
    source = getattr(datasets, entry.cls)
    try:
        return source(str(folder), download=False, **part)
    except (ImportError, MemoryError):
        raise  # a matter of the installation (SVHN needs scipy) or of the machine, not of the files
    except Exception as error:
        # A damaged file shows as whatever its reader stumbles over: assertion, value, index and
        # runtime errors.
        found = error
        first = next(_faults(source, folder), None)
    # A download replaces damaged files of sets with checksums; of idx files only missing ones.
    if first is None or (first[1] == "damaged" and hasattr(source, "resources")):
        file = f"{first[0]} is damaged" if first else "a file cannot be read"
        raise DataUnavailable(
            f"data set {name!r}: {file} in the data folder ({folder}): {type(found).__name__} "
            f"{found}. Remove it; the next call downloads it anew."
        ) from found
    try:
        return source(str(folder), download=True, **part)
    except Exception as error:
        file, state = next(_faults(source, folder), first)
        raise DataUnavailable(
            f"data set {name!r}: {file} is {state} in the data folder ({folder}) and the download "
            f"failed ({error}). Either go online once, or put the files of torchvision's "
            f"{entry.cls} there, or point EQPROP_DATA_DIR at a folder that has them. "
            "build_dataset('digits') needs no files."
        ) from error


def _faults(source: Any, folder: Path) -> Iterator[tuple[str, str]]:
    """(path in the folder, "missing" or "damaged") of the files that torchvision cannot use."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
    from torchvision.datasets.utils import check_integrity

    if hasattr(source, "resources"):
        for archive, _ in source.resources:
            name = f"{source.__name__}/raw/{Path(archive).stem}"
            if not (folder / name).is_file():
                yield name, "missing"
                continue
            try:
                read_sn3_pascalvincent_tensor(str(folder / name))
            except Exception:
                yield name, "damaged"
        return
    if hasattr(source, "split_list"):
        files = {
            source.split_list[part][1]: source.split_list[part][2] for part in ("train", "test")
        }
    else:
        files = {
            f"{source.base_folder}/{name}": md5
            for name, md5 in source.train_list + source.test_list
        }
        files[f"{source.base_folder}/{source.meta['filename']}"] = source.meta["md5"]
    for name, md5 in files.items():
        if not check_integrity(folder / name, md5):
            yield name, "damaged" if (folder / name).is_file() else "missing"


def _tensors(name: str, source: Any, classes: int) -> tuple[Tensor, Tensor]:
    """torchvision's array attributes -> x (N, C, H, W) float32 in [0, 1], y (N,) int64.

    Raises DataUnavailable.
    """
    images = torch.as_tensor(source.data, device="cpu")
    labels = torch.as_tensor(
        source.targets if hasattr(source, "targets") else source.labels, device="cpu"
    ).long()
    if len(images) != len(labels) or not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise DataUnavailable(
            f"data set {name!r}: its files are damaged: {len(images)} images, {len(labels)} "
            f"labels, which must be 0 to {classes - 1}. Remove them; the next call downloads "
            "them anew."
        )
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    return as_pixels(images), labels


for _name, _set in VISION.items():
    register_dataset(_name, shape=_set.shape, classes=_set.count, augmentation=_set.usual)(
        partial(read_vision_set, _name)
    )

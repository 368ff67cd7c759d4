"""Any folder of images as a data set: ROOT/train/CLASS/* with val or test beside, or ROOT/CLASS/*.

The names of the class folders, sorted, are the classes. A folder is read as its user sees it, or
refused; what is left out of it is reported by a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eqprop_lab.datasets.augmentation import PHOTOGRAPHS
from eqprop_lab.datasets.image_files import (
    GROUNDS,
    Size,
    parse_channels,
    parse_size,
    read_image,
    read_pixels,
)
from eqprop_lab.datasets.image_tree import (
    EXTENSIONS,
    Report,
    class_folders,
    examples,
    find_files,
    part_folders,
    place_in,
    same_inside,
    visible_folders,
)
from eqprop_lab.datasets.registry import register_dataset
from eqprop_lab.datasets.splits import DataSet, DataUnavailable, Split
from eqprop_lab.validation import a_path, a_seed, one_of, positive_int, real

MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class _Part:
    """The files of one part and their class numbers (N,)."""

    files: list[Path]
    labels: Tensor

    def choose(self, rows: Tensor) -> _Part:
        return _Part([self.files[i] for i in rows.tolist()], self.labels[rows])

    def hold_out(self, count: int, seed: int) -> tuple[_Part, _Part]:
        """(the rest, `count` files drawn at random), every class in its proportion."""
        generator = torch.Generator(device="cpu").manual_seed(seed)
        order = torch.randperm(len(self.files), generator=generator, device="cpu")
        # The k-th of the n files of a class gets (k + u) / n, u uniform: the smallest keys are
        # shared out evenly.
        keys = torch.empty(len(order), dtype=torch.float64, device="cpu")
        for label in self.labels.unique():
            rows = order[self.labels[order] == label]
            start = torch.rand(1, generator=generator, dtype=torch.float64, device="cpu")
            keys[rows] = (torch.arange(len(rows), dtype=torch.float64, device="cpu") + start) / len(
                rows
            )
        ranked = keys.argsort()
        return self.choose(ranked[count:].sort().values), self.choose(ranked[:count].sort().values)


def measure_image_folder(
    root: str | Path | None = None,
    size: int | Sequence[int] | None = None,
    channels: int = 3,
    **_: object,
) -> tuple[tuple[int, int, int], int]:
    """(shape, number of classes) of what `read_image_folder` would read, from one image.

    Errors as there.
    """
    channels = parse_channels(channels)
    folder = _existing(root)
    report = Report(folder)
    place = _layout(folder, report)["train"]
    names = list(_classes(place, report))
    height_width = parse_size(size) or _size_of(
        _find_parts(folder, {"train": place}, names, report)["train"].files[0], folder
    )
    return (channels, *height_width), len(names)


@register_dataset("image_folder", augmentation=PHOTOGRAPHS, measure=measure_image_folder)
def read_image_folder(
    root: str | Path | None = None,
    size: int | Sequence[int] | None = None,
    channels: int = 3,
    validation: int | float | None = None,
    seed: int = 0,
    limit: int | None = None,
    ground: str = "white",
) -> DataSet:
    """The images under `root` as whole-set tensors, float32 in [0, 1].

    Which part is what:
        ROOT/train, ROOT/val (or validation), ROOT/test   each is what it is called
        ROOT/train, ROOT/test                             validation is held out from train
        ROOT/train, ROOT/val (or validation)              val, published with its labels, is the
                                                          test part (the habit with ImageNet and
                                                          its subsets); validation as above
        ROOT/train alone, or ROOT/CLASS                   a tenth is the test part, the same
                                                          whatever `validation` is; then
                                                          validation is held out
    in any case of letters; training, valid, testing and the like count as well. A test folder
    without class folders in it holds images without labels and is not used. What is held out is
    drawn with `seed`, every class in its proportion. Hidden files and folders are left out; a link
    is followed, and what it leads to is read once.

    Warns (UserWarning, once, with counts and examples) of files that are not read, of links that
    lead nowhere or back, of folders beside the parts, and of pictures that are in more than one
    part or class.

    Args:
        size: None (the images must then have one size), pixels a side, or [height, width]; an image
            is scaled until it covers that, then cut around its centre. channels: 3 (colour) or 1
            (grey).
        validation: number of images held out, or a fraction of them; None is 0.1.
        limit: train on that many images, drawn with `seed` as above.
        ground: "white" or "black", what transparent pixels are put on; a drawing in its colour is
            refused.
    Raises: DataUnavailable for a missing folder; TypeError, ValueError naming the argument, the
    folder or the file.
    """
    height_width = parse_size(size)
    parse_channels(channels)
    seed = a_seed("seed", seed)
    one_of("ground", ground, GROUNDS)
    folder = _existing(root)
    report = Report(folder)
    folders = _layout(folder, report)
    classes = _classes(folders["train"], report)
    names = list(classes)
    if folders["train"] == folder and (sentence := same_inside(classes)):
        report.notes.append(sentence)
    parts = _find_parts(folder, folders, names, report)
    if "validation" in parts and validation is not None:
        raise ValueError(
            f"validation: {folder} has a validation folder of its own, "
            f"got {validation!r} to hold out"
        )
    found = len(parts["train"].files)
    counts = {
        "test": max(1, found // 10),
        "validation": 0 if "validation" in parts else _count(validation, found),
    }
    for offset, (role, count) in enumerate(counts.items()):
        if role not in parts:
            parts["train"], parts[role] = parts["train"].hold_out(count, seed + offset)
    if limit is not None and positive_int("limit", limit) < len(parts["train"].files):
        parts["train"] = parts["train"].hold_out(limit, seed)[1]
    bare = [name for i, name in enumerate(names) if not bool((parts["train"].labels == i).any())]
    if bare:
        raise ValueError(
            f"no training image is left of {', '.join(bare)}: hold out less, "
            f"or raise limit ({limit})"
        )
    height_width = height_width or _size_of(parts["train"].files[0], folder)
    images = sum(len(part.files) for part in parts.values())
    needed = images * channels * height_width[0] * height_width[1] * 4
    if needed > MOST_BYTES:
        raise ValueError(
            f"{images} images of {height_width[0]}x{height_width[1]} pixels need "
            f"{needed / 2**30:.0f} GiB in memory, more than {MOST_BYTES / 2**30:.0f}: "
            "give a smaller `size`, or a `limit`"
        )
    pattern = parts["train"].files[0] if size is None else None
    read = {
        role: read_pixels(part.files, folder, height_width, channels, pattern, ground)
        for role, part in parts.items()
    }
    splits = {role: Split(read[role][0], part.labels) for role, part in parts.items()}
    report.notes += _copies(parts, {role: digests for role, (_, digests) in read.items()}, folder)
    if report.text():
        warnings.warn(f"image folder {folder}: {report.text()}", UserWarning, stacklevel=2)
    return DataSet(
        "image_folder", splits["train"], splits["validation"], splits["test"], tuple(names)
    )


def _count(validation: int | float | None, images: int) -> int:
    if isinstance(validation, int) and not isinstance(validation, bool):
        count = positive_int("validation", validation)
    else:
        count = round(
            images
            * real("validation", 0.1 if validation is None else validation, above=0.0, below=1.0)
        )
    if not 0 < count < images:
        raise ValueError(
            f"validation must leave images in both parts: {count} of {images} would be held out"
        )
    return count


def _existing(root: str | Path | None) -> Path:
    if root is None:
        raise ValueError("root must name the folder of the images, got None")
    folder = a_path("root", root)
    if not folder.is_dir():
        raise DataUnavailable(f"data set 'image_folder': there is no folder {folder} (root)")
    return folder


def _classes(place: Path, report: Report) -> dict[str, Path]:
    classes = class_folders(place, report)
    if len(classes) < 2:
        raise ValueError(
            f"{place} must hold a folder of images for each class, two or more; it has "
            f"{'only ' + repr(next(iter(classes))) if classes else 'none'}"
        )
    return classes


def _layout(root: Path, report: Report) -> dict[str, Path]:
    """The folder of each part that is there, by role; "train" always is."""
    parts = part_folders(root, report)
    if not parts:
        return {"train": root}
    if "test" in parts and not visible_folders(parts["test"], Report(root)):
        report.add(
            "images without a class, in the test folder",
            *(file for file, _ in find_files(parts.pop("test"), report)),
        )
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    return {role: parts[role] for role in ("train", "validation", "test") if role in parts}


def _size_of(file: Path, root: Path) -> Size:
    image = read_image(file, root, "L")
    return image.height, image.width


def _find_parts(
    root: Path, places: dict[str, Path], names: list[str], report: Report
) -> dict[str, _Part]:
    """The files of each part.

    Raises ValueError for other classes than `names`, empty ones, a file in two of them.
    """
    owners: dict[str, tuple[str, int, Path]] = {}
    parts = {}
    for role, place in places.items():
        folders = class_folders(place, report if role != "train" else Report(root))
        if list(folders) != names:
            wrong = sorted(set(names) ^ set(folders))
            raise ValueError(
                f"{place.relative_to(root)} and the training images must have the same class "
                f"folders; only one has {', '.join(wrong)}"
            )
        samples = []
        for label, (name, folder) in enumerate(folders.items()):
            files = _files_of(place, name, folder, report)
            for file, behind in files:
                other = owners.setdefault(behind, (role, label, file))
                if other[:2] != (role, label):
                    both = f"{place_in(other[2], root)} and {place_in(file, root)}"
                    what = "parts" if other[0] != role else "classes"
                    raise ValueError(
                        f"{both} are one file, by a link, in two {what}: remove one of them"
                    )
            samples += [(file, label) for file, _ in files]
        parts[role] = _Part(
            [file for file, _ in samples],
            torch.tensor([label for _, label in samples], device="cpu"),
        )
    return parts


def _files_of(place: Path, name: str, folder: Path, report: Report) -> list[tuple[Path, str]]:
    here = Report(report.root)
    files = find_files(folder, here)
    if not files:
        other = f". It has {here.text()}" if here.text() else ""
        endings = ", ".join(EXTENSIONS)
        raise ValueError(
            f"{place}: Found no valid file for the classes {name}. "
            f"It must hold files ending in {endings}{other}"
        )
    report.merge(here)
    return files


def _copies(parts: dict[str, _Part], digests: dict[str, list[bytes]], root: Path) -> list[str]:
    """Sentences on equal pictures in more than one part, and in more than one class."""
    groups: dict[bytes, list[tuple[str, int, Path]]] = {}
    for role, part in parts.items():
        for digest, label, file in zip(
            digests[role], part.labels.tolist(), part.files, strict=True
        ):
            groups.setdefault(digest, []).append((role, label, file))
    sentences = []
    for column, what in enumerate(("part, so that it is measured on what was trained on", "class")):
        twice = [
            group for group in groups.values() if len({sample[column] for sample in group}) > 1
        ]
        if twice:
            pairs = [
                " = ".join(f"{place_in(file, root)} ({role})" for role, _, file in group[:3])
                for group in twice
            ]
            sentences.append(
                f"{len(twice)} pictures are in more than one {what} ({examples(pairs)})"
            )
    return sentences

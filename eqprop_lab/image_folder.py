"""Any folder of images as a data set: ROOT/train/CLASS/* with a val or test folder beside it, or plainly ROOT/CLASS/*.

The names of the class folders, sorted, are the classes. Images are found by torchvision and read by Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eqprop_lab.image_files import Size, parse_channels, parse_size, read_image, read_pixels
from eqprop_lab.splits import DataSet, DataUnavailable, Split
from eqprop_lab.validation import positive_int, real
from eqprop_lab.vision_compat import import_torchvision

MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class _Part:
    """The files of one part and their class numbers (N,)."""

    files: list[Path]
    labels: Tensor

    def choose(self, rows: Tensor) -> _Part:
        return _Part([self.files[i] for i in rows.tolist()], self.labels[rows])

    def hold_out(self, count: int, seed: int) -> tuple[_Part, _Part]:
        """(the rest, `count` files drawn at random), every class in its proportion, to within one file."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.files), generator=generator)
        # The k-th of the n files of a class gets (k + u) / n, u uniform: the smallest keys are shared out evenly.
        keys = torch.empty(len(order), dtype=torch.float64)
        for label in self.labels.unique():
            rows = order[self.labels[order] == label]
            start = torch.rand(1, generator=generator, dtype=torch.float64)
            keys[rows] = (torch.arange(len(rows), dtype=torch.float64) + start) / len(rows)
        ranked = keys.argsort()
        return self.choose(ranked[count:].sort().values), self.choose(ranked[:count].sort().values)


def read_image_folder(
    root: str | Path | None = None,
    size: int | Sequence[int] | None = None,
    channels: int = 3,
    validation: int | float | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> DataSet:
    """The images under `root` as whole-set tensors, float32 in [0, 1].

    Which part is what:
        ROOT/train, ROOT/val (or validation), ROOT/test   each is what it is called
        ROOT/train, ROOT/test                             validation is held out from train
        ROOT/train, ROOT/val (or validation)              val, published with its labels, is the test part (the habit
                                                          with ImageNet and its subsets); validation as above
        ROOT/train alone, or ROOT/CLASS                   a tenth is the test part, the same whatever `validation` is;
                                                          then validation is held out
    A test folder without class folders in it holds images without labels and is not used. What is held out is drawn
    with `seed`, every class in its proportion. Hidden files and folders are left out.

    Args:
        size: None (the images must then have one size), pixels a side, or [height, width]; an image is scaled until
            it covers that, then cut around its centre. channels: 3 (colour) or 1 (grey).
        validation: number of images held out, or a fraction of them; None is 0.1.
        limit: train on that many images, drawn with `seed` as above.
    Raises: DataUnavailable for a missing folder; TypeError, ValueError naming the argument, the folder or the file.
    """
    height_width = parse_size(size)
    parse_channels(channels)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    folder = _existing(root)
    folders = _layout(folder)
    names = class_names(folder)
    parts = {role: _find(folder, place, names) for role, place in folders.items()}
    if "validation" in parts and validation is not None:
        raise ValueError(f"validation: {folder} has a validation folder of its own, got {validation!r} to hold out")
    found = len(parts["train"].files)
    counts = {"test": max(1, found // 10), "validation": 0 if "validation" in parts else _count(validation, found)}
    for offset, (role, count) in enumerate(counts.items()):
        if role not in parts:
            parts["train"], parts[role] = parts["train"].hold_out(count, seed + offset)
    if limit is not None and positive_int("limit", limit) < len(parts["train"].files):
        parts["train"] = parts["train"].hold_out(limit, seed)[1]
    bare = [name for i, name in enumerate(names) if not bool((parts["train"].labels == i).any())]
    if bare:
        raise ValueError(f"no training image is left of {', '.join(bare)}: hold out less, or raise limit ({limit})")
    height_width = height_width or _size_of(parts["train"].files[0], folder)
    images = sum(len(part.files) for part in parts.values())
    needed = images * channels * height_width[0] * height_width[1] * 4
    if needed > MOST_BYTES:
        raise ValueError(
            f"{images} images of {height_width[0]}x{height_width[1]} pixels need {needed / 2**30:.0f} GiB in memory, "
            f"more than {MOST_BYTES / 2**30:.0f}: give a smaller `size`, or a `limit`"
        )
    pattern = parts["train"].files[0] if size is None else None
    splits = {
        role: Split(read_pixels(part.files, folder, height_width, channels, pattern), part.labels)
        for role, part in parts.items()
    }
    return DataSet("image_folder", splits["train"], splits["validation"], splits["test"], tuple(names))


def class_names(root: str | Path) -> list[str]:
    """The classes of a folder of images, sorted. Raises DataUnavailable, ValueError."""
    folder = _existing(root)
    place = _layout(folder)["train"]
    names = _class_folders(place)
    if len(names) < 2:
        raise ValueError(
            f"{place} must hold a folder of images for each class, two or more; it has "
            f"{'only ' + repr(names[0]) if names else 'none'}"
        )
    return names


def image_size(root: str | Path, size: int | Sequence[int] | None = None) -> Size:
    """(height, width) that the images of a folder will have: `size`, or the size of the first. Errors as above."""
    folder = _existing(root)
    place = _layout(folder)["train"]
    return parse_size(size) or _size_of(_find(folder, place, class_names(folder)).files[0], folder)


def _count(validation: int | float | None, images: int) -> int:
    if isinstance(validation, int) and not isinstance(validation, bool):
        count = positive_int("validation", validation)
    else:
        count = round(images * real("validation", 0.1 if validation is None else validation, above=0.0, below=1.0))
    if not 0 < count < images:
        raise ValueError(f"validation must leave images in both parts: {count} of {images} would be held out")
    return count


def _existing(root: str | Path | None) -> Path:
    if root is None:
        raise ValueError("root must name the folder of the images, got None")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataUnavailable(f"data set 'image_folder': there is no folder {folder} (root)")
    return folder


def _class_folders(place: Path) -> list[str]:
    return sorted(entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _layout(root: Path) -> dict[str, Path]:
    """The folder of each part that is there, by role; "train" always is."""
    if not (root / "train").is_dir():
        return {"train": root}
    parts = {"train": root / "train"}
    own = [root / name for name in ("val", "validation") if (root / name).is_dir()]
    if len(own) == 2:
        raise ValueError(f"{root} has both a val and a validation folder: which one counts is not clear")
    labelled = (root / "test").is_dir() and bool(_class_folders(root / "test"))
    if labelled:
        parts["test"] = root / "test"
    if own:
        parts["validation" if labelled else "test"] = own[0]
    return parts


def _size_of(file: Path, root: Path) -> Size:
    image = read_image(file, root, "L")
    return image.height, image.width


def _find(root: Path, place: Path, names: list[str]) -> _Part:
    import_torchvision()
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    here = _class_folders(place)
    if here != names:
        wrong = sorted(set(names) ^ set(here))
        raise ValueError(
            f"{place.relative_to(root)} and the training images must have the same class folders; only one has "
            f"{', '.join(wrong)}"
        )

    def is_image(path: str) -> bool:
        return path.lower().endswith(IMG_EXTENSIONS) and not Path(path).name.startswith(".")

    index = {name: i for i, name in enumerate(names)}
    try:
        samples = make_dataset(str(place), index, is_valid_file=is_image)
    except FileNotFoundError as error:
        raise ValueError(f"{place}: {error}It must hold files ending in {', '.join(IMG_EXTENSIONS)}") from error
    return _Part([Path(path) for path, _ in samples], torch.tensor([label for _, label in samples]))

"""CIFAR-10 as JPEG archives -> class folders: `python tools/unpack_cifar10.py SOURCE TARGET
[--limit N]`.

SOURCE holds train.npz and test.npz with the arrays `jpeg` (uint8, all files in a row), `offsets`,
`labels`, `classes`. Every file is written as it is, undecoded, to
TARGET/{train,test}/CLASS/NUMBER.jpg: the layout that `build_dataset({"name": "image_folder",
"root": TARGET})` and `python -m eqprop_lab gpu-check --data TARGET` read. JPEG has changed the
pixels, so torchvision's checksums cannot hold and accuracies differ in the last tenths.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PARTS = ("train", "test")
ARRAYS = ("jpeg", "offsets", "labels", "classes")
BEGIN = (0xFF, 0xD8)  # of every JPEG file


class ArchiveError(ValueError):
    """An archive that cannot be unpacked; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Archive:
    """Encoded images in a row: image i is jpeg[offsets[i]:offsets[i + 1]], of the class
    classes[labels[i]].
    """

    jpeg: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def file(self, number: int) -> bytes:
        """The bytes of one image file."""
        return self.jpeg[self.offsets[number] : self.offsets[number + 1]].tobytes()


def read_archive(path: Path) -> Archive:
    """Read and check one archive; nothing in it can run code. Raises FileNotFoundError,
    ArchiveError.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; SOURCE must hold {' and '.join(f'{p}.npz' for p in PARTS)}"
        )
    try:
        # Opened here: np.load does not close a damaged file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            missing = [name for name in ARRAYS if name not in content]
            if missing:
                raise ArchiveError(f"{path} lacks the arrays {', '.join(missing)}")
            jpeg, offsets, labels, classes = (content[name] for name in ARRAYS)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ArchiveError(f"{path} is damaged, or it is no .npz archive ({error})") from error
    names = tuple(str(name) for name in classes)
    if len(set(names)) != len(names) or any(
        not n or n != Path(n).name or n.startswith(".") for n in names
    ):
        raise ArchiveError(
            f"{path}: classes must be different names that can be folders, got {names}"
        )
    if (
        jpeg.dtype != np.uint8
        or len(offsets) != len(labels) + 1
        or offsets[0] != 0
        or offsets[-1] != len(jpeg)
    ):
        raise ArchiveError(
            f"{path}: offsets must go from 0 to the length of jpeg (uint8), with one more entry "
            f"than labels; got {len(offsets)} offsets up to {offsets[-1]}, {len(jpeg)} bytes "
            f"({jpeg.dtype}), {len(labels)} labels"
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(names):
        raise ArchiveError(f"{path}: labels must be 0 to {len(names) - 1}, at least one")
    starts = np.asarray(offsets[:-1], dtype=np.int64)
    whole = np.diff(offsets) > len(BEGIN)
    if whole.all():
        whole = np.logical_and.reduce(
            [jpeg[starts + place] == byte for place, byte in enumerate(BEGIN)]
        )
    if not whole.all():
        raise ArchiveError(f"{path}: image {int(np.argmin(whole))} is no JPEG file")
    return Archive(jpeg, offsets, labels, names)


def unpack(source: Path, target: Path, limit: int | None = None) -> dict[str, int]:
    """Write the folders and return the number of images of each part; `limit`: only the first n of
    each.

    `target` appears when it is complete, or not at all. Raises FileExistsError if it is there
    already, and what `read_archive` raises.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be an integer >= 1, got {limit}")
    if target.exists():
        raise FileExistsError(f"{target} exists already; remove it, or name another folder")
    archives = {part: read_archive(source / f"{part}.npz") for part in PARTS}
    if archives["train"].classes != archives["test"].classes:
        raise ArchiveError(f"train.npz and test.npz of {source} have different classes")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    counts = {}
    try:
        for part, archive in archives.items():
            counts[part] = len(archive) if limit is None else min(limit, len(archive))
            folders = [partial / part / name for name in archive.classes]
            for folder in folders:
                folder.mkdir(parents=True)
            for number in range(counts[part]):
                (folders[archive.labels[number]] / f"{number:05d}.jpg").write_bytes(
                    archive.file(number)
                )
        partial.chmod(0o755)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return counts


def main(argv: Sequence[str]) -> int:
    """0 when the folders are there, 2 when the archives or the target cannot be used."""
    parser = argparse.ArgumentParser(prog="python tools/unpack_cifar10.py", description=__doc__)
    parser.add_argument("source", type=Path, help="folder with train.npz and test.npz")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--limit", type=int, help="only the first LIMIT images of each part")
    options = parser.parse_args(argv)
    try:
        counts = unpack(options.source, options.target, options.limit)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{options.target}: "
        + ", ".join(f"{count} {part} images" for part, count in counts.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

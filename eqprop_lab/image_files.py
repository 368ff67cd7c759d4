"""Image files as arrays: read by Pillow, brought to one size, with errors that name the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from eqprop_lab.splits import as_pixels
from eqprop_lab.validation import positive_int

MODES = {1: "L", 3: "RGB"}
Size = tuple[int, int]


def parse_size(size: object) -> Size | None:
    """(height, width) from None, pixels a side, or [height, width]. Raises TypeError, ValueError naming `size`."""
    if size is None:
        return None
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return positive_int("size[0]", size[0]), positive_int("size[1]", size[1])
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size must be None, pixels a side, or [height, width], got {size!r}")
    return positive_int("size", size), size


def parse_channels(channels: object) -> int:
    """1 or 3. Raises ValueError naming `channels`."""
    if isinstance(channels, bool) or not isinstance(channels, int) or channels not in MODES:
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels!r}")
    return channels


def read_image(file: Path, root: Path, mode: str) -> Image.Image:
    """The image in Pillow's `mode` ("L" or "RGB"). Raises ValueError naming the file relative to `root`."""
    try:
        with Image.open(file) as image:
            # Pillow would clip these to 255 and say nothing.
            if image.mode[0] in "IF":
                raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
            return image.convert(mode)
    except MemoryError:
        raise
    except Exception as error:
        # What a damaged image raises depends on its format: OSError, SyntaxError, ValueError, struct.error.
        raise ValueError(f"{file.relative_to(root)} cannot be read as an image: {error}") from error


def read_pixels(files: list[Path], root: Path, size: Size, channels: int, pattern: Path | None = None) -> Tensor:
    """(N, channels, height, width) float32 in [0, 1] of the files, scaled to cover `size` and cut around the centre.

    pattern: the file whose size this is; images of another size are then refused. Raises ValueError naming the files.
    """
    height, width = size
    pixels = np.empty((len(files), height, width, channels), dtype=np.uint8)
    for row, file in zip(pixels, files, strict=True):
        image = read_image(file, root, MODES[channels])
        if pattern is not None and (image.height, image.width) != size:
            raise ValueError(
                f"images of different sizes: {pattern.relative_to(root)} has {height}x{width} pixels, "
                f"{file.relative_to(root)} has {image.height}x{image.width}; give a `size` to bring them to one"
            )
        fitted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        row[...] = np.asarray(fitted).reshape(height, width, channels)
    return as_pixels(torch.from_numpy(pixels).permute(0, 3, 1, 2))

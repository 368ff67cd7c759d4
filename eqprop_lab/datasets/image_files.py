"""Image files as arrays: what a viewer shows, read by Pillow and brought to one size.

Errors name the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from eqprop_lab.datasets.image_tree import place_in
from eqprop_lab.datasets.splits import as_pixels
from eqprop_lab.validation import integer, repeated

MODES = {1: "L", 3: "RGB"}
GROUNDS = ("white", "black")
# Nothing else is tried: Pillow would start other programs for some formats, and fetch what others
# point to.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
Size = tuple[int, int]


def parse_size(size: object) -> Size | None:
    """(height, width) from None, pixels a side, or [height, width].

    Raises TypeError, ValueError naming `size`.
    """
    if size is None:
        return None
    height, width = repeated("size", size, 2, "sides")
    return height, width


def parse_channels(channels: object) -> int:
    """1 or 3. Raises ValueError naming `channels`."""
    number = integer("channels", channels, accepted="1 (grey) or 3 (colour)")
    if number not in MODES:
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {number}")
    return number


def read_image(file: Path, root: Path, mode: str, ground: str = "white") -> Image.Image:
    """The image as a viewer shows it, in Pillow's `mode` ("L" or "RGB").

    It is turned as its EXIF says, on a plain ground.

    Colour profiles are not applied. Raises ValueError naming the file relative to `root`: damaged,
    too large (Pillow's limit against decompression bombs), several pictures, more than 8 bits of
    grey, or a drawing in the colour of the ground.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            _check(image)
            image.load()
            return _on_ground(ImageOps.exif_transpose(image), ground).convert(mode)
    except MemoryError:
        raise
    except Exception as error:
        # What a damaged image raises depends on its format: OSError, SyntaxError, ValueError,
        # struct.error.
        raise ValueError(f"{place_in(file, root)} cannot be read as an image: {error}") from error


def _check(image: Image.Image) -> None:
    # Pillow would clip these to 255 and say nothing.
    if image.mode[0] in "IF":
        raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
    # Pillow warns at this size and refuses at twice the size.
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise ValueError(
            f"{image.width}x{image.height} pixels, and Pillow's limit against decompression bombs "
            f"is {most / 1e6:.0f} million pixels"
        )
    # Cameras put previews behind the photograph (MPO): viewers show the first picture.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ValueError(
            f"{frames} pictures in one file (an animation, or pages): "
            "save the one that counts by itself"
        )


def _on_ground(image: Image.Image, ground: str) -> Image.Image:
    """The image without transparency: what shines through is the ground.

    The colours below are not to be seen.
    """
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    seen = Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")
    alpha = image.getchannel("A").getextrema()
    if alpha[0] != alpha[1] and all(
        low == high for low, high in (band.getextrema() for band in seen.split())
    ):
        raise ValueError(
            f"a drawing in the colour of the ground, which is {ground}: give the other `ground`"
        )
    return seen


def read_pixels(
    files: list[Path],
    root: Path,
    size: Size,
    channels: int,
    pattern: Path | None = None,
    ground: str = "white",
) -> tuple[Tensor, list[bytes]]:
    """(N, channels, height, width) float32 in [0, 1], scaled to cover `size` and cut to its centre.

    pattern: the file whose size this is; images of another size are then refused. With them come
    digests of the images before they are scaled: equal for equal pictures, whatever their format.
    Raises ValueError naming the files.
    """
    height, width = size
    pixels = np.empty((len(files), height, width, channels), dtype=np.uint8)
    digests = []
    for row, file in zip(pixels, files, strict=True):
        image = read_image(file, root, MODES[channels], ground)
        if pattern is not None and (image.height, image.width) != size:
            raise ValueError(
                f"images of different sizes: {place_in(pattern, root)} has {height}x{width} "
                f"pixels, {place_in(file, root)} has {image.height}x{image.width}; "
                "give a `size` to bring them to one"
            )
        digests.append(
            hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).digest()
        )
        fitted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        row[...] = np.asarray(fitted).reshape(height, width, channels)
    return as_pixels(torch.from_numpy(pixels).permute(0, 3, 1, 2)), digests

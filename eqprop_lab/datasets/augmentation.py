"""Random changes of image batches that leave the class as it is: shift, crop, flip, cutout.

    x'[b, c, i, j] = pad(x)[b, c, i + dy_b, j + dx_b]     dy_b, dx_b uniform in 0..2n for each image

Whole batches at once, on the device they are on; no loop over images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from eqprop_lab.validation import integer, known_keys, switch


@dataclass(frozen=True)
class Augmentation:
    """What is done to each image of a batch, in this order; 0 and False leave a step out.

    shift: moves of up to `shift` pixels each way, 0 where nothing was (black border: for drawn
        characters).
    crop: `crop` pixels of mirror image around it, then a random window of the old size (for
        photographs).
    flip: mirrored left to right with probability 1/2.
    cutout: a square of `cutout` pixels a side, wholly inside the image, set to 0.

    Raises: TypeError, ValueError naming the argument. Sources: DeVries and Taylor 2017,
    arXiv:1708.04552 (cutout); Krizhevsky et al. 2012, doi:10.1145/3065386 (crops and mirror
    images).
    """

    shift: int = 0
    crop: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "crop", "cutout"):
            value = integer(
                name, getattr(self, name), at_least=0, accepted="an integer >= 0 (pixels)"
            )
            object.__setattr__(self, name, value)  # Python's own number, also where it was NumPy's
        object.__setattr__(self, "flip", switch("flip", self.flip))

    def __bool__(self) -> bool:
        """Whether anything is done at all."""
        return any(asdict(self).values())

    @classmethod
    def from_config(cls, value: Mapping[str, Any]) -> Augmentation:
        """From a mapping such as {"shift": 1, "flip": True}.

        Raises ValueError naming the nearest known key.
        """
        known_keys("the augmentation", value, (field.name for field in fields(cls)))
        return cls(**value)

    def check(self, shape: Sequence[int]) -> None:
        """Raise ValueError if images of this shape (C, H, W) cannot be changed so."""
        if len(shape) != 3:
            raise ValueError(
                "augmentation needs images (channels, height, width), "
                f"got samples of shape {tuple(shape)}"
            )
        side = min(shape[-2:])
        for name, most in (("shift", side - 1), ("crop", side - 1), ("cutout", side)):
            value = getattr(self, name)
            if value > most:
                raise ValueError(
                    f"{name} must be at most {most} for images of {shape[1]}x{shape[2]} pixels, "
                    f"got {value}"
                )

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B, C, H, W) -> changed images of the same shape, type and device.

        `x` itself is left as it is.

        generator: one of the CPU, from which everything is drawn; the same on every device. Raises
            ValueError.
        """
        if generator.device.type != "cpu":
            raise ValueError(f"generator must be one of the CPU, got one of {generator.device}")
        self.check(x.shape[1:])
        if self.shift:
            x = _windows(pad(x, [self.shift] * 4), self.shift, generator)
        if self.crop:
            x = _windows(pad(x, [self.crop] * 4, mode="reflect"), self.crop, generator)
        if self.flip:
            mirrored = (
                torch.rand(len(x), 1, 1, 1, generator=generator, device="cpu").to(x.device) < 0.5
            )
            x = torch.where(mirrored, x.flip(-1), x)
        if self.cutout:
            rows, columns = (_stretch(x, axis, self.cutout, generator) for axis in (2, 3))
            x = x.masked_fill(rows & columns, 0)
        return x


# A mirrored digit or letter is another sign, or none: no flip for what is drawn.
DRAWN = Augmentation(shift=1)
PHOTOGRAPHS = Augmentation(crop=4, flip=True)


def _windows(padded: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """A window (C, H, W) of each image of (B, C, H + 2n, W + 2n), at one of (2n + 1)^2 places."""
    batch, _, height, width = padded.shape
    top, left = torch.randint(2 * n + 1, (2, batch), generator=generator, device="cpu").to(
        padded.device
    )
    # All windows as a view; only the chosen ones are copied.
    views = padded.unfold(2, height - 2 * n, 1).unfold(3, width - 2 * n, 1)
    return views[torch.arange(batch, device=padded.device), :, top, left]


def _stretch(x: Tensor, axis: int, length: int, generator: torch.Generator) -> Tensor:
    """The mask of `length` neighbouring rows (axis 2) or columns (axis 3) for each image.

    Broadcast against `x`.
    """
    size = x.shape[axis]
    first = torch.randint(size - length + 1, (len(x), 1), generator=generator, device="cpu").to(
        x.device
    )
    place = torch.arange(size, device=x.device)
    mask = (place >= first) & (place < first + length)
    return mask[:, None, :, None] if axis == 2 else mask[:, None, None, :]
